"""FFmpeg's unsharp mask for luma of 8 bits, the very same samples in a quarter of its time: there it has no vector instructions.

What is added is the difference to a blurred picture (libavfilter/unsharp_template.c): binomial weights 1 4 6 4 1 both ways, edges
repeated, and whole numbers throughout, so that it is the same on every processor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media.copies import SampleCopier
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.planes import read_plane

#: arguments that every stage has: five samples both ways, and chroma as it is
_SHAPE: Final = {"lx": "5", "ly": "5", "ca": "0"}
#: samples on each side that the blur looks at
_REACH: Final = 2
#: sums of two neighbours that make the weights 1 4 6 4 1
_SUMS: Final = 2 * _REACH
#: bits of the sum of all weights, 16 x 16, and half of it
_WEIGHT_BITS: Final = 8
_HALF: Final = 1 << (_WEIGHT_BITS - 1)
_AMOUNT_BITS: Final = 16
#: samples that are worked on at once, so that they stay in a processor's cache
_STRIP: Final = 120_000


class Unsharp:
    """The filter "unsharp".

    Args:
        first: a frame like all that will come.
        arguments: FFmpeg's, "lx", "ly" and "ca" as in `_SHAPE`; "la": what is added, a share of the difference, 0 to 1.
        time_base: of the frames.

    Raises:
        MediaFault: ENCODE_FAILED, the samples have more than 8 bits, or another shape is asked for.
    """

    def __init__(self, first: VideoFrame, arguments: Mapping[str, str], time_base: Fraction) -> None:
        shape = dict(arguments)
        amount = float(shape.pop("la", "0"))
        if shape != _SHAPE or not 0 <= amount <= 1 or first.format.components[0].bits != _WEIGHT_BITS:
            raise MediaFault(
                "ENCODE_FAILED", f"Pictures of {first.format.name} cannot be sharpened like that."
            )
        self._copier = SampleCopier(time_base)
        self._mask = _Mask(first.width, first.height, int(amount * (1 << _AMOUNT_BITS)))

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give it a frame and take the sharpened one."""
        if frame is None:
            return
        made = self._copier.copy(frame)
        self._mask.sharpen(read_plane(frame, 0), read_plane(made, 0))
        yield made


class _Mask:
    """Sharpens planes of one size, in strips of rows with a margin around, whose rows lie one behind the other.

    A sum of neighbours is then one call for a whole strip. What it adds up across the ends of rows is in the margin.
    """

    def __init__(self, width: int, height: int, amount: int) -> None:
        self._width, self._height, self._amount = width, height, amount
        self._stride = width + 2 * _REACH
        self._rows = min(height, max(1, _STRIP // self._stride))
        samples = self._stride * (self._rows + 2 * _REACH)
        self._samples = np.zeros(samples, np.int16)
        self._sums = np.zeros(samples, np.uint16), np.zeros(samples, np.uint16)
        self._difference = np.zeros(self._stride * self._rows, np.int16)
        self._product = np.zeros(self._stride * self._rows, np.int32)

    def sharpen(self, plane: NDArray[np.uint8], made: NDArray[np.uint8]) -> None:
        """Write the sharpened samples of a plane into another."""
        for top in range(0, self._height, self._rows):
            rows = min(self._rows, self._height - top)
            self._take(plane, top, rows)
            self._add_sharpness(rows)
            lines = self._difference.reshape(self._rows, self._stride)
            made[top : top + rows] = lines[:rows, : self._width]

    def _take(self, plane: NDArray[np.uint8], top: int, rows: int) -> None:
        """Take a strip, and around it the samples next to it, or the last ones of the picture again."""
        lines = self._samples.reshape(-1, self._stride)
        first, last = max(0, top - _REACH), min(self._height, top + rows + _REACH)
        begin, end = first - top + _REACH, last - top + _REACH
        inside = slice(_REACH, _REACH + self._width)
        lines[begin:end, inside] = plane[first:last]
        lines[:begin, inside] = lines[begin, inside]
        lines[end : rows + 2 * _REACH, inside] = lines[end - 1, inside]
        lines[:, :_REACH] = lines[:, _REACH, None]
        lines[:, inside.stop :] = lines[:, inside.stop - 1, None]

    def _add_sharpness(self, rows: int) -> None:
        """Make the sharpened samples of the strip, in the differences' memory."""
        count = rows * self._stride - 2 * _REACH
        blurred = self._blurred(rows, count)
        centre = _REACH * self._stride + _REACH
        samples = self._samples[centre : centre + count]
        difference, product = self._difference[:count], self._product[:count]
        np.subtract(samples, blurred, out=difference)
        np.copyto(product, difference)
        product *= self._amount
        product >>= _AMOUNT_BITS
        np.copyto(difference, product, casting="unsafe")
        difference += samples
        np.clip(difference, 0, 255, out=difference)

    def _blurred(self, rows: int, count: int) -> NDArray[np.int16]:
        """Give the weighted means, rounded, where each block of weights begins."""
        length = (rows + 2 * _REACH) * self._stride
        before: NDArray[np.uint16] = self._samples.view(np.uint16)
        for number, step in enumerate((*(1,) * _SUMS, *(self._stride,) * _SUMS)):
            length -= step
            after = self._sums[number % 2]
            np.add(before[:length], before[step : step + length], out=after[:length])
            before = after
        means = before[:count]
        means += _HALF
        means >>= _WEIGHT_BITS
        return means.view(np.int16)
