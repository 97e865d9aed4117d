"""Makes the colours of a video's frame those that readers of JPEG expect: sRGB, coded by BT.601 in full range.

All is computed with integers (see colour_tables.py), so that pixels do not depend on the processor. What was HDR is SDR already
(tone_mapping/).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media import colour_tables as tables
from videoprocess_server.media.colour_arrays import Array, Colours, to_srgb
from videoprocess_server.media.planes import read_plane, write_plane
from videoprocess_server.model.media_info import Colour

#: of what `map_to_jpeg` takes and gives
PIXEL_FORMATS: Final = {8: "yuv444p", 10: "yuv444p10le"}
JPEG_PIXEL_FORMAT: Final = "yuv420p"
#: of what it gives: sRGB by BT.601, full range
JPEG_COLOUR: Final = Colour(primaries=1, transfer=13, matrix=5, range=2)

_FULL_RANGE: Final = 2
#: lines worked on at once, an even number: bounds memory
_BAND_LINES: Final = 64
#: bits behind the point of the matrices
_SHIFT: Final = 16
_HALF: Final = 1 << (_SHIFT - 1)


def map_to_jpeg(frame: VideoFrame, colour: Colour) -> VideoFrame:
    """Give a picture of the same size for a JPEG.

    Args:
        frame: one of `PIXEL_FORMATS`.
        colour: of the frame, one of SDR.
    """
    made = VideoFrame(frame.width, frame.height, JPEG_PIXEL_FORMAT)
    made.pts = frame.pts
    if frame.time_base is not None:
        made.time_base = frame.time_base
    made.color_range = JPEG_COLOUR.range
    to_rgb = _Decode(colour, frame.format.components[0].bits)
    source = [read_plane(frame, index) for index in range(3)]
    luma, chroma = np.empty((frame.height, frame.width), np.uint8), _halves(frame)
    for top in range(0, frame.height, _BAND_LINES):
        lines = slice(top, top + _BAND_LINES)
        colours = to_rgb(*(plane[lines].astype(np.int64) for plane in source))
        y, cb, cr = _encode(to_srgb(colours, colour))
        luma[lines] = y
        halved = slice(top // 2, (top + _BAND_LINES) // 2)
        chroma[0][halved], chroma[1][halved] = cb, cr
    for index, values in enumerate((luma, *chroma)):
        write_plane(made, index, values)
    return made


class _Decode:
    """Luma and colour differences → red, green and blue, as signals."""

    def __init__(self, colour: Colour, bits: int) -> None:
        red, green, blue = tables.luma_shares(colour.matrix)
        full = colour.range == _FULL_RANGE
        self._black = 0 if full else 16 << (bits - 8)
        self._middle = 1 << (bits - 1)
        luma_steps = (1 << bits) - 1 if full else 219 << (bits - 8)
        chroma_steps = (1 << bits) - 1 if full else 224 << (bits - 8)
        one = tables.SIGNAL_MAX << _SHIFT
        self._luma = round(one / luma_steps)
        self._red_of_cr = round(2 * (1 - red) * one / chroma_steps)
        self._blue_of_cb = round(2 * (1 - blue) * one / chroma_steps)
        self._green_of_cr = round(2 * (1 - red) * red / green * one / chroma_steps)
        self._green_of_cb = round(2 * (1 - blue) * blue / green * one / chroma_steps)

    def __call__(self, y: Array, cb: Array, cr: Array) -> Colours:
        luma = (y - self._black) * self._luma + _HALF
        cb, cr = cb - self._middle, cr - self._middle
        return (
            _signal(luma + cr * self._red_of_cr),
            _signal(luma - cb * self._green_of_cb - cr * self._green_of_cr),
            _signal(luma + cb * self._blue_of_cb),
        )


def _signal(values: Array) -> Array:
    signal: Array = np.clip(values >> _SHIFT, 0, tables.SIGNAL_MAX)
    return signal


def _encode(colours: Colours) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Give luma, and the colour differences at half the size, each in 8 bits of full range."""
    shares = tables.luma_shares(JPEG_COLOUR.matrix)
    red, green, blue = colours
    scale = 255 * (1 << 24) / tables.SIGNAL_MAX
    kr, kg, kb = (round(float(share) * scale) for share in shares)
    y = (red * kr + green * kg + blue * kb + (1 << 23)) >> 24
    return (
        y.astype(np.uint8),
        _difference(blue, (red, green), (shares[0], shares[1]), float(1 - shares[2])),
        _difference(red, (green, blue), (shares[1], shares[2]), float(1 - shares[0])),
    )


def _difference(
    own: Array, others: tuple[Array, Array], shares: tuple[Any, Any], rest: float
) -> NDArray[Any]:
    """Give (own - luma) / (2 · rest), the middle of four pixels: where JPEG's readers take it to be."""
    scale = 255 * (1 << 24) / tables.SIGNAL_MAX / (2 * rest)
    first, second = (round(float(share) * scale) for share in shares)
    sums = _quads(own) * (first + second) - _quads(others[0]) * first - _quads(others[1]) * second
    difference: NDArray[np.uint8] = np.clip((sums + (1 << 25) >> 26) + 128, 0, 255).astype(np.uint8)
    return difference


def _quads(values: Array) -> Array:
    """Sums of two by two pixels; the last line and column count twice where they are alone."""
    lines, columns = values.shape
    even = np.pad(values, ((0, lines % 2), (0, columns % 2)), mode="edge")
    total: Array = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return total


def _halves(frame: VideoFrame) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    shape = ((frame.height + 1) // 2, (frame.width + 1) // 2)
    return np.empty(shape, np.uint8), np.empty(shape, np.uint8)
