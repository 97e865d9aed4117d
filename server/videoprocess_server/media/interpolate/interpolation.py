"""Makes up the picture at a time between two frames, of 8 to 16 bits, with integers only: the same bits on every machine.

Each place is taken from both frames along its motion (media/interpolate/block_motion.py), in blocks that overlap (M. T. Orchard, G. J. Sullivan,
"Overlapped block motion compensation", 1994), to half a pixel. Where what the motion finds in both frames does not agree (something
is covered, or moves otherwise than in blocks), the picture fades to the mean of both frames, which looks soft and not torn. A cut has
no picture between its frames: there the nearer frame is shown again.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.interpolate.block_motion import (
    CELL,
    Motion,
    Vectors,
    cells,
    differences,
    estimate_motion,
)
from videoprocess_server.media.planes import read_plane, write_plane

#: mean difference after the motion, in code values of 255, from which two frames are of two scenes
CUT_RESIDUAL: Final = 12
#: lines and columns that planes are continued by
_MARGIN: Final = 80
#: more that the filter between pixels needs
_TAPS: Final = 2
#: of shares
_ONE: Final = 256
_HALF_PIXELS: Final = 2
_EIGHT: Final = 8

Plane = NDArray[Any]


def can_interpolate(pixel_format: str) -> bool:
    """Whether each component of a pixel format is a plane of integers of its own."""
    described = VideoFormat(pixel_format)
    planes = len(VideoFrame(CELL, CELL, pixel_format).planes)
    bits = {component.bits for component in described.components}
    return planes == len(described.components) and len(bits) == 1 and bits <= set(range(_EIGHT, 17))


@dataclass(frozen=True)
class Picture:
    """A frame's samples, its own copy."""

    frame: VideoFrame
    planes: tuple[Plane, ...]

    @staticmethod
    def of(frame: VideoFrame) -> Picture:
        """Copy a frame."""
        return Picture(frame, tuple(read_plane(frame, index).copy() for index in range(len(frame.planes))))

    @property
    def bits(self) -> int:
        """Of a sample."""
        return self.frame.format.components[0].bits


class Interpolator:
    """Makes pictures between neighbours; remembers what it found out of the last two frames."""

    def __init__(self) -> None:
        self._pair: _Pair | None = None

    def between(self, earlier: Picture, later: Picture, fraction: Fraction) -> VideoFrame:
        """Make a picture.

        Args:
            earlier: frame.
            later: the next one, of the same size and format.
            fraction: of the time from the one to the other, above 0 and below 1.

        Raises:
            MediaFault: ENCODE_FAILED where the frames are not of one kind or of a kind that is not interpolated.
        """
        if self._pair is None or self._pair.earlier is not earlier or self._pair.later is not later:
            self._pair = _Pair(earlier, later)
        return self._pair.at(fraction)


