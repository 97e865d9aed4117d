"""Figures of pictures: how sharp one is, and how like another.

All that is added up are whole numbers, so that a figure is the same on every processor.
"""

from __future__ import annotations

from math import log10, sqrt
from typing import Any, Final

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media.planes import read_plane

Array = NDArray[Any]

#: of pictures that are the same, dB
MOST_XPSNR_DB: Final = 100.0

#: lines worked on at once: what they need lies in the processor's cache
_BAND_LINES: Final = 32
#: pixels whose sharpness is asked for: of larger pictures, those of bands that are evenly spread
_SHARP_PIXELS: Final = 400_000
#: SSIM's window is twice as wide and high, and moves by so much
_STEP: Final = 4
_WINDOW_PIXELS: Final = 4 * _STEP * _STEP
_K1: Final = 0.01
_K2: Final = 0.03
#: what sums of fractions are made whole numbers by
_ONE: Final = 1 << 30
#: XPSNR's picture of reference, and pixels a side of its blocks there
_UHD_PIXELS: Final = 3840 * 2160
_UHD_BLOCK: Final = 128
_LEAST_BLOCK: Final = 4
_WEIGHT_ONE: Final = 1 << 20
#: variance of the Laplacian of white noise of variance 1: 1 + 1 + 1 + 1 + 16
_NOISE_GAIN: Final = 20


def luma_of(frame: VideoFrame) -> tuple[Array, int]:
    """Give the luma's samples and their bits; of RGB and packed pixels after a conversion."""
    if frame.format.name.startswith(("yuv", "gray", "nv")) and frame.format.name not in _PACKED:
        return read_plane(frame, 0), frame.format.components[0].bits
    bits = max((component.bits for component in frame.format.components), default=8)
    planar = frame.reformat(format="yuv444p10le" if bits > 8 else "yuv444p")
    return read_plane(planar, 0).copy(), planar.format.components[0].bits


#: their luma is not a plane
_PACKED: Final = frozenset({"yuyv422", "yuv444"})


