"""Where the parts of a picture move between two frames: block matching, the same integers on every machine.

Blocks lie in the middle of the two frames' time and move as far to the one as to the other (bilateral matching), so that every
place between them has one motion and none is left open. All displacements are tried on a small picture; vectors that
differ from their neighbours' pay for it, and blocks take over neighbours' vectors where that is cheaper (after G. de Haan et al., "True-motion
estimation with 3-D recursive search block matching", 1993, but without its recursion over blocks and time: nothing depends on
frames before). They are refined from small pictures to large ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: pixels of the full picture that a vector stands for, a side
CELL: Final = 8
#: pixels that a small picture's longer side has at most
_SMALLEST_SIDE: Final = 480
#: pixels of the smallest picture that a block may move, each way
_REACH: Final = 12
#: what a vector pays per pixel that it differs from each of its eight neighbours, in code values of 255 summed over its window
_TOP_SMOOTHNESS: Final = 96
_SMOOTHNESS: Final = 16
#: pixels of difference that are paid for at most: an edge between two motions may be sharp
_MOST_DIFFERENCE: Final = 8
#: what the smallest picture's vectors pay per pixel of their length
_LENGTH: Final = 2
#: rounds of taking over vectors
_ROUNDS: Final = 6
#: side of the window that blocks are compared in while they are refined
_WINDOW: Final = 8
#: lines and columns that pictures are continued by
_MARGIN: Final = 80
_AROUND: Final = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
_BESIDE: Final = ((-1, 0), (1, 0), (0, -1), (0, 1))

#: rows, columns, and the two coordinates: y, x
Vectors = NDArray[np.int32]
Luma = NDArray[np.uint8]


@dataclass(frozen=True)
class Motion:
    """How two frames differ."""

    #: of each cell, pixels from the earlier frame to the later
    vectors: Vectors
    #: code values of 255 that a pixel differs by on average after the motion
    residual: int


def estimate_motion(earlier: Luma, later: Luma) -> Motion:
    """Match two pictures of one size.

    Args:
        earlier: luma of 8 bits.
        later: likewise.
    """
    pyramid = [(earlier, later)]
    while max(pyramid[-1][0].shape) > _SMALLEST_SIDE:
        pyramid.append((_halved(pyramid[-1][0]), _halved(pyramid[-1][1])))
    level = len(pyramid) - 1
    vectors, residual = _search(*pyramid[level], _side(level))
    while level:
        cell = _side(level) << level
        level -= 1
        vectors = vectors * 2
        if _side(level) << level < cell:
            vectors = vectors.repeat(2, axis=0).repeat(2, axis=1)
        vectors = _refine(*pyramid[level], vectors, _side(level), _AROUND if level else _BESIDE)
    if _side(0) != CELL:
        raise AssertionError("a cell of the full picture is another")
    return Motion(vectors, residual)


def differences(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Give the absolute differences of unsigned samples."""
    made: NDArray[Any] = np.maximum(one, other) - np.minimum(one, other)
    return made


