"""How strong the noise of a plane is, by its blocks; in whole numbers, so that an estimate is the same on every processor.

After N. Ponomarenko, V. Lukin, M. Zriakhov, A. Kaarna, J. Astola, "An automatic approach to lossy compression of AVIRIS
images", IGARSS 2007: of all 8x8 blocks those with the least energy at low and middle frequencies of the DCT show next to
no picture, and what they hold at high frequencies is noise. White noise is independent between the two sets of
coefficients, so choosing blocks by the one leaves the estimate of the other unbiased. Blocks near black or white are
left out (clipping narrows their noise), and blocks without any variation (letterbox, graphics, skipped blocks). Where
these are more than a few of what is neither black nor white, what looks like noise are the edges of graphics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: pixels a side of a block
_SIDE: Final = 8
#: blocks looked at per plane and frame, evenly spread: bounds memory and time whatever the size of the picture
MOST_BLOCKS: Final = 16_384
#: share of the blocks taken for quiet, and the least number that makes an estimate
_QUIET_SHARE: Final = 0.05
_FEWEST_BLOCKS: Final = 30
#: code values of 255 that a block's mean keeps from black and white, and its multiple of the noise found first
_MARGIN: Final = 24.0
_MARGIN_SIGMAS: Final = 3.0
_MOST_MARGIN: Final = 96.0
#: code values of 255 between which a block is neither letterbox nor clipped; the share of flat ones among such that noise
#: does not leave (noise of 5 to 20, encoded at crf 23 and 28: 0.001 at most; a timer's figures: 0.25), and the most noise
#: that is believed where there are more
_BETWEEN: Final = (20.0, 250.0)
_FLAT_SHARE: Final = 0.05
_MOST_BESIDE_FLAT: Final = 1.0

_ROWS, _COLUMNS = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE), indexing="ij")
#: the DCT of H.265 (ITU-T H.265 8.6.4.2), a frequency a row: of whole numbers, and all rows but the first add up to exactly 0
_ROW_DCT: Final = np.array(
    [
        [64, 64, 64, 64, 64, 64, 64, 64],
        [89, 75, 50, 18, -18, -50, -75, -89],
        [83, 36, -36, -83, -83, -36, 36, 83],
        [75, -18, -89, -50, 50, 89, 18, -75],
        [64, -64, -64, 64, 64, -64, -64, 64],
        [50, -89, 18, 75, -75, -18, 89, -50],
        [36, -83, 83, -36, -36, 83, -83, 36],
        [18, -50, 75, -89, 89, -75, 50, -18],
    ]
)
#: the DCT of a whole block, for blocks as rows of a matrix. Sums of products stay below 2^53 and are exact in whatever order a
#: processor adds them: estimates decide pixels, and must be the same everywhere
_DCT: Final = np.kron(_ROW_DCT, _ROW_DCT).T.astype(np.float64)
#: what makes code values of 255 whole numbers, up to 12 bits, and what the DCT enlarges its coefficients by
_WHOLE: Final = 16
_DCT_GAIN: Final = 1 << 15
#: its columns that tell picture, without the mean, and those that tell noise
_PICTURE: Final = np.ascontiguousarray(_DCT[:, ((_ROWS + _COLUMNS >= 1) & (_ROWS + _COLUMNS <= 5)).ravel()])
_NOISE: Final = np.ascontiguousarray(_DCT[:, (_ROWS + _COLUMNS >= 8).ravel()])
#: blocks that are transformed at once: they lie in the processor's cache
_AT_ONCE: Final = 1024

#: ranges of brightness that noise is measured in for itself, and of how many of them a curve needs, how far apart
_LEVELS: Final = 8
_FEWEST_LEVELS: Final = 3
_LEAST_SPAN: Final = 48.0
#: by how much the variance at black and white may differ from that of the plane: more is not believed
_LEAST_SHARE: Final = 0.1
_MOST_SHARE: Final = 4.0


class PlaneBlocks:
    """The blocks of a plane and what their noise tells.

    Args:
        values: samples, rows by columns.
        most_blocks: that are looked at.
        scale: how many of a sample's steps are a code value of 255.
    """

    def __init__(self, values: NDArray[Any], most_blocks: int = MOST_BLOCKS, scale: float = 1.0) -> None:
        self._blocks = _blocks(values, most_blocks)
        self._gain = _WHOLE / scale
        count = len(self._blocks)
        self._means = np.empty(count)
        self._varied = np.empty(count, np.bool_)
        self._picture = np.empty(count, np.int64)
        for begin in range(0, count, _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            blocks = self._whole(part)
            sums, squares = blocks.sum(axis=1), np.einsum("ij,ij->i", blocks, blocks)
            self._means[part] = sums / (_SIDE * _SIDE * _WHOLE)
            self._varied[part] = squares * (_SIDE * _SIDE) != sums * sums
            self._picture[part] = _energy(blocks)
        self.sigma = self._estimate()

    def _whole(self, which: slice | NDArray[np.intp]) -> NDArray[np.float64]:
        """Some blocks, of whole numbers."""
        return self._blocks[which].astype(np.float64) * self._gain

    def _estimate(self) -> float:
        sigma = self._within(_MARGIN)
        margin = _margin(sigma)
        found = self._within(margin) if margin > _MARGIN else sigma
        return min(found, _MOST_BESIDE_FLAT) if self._has_flat() else found

    def _has_flat(self) -> bool:
        low, high = _BETWEEN
        between = (self._means > low) & (self._means < high)
        flat = np.count_nonzero(between & ~self._varied)
        return int(flat) > _FLAT_SHARE * int(np.count_nonzero(between))

    def _within(self, margin: float) -> float:
        usable = self._usable(margin)
        return self._quiet_sigma(usable) if len(usable) else 0.0

    def _usable(self, margin: float) -> NDArray[np.intp]:
        """Blocks away from black and white that vary; all, where those are too few."""
        usable = np.flatnonzero((self._means > margin) & (self._means < 255 - margin) & self._varied)
        return usable if len(usable) >= _FEWEST_BLOCKS else np.arange(len(self._means))

    def _quiet_sigma(self, blocks: NDArray[np.intp]) -> float:
        """The noise of those blocks that show least picture."""
        quiet = blocks[np.argsort(self._picture[blocks], kind="stable")[: _quiet_count(len(blocks))]]
        return _sigma(self._whole(quiet))

    def change_since(self, before: PlaneBlocks) -> float:
        """The standard deviation of the noise that is another than in the frame before.

        Of the blocks that show least picture those are taken whose difference shows least of it, too: they stand still, or
        what moves is smooth. Blocks that did not change at all count: an encoder that copies a block has frozen its noise.

        Args:
            before: the same plane of the frame before.

        Returns:
            Code values of 255, of one frame; 0 where the plane has no block to judge by.
        """
        usable = before._usable(_margin(before.sigma))
        if not len(usable):
            return 0.0
        count = _quiet_count(len(usable))
        smooth = usable[np.argsort(before._picture[usable], kind="stable")[: 2 * count]]
        change = self._whole(smooth) - before._whole(smooth)
        still = np.argsort(_energy(change), kind="stable")[:count]
        return _sigma(change[still]) / math.sqrt(2)

    def levels(self) -> tuple[float, float] | None:
        """How the noise grows with brightness: a line through the variances of some ranges of brightness.

        After C. Liu, W. Freeman, R. Szeliski, S. B. Kang, "Noise estimation from a single image", CVPR 2006, whose noise level
        function this is, as a line, which it is for a sensor's noise.

        Returns:
            The standard deviation at code value 0 and at 255; None where there are too few brightnesses to tell.
        """
        usable = self._varied & (self._means > _MARGIN) & (self._means < 255 - _MARGIN)
        points = []
        for level in range(_LEVELS):
            low, high = level * 256 / _LEVELS, (level + 1) * 256 / _LEVELS
            here = np.flatnonzero(usable & (self._means >= low) & (self._means < high))
            if len(here) >= 2 * _FEWEST_BLOCKS:
                mean = float(np.median(self._means[here]))
                sigma = self._quiet_sigma(here)
                points.append((mean, sigma * sigma, len(here)))
        return _line(points)


def estimate_plane(values: NDArray[np.float32]) -> float:
    """The standard deviation of the noise of one plane.

    Args:
        values: code values of 255, rows by columns.

    Returns:
        Code values of 255; 0 where the plane has no block to judge by.
    """
    return PlaneBlocks(values).sigma


def _margin(sigma: float) -> float:
    return min(max(_MARGIN, sigma * _MARGIN_SIGMAS), _MOST_MARGIN)


def _quiet_count(blocks: int) -> int:
    return min(blocks, max(_FEWEST_BLOCKS, int(blocks * _QUIET_SHARE)))


def _energy(blocks: NDArray[np.float64]) -> NDArray[np.int64]:
    """How much picture blocks of whole numbers show."""
    coefficients = (blocks @ _PICTURE).astype(np.int64)
    energy: NDArray[np.int64] = np.einsum("ij,ij->i", coefficients, coefficients)
    return energy


def _sigma(blocks: NDArray[np.float64]) -> float:
    """The noise of blocks of whole numbers that show no picture."""
    squares = np.square((blocks @ _NOISE).astype(np.int64)).sum(axis=0)
    return float(np.sqrt(np.median(squares) / len(blocks))) / (_WHOLE * _DCT_GAIN)


def _square(value: float) -> float:
    """A product, which is rounded in one way only; a power is the C library's, which chooses by the processor."""
    return value * value