def laplacian_square(luma: Array, bits: int) -> float:
    """Give the mean square of the luma's Laplacian in code values of 255.

    It tells how sharp a picture is: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    total, count = 0, 0
    tops = range(1, luma.shape[0] - 1, _BAND_LINES)
    for top in tops[:: max(1, round(luma.size / _SHARP_PIXELS))]:
        rows = luma[top - 1 : min(top + _BAND_LINES, luma.shape[0] - 1) + 1].astype(np.int32)
        laplacian = rows[:-2, 1:-1] + rows[2:, 1:-1] + rows[1:-1, :-2] + rows[1:-1, 2:] - 4 * rows[1:-1, 1:-1]
        total += int(np.square(laplacian).sum(dtype=np.int64))
        count += laplacian.size
    return total / (count << 2 * (bits - 8)) if count else 0.0


def sharpness(mean_square: float, sigma: float) -> float:
    """Give the root of a `laplacian_square` without what noise adds to it, rounded to hundredths.

    Args:
        mean_square: of the picture's Laplacian.
        sigma: of its noise, which is taken for white.
    """
    return round(sqrt(max(0.0, mean_square - _NOISE_GAIN * sigma * sigma)), 2)


def ssim(one: Array, other: Array, bits: int) -> float:
    """Give the structural similarity of two pictures of one size: the mean over windows of 8x8, every four pixels.

    Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", 2004. Pictures smaller than a window are compared as one.
    """
    peak = (1 << bits) - 1
    lines, columns = (side // _STEP * _STEP for side in one.shape)
    total, count = 0, 0
    for top in range(0, lines - _STEP, _BAND_LINES):
        rows = slice(top, min(top + _BAND_LINES + _STEP, lines))
        windows = _similarities(
            one[rows, :columns].astype(np.int32), other[rows, :columns].astype(np.int32), peak
        )
        total += int(np.rint(windows * _ONE).astype(np.int64).sum())
        count += windows.size
    if count:
        return total / (count * _ONE)
    old, new = one.astype(np.int64).reshape(1, -1), other.astype(np.int64).reshape(1, -1)
    squares, products = (old * old + new * new).sum(axis=1), (old * new).sum(axis=1)
    return float(_similarity(old.sum(axis=1), new.sum(axis=1), squares, products, one.size, peak)[0])


def _similarities(one: Array, other: Array, peak: int) -> Array:
    squares, products = _sums(one * one + other * other), _sums(one * other)
    return _similarity(_sums(one), _sums(other), squares, products, _WINDOW_PIXELS, peak)


def _similarity(
    first: Array, second: Array, squares: Array, products: Array, pixels: int, peak: int
) -> Array:
    """Give the similarity in windows.

    Args:
        first: sum of one picture's samples in each.
        second: of the other's.
        squares: sum of both pictures' squares.
        products: sum of one's times the other's.
        pixels: of a window.
        peak: the largest sample.
    """
    spread = squares * pixels - first * first - second * second
    together = products * pixels - first * second
    c1, c2 = ((k * peak * pixels) ** 2 for k in (_K1, _K2))
    similarity: Array = ((2 * first * second + c1) * (2 * together + c2)) / (
        (first * first + second * second + c1) * (spread + c2)
    )
    return similarity


def _sums(values: Array) -> Array:
    """Give the sums over windows."""
    lines = values[::_STEP] + values[1::_STEP] + values[2::_STEP] + values[3::_STEP]
    parts = lines[:, ::_STEP] + lines[:, 1::_STEP] + lines[:, 2::_STEP] + lines[:, 3::_STEP]
    sums: Array = parts[:-1, :-1] + parts[1:, :-1] + parts[:-1, 1:] + parts[1:, 1:]
    return sums.astype(np.int64)


def xpsnr_db(original: Array, coded: Array, bits: int) -> float:
    """Give the perceptually weighted PSNR of a coded picture, in dB: errors count less where the original is busy.

    C. R. Helmrich, M. Siekmann, S. Becker, S. Bosse, D. Marpe, T. Wiegand, "XPSNR: a low-complexity extension of the
    perceptually weighted peak signal-to-noise ratio for high-resolution video quality assessment", ICASSP 2020; with the
    spatial weights alone, since frames are sampled and have no neighbours, and at full resolution.
    """
    lines, columns = original.shape
    share = lines * columns / _UHD_PIXELS
    side = 4 * int(_UHD_BLOCK / 4 * sqrt(share) + 0.5)
    peak = (1 << bits) - 1
    if side < _LEAST_BLOCK:
        errors = original.astype(np.int32) - coded
        weighted = int(np.square(errors).sum(dtype=np.int64)) * _WEIGHT_ONE
    else:
        usual = sqrt(16.0 * 2.0 ** (2 * bits - 9) / sqrt(share))
        weighted = sum(_weighted(original, coded, top, side, usual, bits) for top in range(0, lines, side))
    if not weighted:
        return MOST_XPSNR_DB
    ratio = peak * peak * lines * columns * _WEIGHT_ONE / weighted
    return min(MOST_XPSNR_DB, 10 * log10(ratio))


def _weighted(original: Array, coded: Array, top: int, side: int, usual: float, bits: int) -> int:
    """Give the squared errors of a row of blocks, each block's times its weight.

    Args:
        original: the picture.
        coded: likewise.
        top: the row's first line.
        side: of a block, in pixels.
        usual: how busy pictures are.
        bits: of a sample.
    """
    (lines, columns), starts = original.shape, np.arange(0, original.shape[1], side)
    squares, busy = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    # The high-pass looks at neighbours on all sides, so it leaves out the picture's own edge.
    first, last = max(top, 1), min(top + side, lines - 1)
    for start in range(top, min(top + side, lines), _BAND_LINES):
        end = min(start + _BAND_LINES, top + side, lines)
        squares += np.square(original[start:end].astype(np.int32) - coded[start:end]).sum(
            axis=0, dtype=np.int64
        )
        inner = slice(max(start, first), min(end, last))
        if inner.start < inner.stop:
            busy[1:-1] += _high_passed(original[inner.start - 1 : inner.stop + 1].astype(np.int32))
    widths = np.add.reduceat(np.r_[0, np.ones(max(0, columns - 2), np.int64), 0][:columns], starts)
    areas = np.maximum(1, widths * max(0, last - first))
    activity = np.maximum(np.add.reduceat(busy, starts) / areas, 2.0 ** (bits - 6))
    weights = np.rint(usual / activity * _WEIGHT_ONE).astype(np.int64)
    errors = np.add.reduceat(squares, starts)
    return sum(error * weight for error, weight in zip(errors.tolist(), weights.tolist(), strict=True))


def _high_passed(rows: Array) -> Array:
    """Give the sums over columns of what the paper's high-pass leaves of all pixels but those of the edge."""
    beside, middle = rows[:-2] + rows[2:], rows[1:-1]
    around = 2 * (beside[:, 1:-1] + middle[:, :-2] + middle[:, 2:]) + beside[:, :-2] + beside[:, 2:]
    sums: Array = np.abs(12 * middle[:, 1:-1] - around).sum(axis=0, dtype=np.int64)
    return sums