def cells(length: int, side: int) -> int:
    """Count the blocks that cover so many pixels."""
    return -(-length // side)


def _side(level: int) -> int:
    """Pixels of a block's side in the picture of a level."""
    return max(CELL >> 1, CELL >> level)


def _halved(picture: Luma) -> Luma:
    height, width = (length // 2 * 2 for length in picture.shape)
    even = picture[:height, :width].astype(np.uint16)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def _search(earlier: Luma, later: Luma, side: int) -> tuple[Vectors, int]:
    """Try all displacements, then let neighbours agree."""
    costs = _of_neighbourhood(_costs(earlier, later, side))
    span = 2 * _REACH + 1
    lengths = np.abs(np.arange(-_REACH, _REACH + 1, dtype=np.int32))
    paid = (lengths[:, None] + lengths[None, :]).ravel() * _LENGTH
    best = (costs + paid.astype(np.uint16)[:, None, None]).argmin(axis=0)
    vectors = np.stack((best // span - _REACH, best % span - _REACH), axis=-1).astype(np.int32)
    rows, columns = np.indices(best.shape)

    def matching(candidate: Vectors) -> NDArray[np.int32]:
        at = (candidate[..., 0] + _REACH) * span + candidate[..., 1] + _REACH
        found: NDArray[np.int32] = costs[at, rows, columns].astype(np.int32)
        return found

    for _ in range(_ROUNDS):
        around = list(_neighbours(vectors))
        candidates = [vectors, *around, np.zeros_like(vectors)]
        vectors = _cheapest(
            candidates,
            [matching(each) + _TOP_SMOOTHNESS * _roughness(each, around) for each in candidates],
        )
    window = (3 * side) ** 2
    return vectors, int(matching(vectors).sum(dtype=np.int64)) // (window * best.size)


def _costs(earlier: Luma, later: Luma, side: int) -> NDArray[np.uint16]:
    """Sums of absolute differences of all blocks, by displacement."""
    rows, columns = (cells(length, side) for length in earlier.shape)
    height, width = rows * side, columns * side
    grow = [
        (_REACH, _REACH + padded - length)
        for padded, length in zip((height, width), earlier.shape, strict=True)
    ]
    one, other = np.pad(earlier, grow, mode="edge"), np.pad(later, grow, mode="edge")
    reach = range(-_REACH, _REACH + 1)
    costs = np.empty((len(reach) ** 2, rows, columns), np.uint16)
    for number, (y, x) in enumerate((y, x) for y in reach for x in reach):
        back_y, back_x = _REACH - (y >> 1), _REACH - (x >> 1)
        on_y, on_x = back_y + y, back_x + x
        difference = differences(
            one[back_y : back_y + height, back_x : back_x + width],
            other[on_y : on_y + height, on_x : on_x + width],
        )
        lines = difference.reshape(rows, side, width).sum(axis=1, dtype=np.uint16)
        costs[number] = lines.reshape(rows, columns, side).sum(axis=2, dtype=np.uint16)
    return costs


def _of_neighbourhood(costs: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Add to each block's costs those of the eight around it."""
    grown = np.pad(costs, ((0, 0), (1, 1), (1, 1)), mode="edge")
    lines = grown[:, :-2] + grown[:, 1:-1] + grown[:, 2:]
    total: NDArray[np.uint16] = lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]
    return total


def _refine(
    earlier: Luma, later: Luma, vectors: Vectors, side: int, steps: Sequence[tuple[int, int]]
) -> Vectors:
    """Choose among a block's vector, its neighbours', and those a step beside."""
    rows, columns = (cells(length, side) for length in earlier.shape)
    missing = ((0, max(0, rows - vectors.shape[0])), (0, max(0, columns - vectors.shape[1])), (0, 0))
    vectors = np.pad(vectors, missing, mode="edge")[:rows, :columns]
    matcher, around = _Matcher(earlier, later, (rows, columns), side), list(_neighbours(vectors))

    def chosen(candidates: Sequence[Vectors]) -> Vectors:
        costs = [matcher.costs(each) + _SMOOTHNESS * _roughness(each, around) for each in candidates]
        return _cheapest(candidates, costs)

    beside = [around[at] for at, step in enumerate(_AROUND) if step in _BESIDE]
    vectors = chosen([vectors, *beside])
    return chosen([vectors, *(vectors + np.array(step, np.int32) for step in steps)])


class _Matcher:
    """Compares windows of two pictures, every other pixel of them."""

    def __init__(self, earlier: Luma, later: Luma, shape: tuple[int, int], side: int) -> None:
        self._one, self._other = (np.pad(each, _MARGIN, mode="edge") for each in (earlier, later))
        rows, columns = np.indices(shape)
        first = (side - _WINDOW) // 2 + _MARGIN
        self._rows, self._columns = rows * side + first, columns * side + first

    def costs(self, vectors: Vectors) -> NDArray[np.int32]:
        back = -(vectors >> 1)
        one, other = self._places(back), self._places(vectors + back)
        width = self._one.shape[1]
        first, second = self._one.ravel(), self._other.ravel()
        total = np.zeros(one.size, np.uint16)
        for y in range(_WINDOW):
            for x in range(y & 1, _WINDOW, 2):
                ahead = y * width + x
                total += differences(first[ahead:].take(one), second[ahead:].take(other))
        return total.reshape(vectors.shape[:2]).astype(np.int32)

    def _places(self, offsets: Vectors) -> NDArray[np.intp]:
        height, width = self._one.shape
        y = np.clip(self._rows + offsets[..., 0], 0, height - _WINDOW - 1)
        x = np.clip(self._columns + offsets[..., 1], 0, width - _WINDOW - 1)
        places: NDArray[np.intp] = (y * width + x).ravel()
        return places


def _neighbours(vectors: Vectors) -> Iterator[Vectors]:
    """Give the vectors around each block, as `_AROUND` goes."""
    grown = np.pad(vectors, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns = vectors.shape[:2]
    for y, x in _AROUND:
        yield grown[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]


def _roughness(vectors: Vectors, around: Sequence[Vectors]) -> NDArray[np.int32]:
    total = np.zeros(vectors.shape[:2], np.int32)
    for each in around:
        total += np.minimum(np.abs(vectors - each).sum(axis=2, dtype=np.int32), _MOST_DIFFERENCE)
    return total


def _cheapest(candidates: Sequence[Vectors], costs: Sequence[NDArray[np.int32]]) -> Vectors:
    """Give of each block the cheapest vector, of equal ones the first."""
    best, least = candidates[0].copy(), costs[0]
    for candidate, cost in zip(candidates[1:], costs[1:], strict=True):
        better = cost < least
        least = np.where(better, cost, least)
        best[better] = candidate[better]
    return best