class _Pair:
    """Two neighbours."""

    def __init__(self, earlier: Picture, later: Picture) -> None:
        kinds = {(each.frame.width, each.frame.height, each.frame.format.name) for each in (earlier, later)}
        if len(kinds) > 1 or not can_interpolate(earlier.frame.format.name):
            raise MediaFault("ENCODE_FAILED", "Pictures of such a kind are not interpolated.")
        self.earlier, self.later = earlier, later
        self._shift = earlier.bits - _EIGHT
        self._motion: Motion | None = None
        self._halves: list[tuple[_HalfPixels, _HalfPixels]] = []

    def at(self, fraction: Fraction) -> VideoFrame:
        """Make the picture at a fraction of the time between them."""
        if self._motion is None:
            self._motion = estimate_motion(self._eight_bits(self.earlier), self._eight_bits(self.later))
        if self._motion.residual >= CUT_RESIDUAL:
            nearer = self.earlier if fraction < Fraction(1, 2) else self.later
            return _frame_of(nearer.planes, nearer.frame)
        if not self._halves:
            self._halves = [
                (_HalfPixels(one), _HalfPixels(other))
                for one, other in zip(self.earlier.planes, self.later.planes, strict=True)
            ]
        back, on = _offsets(self._motion.vectors, fraction)
        share = round(fraction * _ONE)
        believed: Plane | None = None
        made = []
        for index, (one, other) in enumerate(zip(self.earlier.planes, self.later.planes, strict=True)):
            cell, offsets = self._scaled(index, back, on)
            first = self._halves[index][0].moved(offsets[0], cell)
            second = self._halves[index][1].moved(offsets[1], cell)
            if believed is None:
                believed = _belief(first, second, one, other, self._shift)
            down, across = CELL // cell[0], CELL // cell[1]
            trust = believed[::down, ::across][: one.shape[0], : one.shape[1]]
            made.append(_mixed(first, second, one, other, share, trust))
        return _frame_of(tuple(made), self.earlier.frame)

    def _eight_bits(self, picture: Picture) -> NDArray[np.uint8]:
        return (picture.planes[0] >> self._shift).astype(np.uint8)

    def _scaled(
        self, index: int, back: Vectors, on: Vectors
    ) -> tuple[tuple[int, int], tuple[Vectors, Vectors]]:
        """Cells and offsets in a plane's own pixels, which may be coarser than the picture's."""
        height, width = self.earlier.planes[0].shape
        lines, columns = self.earlier.planes[index].shape
        coarser = np.array((-(-height // lines), -(-width // columns)), np.int32)
        cell = (CELL // int(coarser[0]), CELL // int(coarser[1]))
        return cell, (back // coarser, on // coarser)


def _offsets(vectors: Vectors, fraction: Fraction) -> tuple[Vectors, Vectors]:
    """Where the blocks of a time come from in the earlier and the later frame, in half pixels.

    The vectors are those of the middle of the time; what is at a block at another time is in the middle elsewhere.
    """
    wide = vectors.astype(np.int64)
    numerator, denominator = fraction.numerator, fraction.denominator
    if fraction != Fraction(1, 2):
        ahead = denominator - 2 * numerator  # of the doubled denominator, until the middle
        rows, columns = np.indices(vectors.shape[:2])
        cell = 2 * denominator * CELL
        y = rows + (wide[..., 0] * ahead + cell // 2) // cell
        x = columns + (wide[..., 1] * ahead + cell // 2) // cell
        wide = wide[np.clip(y, 0, rows.max()), np.clip(x, 0, columns.max())]
    back = -((2 * wide * _HALF_PIXELS * numerator + denominator) // (2 * denominator))
    return back.astype(np.int32), (wide * _HALF_PIXELS + back).astype(np.int32)


class _HalfPixels:
    """A plane and what lies between its samples, by the filter -1 9 9 -1."""

    def __init__(self, plane: Plane) -> None:
        kind = np.int16 if plane.dtype == np.uint8 else np.int32
        grown = np.pad(plane, _MARGIN + _TAPS, mode="edge").astype(kind)
        most = np.iinfo(plane.dtype).max
        self._shape = plane.shape
        across = _between_lines(grown.T, most).T
        down, both = _between_lines(grown, most), _between_lines(across, most)
        # The value after sample k is in place k - 1: the first two taps come before it.
        start, height, width = _TAPS - 1, plane.shape[0] + 2 * _MARGIN, plane.shape[1] + 2 * _MARGIN
        self._phases = np.stack(
            [
                grown[_TAPS : _TAPS + height, _TAPS : _TAPS + width],
                across[_TAPS : _TAPS + height, start : start + width],
                down[start : start + height, _TAPS : _TAPS + width],
                both[start : start + height, start : start + width],
            ]
        ).astype(plane.dtype)

    def moved(self, offsets: Vectors, cell: tuple[int, int]) -> Plane:
        """Give the plane with each block taken from elsewhere; blocks overlap by half and fade into each other.

        Args:
            offsets: of the blocks, in half pixels.
            cell: lines and columns of a block.
        """
        _, height, width = self._phases.shape
        around = np.pad(offsets, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows, columns = around.shape[:2]
        down, across = np.indices((rows, columns))
        window = (2 * cell[0], 2 * cell[1])
        # The first block lies before the picture, its window half a block further.
        y = (down - 1) * cell[0] - cell[0] // 2 + (around[..., 0] >> 1) + _MARGIN
        x = (across - 1) * cell[1] - cell[1] // 2 + (around[..., 1] >> 1) + _MARGIN
        y, x = np.clip(y, 0, height - window[0]), np.clip(x, 0, width - window[1])
        phase = (around[..., 0] & 1) * 2 + (around[..., 1] & 1)
        places = (phase * (height * width) + y * width + x).ravel()
        samples = self._phases.ravel()
        kind = np.uint16 if self._phases.dtype == np.uint8 else np.uint32
        total = np.zeros((*cell, rows + 1, columns + 1), kind)
        weights = [_weights(length) for length in window]
        for line in range(window[0]):
            for column in range(window[1]):
                taken = samples[line * width + column :].take(places, mode="clip").reshape(rows, columns)
                top, left = line // cell[0], column // cell[1]
                into = total[line % cell[0], column % cell[1]]
                into[top : top + rows, left : left + columns] += taken * kind(
                    weights[0][line] * weights[1][column]
                )
        picture = total.transpose(2, 0, 3, 1).reshape((rows + 1) * cell[0], (columns + 1) * cell[1])
        top, left = cell[0] + cell[0] // 2, cell[1] + cell[1] // 2
        shown = picture[top : top + self._shape[0], left : left + self._shape[1]].astype(np.uint32)
        whole = window[0] * window[1]
        moved: Plane = ((shown + whole // 2) // whole).astype(self._phases.dtype)
        return moved


def _weights(length: int) -> list[int]:
    """Rise and fall of a window; two that overlap by half add up to `length`."""
    return [2 * min(place, length - 1 - place) + 1 for place in range(length)]


def _between_lines(values: Plane, most: int) -> Plane:
    """Give what is between each two lines."""
    nine = values.dtype.type(9)
    total = nine * (values[1:-2] + values[2:-1]) - values[:-3] - values[3:]
    between: Plane = np.clip((total + values.dtype.type(8)) >> 4, 0, most)
    return between


def _belief(first: Plane, second: Plane, one: Plane, other: Plane, shift: int) -> Plane:
    """Share of the moved pictures in each pixel, of `_ONE`: what agrees better than the unmoved frames is believed."""
    after, before = (
        _of_cells((differences(*pair) >> shift).astype(np.uint32)) for pair in ((first, second), (one, other))
    )
    nothing = (3 * CELL) ** 2
    good, bad = before * before + nothing * nothing, after * after + nothing * nothing
    share = (good * _ONE + (good + bad) // 2) // (good + bad)
    return _stretched(_stretched(share.astype(np.uint32)).T).T


def _of_cells(values: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Add up the values of each cell and of the eight around it."""
    rows, columns = (cells(length, CELL) for length in values.shape)
    missing = [(0, rows * CELL - values.shape[0]), (0, columns * CELL - values.shape[1])]
    lines = (
        np.pad(values, missing, mode="edge").reshape(rows, CELL, columns * CELL).sum(axis=1, dtype=np.uint32)
    )
    grown = np.pad(lines.reshape(rows, columns, CELL).sum(axis=2, dtype=np.int64), 1, mode="edge")
    summed = grown[:-2] + grown[1:-1] + grown[2:]
    total: NDArray[np.int64] = summed[:, :-2] + summed[:, 1:-1] + summed[:, 2:]
    return total


def _stretched(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Make `CELL` lines of one, even transitions between the middles of the cells."""
    grown = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    whole = 2 * CELL
    made = np.empty((values.shape[0], CELL, values.shape[1]), np.uint32)
    for line in range(CELL):
        place = 2 * line + 1 - CELL  # of the middle, in halves of a line
        beside = grown[:-2] if place < 0 else grown[2:]
        made[:, line] = (
            values * np.uint32(whole - abs(place)) + beside * np.uint32(abs(place)) + CELL
        ) // whole
    return made.reshape(-1, values.shape[1])


def _mixed(first: Plane, second: Plane, one: Plane, other: Plane, share: int, trust: Plane) -> Plane:
    """Mix moved pictures by time, unmoved frames by time, and both by trust."""
    early, late = np.uint32(_ONE - share), np.uint32(share)
    moved, still = _shared(first, second, early, late), _shared(one, other, early, late)
    return _shared(moved, still, trust, np.uint32(_ONE) - trust).astype(one.dtype)


def _shared(one: Plane, other: Plane, ones: Any, others: Any) -> Plane:  # noqa: ANN401  a share, or one a pixel
    """Mix two planes by shares that add up to `_ONE`."""
    total: Plane = one * ones + other * others + np.uint32(_ONE // 2)
    return total // np.uint32(_ONE)


def _frame_of(planes: tuple[Plane, ...], like: VideoFrame) -> VideoFrame:
    """Make a frame with the colours of another."""
    frame = VideoFrame(like.width, like.height, like.format.name)
    for index, plane in enumerate(planes):
        write_plane(frame, index, plane)
    frame.color_primaries, frame.color_trc = like.color_primaries, like.color_trc
    frame.colorspace, frame.color_range = like.colorspace, like.color_range
    return frame