def _line(points: Sequence[tuple[float, float, int]]) -> tuple[float, float] | None:
    """The deviations at 0 and 255 of the weighted line of least squares through variances."""
    if len(points) < _FEWEST_LEVELS or points[-1][0] - points[0][0] < _LEAST_SPAN:
        return None
    # A variance's own deviation is a share of it: brighter, noisier levels tell less.
    middle = sum(variance for _, variance, _ in points) / len(points)
    if middle <= 0:
        return None
    weights = [math.sqrt(count) / _square(max(variance, middle / 16)) for _, variance, count in points]
    total = sum(weights)
    x = sum(w * mean for w, (mean, _, _) in zip(weights, points, strict=True)) / total
    y = sum(w * variance for w, (_, variance, _) in zip(weights, points, strict=True)) / total
    spread = sum(w * _square(mean - x) for w, (mean, _, _) in zip(weights, points, strict=True))
    slope = (
        sum(w * (mean - x) * variance for w, (mean, variance, _) in zip(weights, points, strict=True))
        / spread
    )
    dark, bright = (
        math.sqrt(min(max(y + slope * (code - x), _LEAST_SHARE * middle), _MOST_SHARE * middle))
        for code in (0, 255)
    )
    return dark, bright


def _blocks(values: NDArray[Any], most_blocks: int) -> NDArray[Any]:
    """The plane's blocks as rows, every nth where they are more than enough."""
    rows, columns = values.shape[0] // _SIDE, values.shape[1] // _SIDE
    whole = values[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE)
    every = max(1, -(-rows * columns // most_blocks))
    row, column = np.divmod(np.arange(0, rows * columns, every), max(1, columns))
    return whole[row, :, column, :].reshape(-1, _SIDE * _SIDE)
