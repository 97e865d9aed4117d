"""Finds where blocks of a picture lie in a neighbouring one, in whole pixels and whole numbers.

Hierarchical block matching with candidates of the blocks around (after G. de Haan, P. Biezen, H. Huijgen, O. Ojo,
"True-motion estimation with 3-D recursive search block matching", 1993, but without its recursion in time: vectors depend on
the two pictures and, for farther neighbours, on those of nearer ones).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.int16]

#: pixels a side of a block, at each level of the pyramid
BLOCK: Final = 8
#: pixels a vector has at most, in each direction
LONGEST: Final = 32
#: halvings of the picture
_LEVELS: Final = 2
#: pixels of the coarsest level that are searched around no motion
_REACH: Final = 4
#: what each pixel of a step away from the prediction must win, in code values of 255 summed over a block
_STEP_COST: Final = 8


@dataclass(frozen=True)
class Pyramid:
    """A picture's luma, blurred against noise, and its halvings, each with a margin around it."""

    levels: tuple[NDArray[np.int16], ...]
    shapes: tuple[tuple[int, int], ...]


#: pixels around each level, so that no vector leads out of the array
_MARGIN: Final = LONGEST + BLOCK + 2


def build_pyramid(luma: NDArray[Any], bits: int) -> Pyramid:
    """Prepare a picture for `find_motion`."""
    level = _blur(luma.astype(np.int16) if bits == 8 else (luma >> (bits - 8)).astype(np.int16))
    levels, shapes = [], []
    for number in range(_LEVELS + 1):
        if number:
            level = _halve(level)
        height, width = level.shape
        below, right = -height % BLOCK, -width % BLOCK
        levels.append(
            np.pad(level, ((_MARGIN, _MARGIN + below), (_MARGIN, _MARGIN + right)), mode="symmetric")
        )
        shapes.append((-(-height // BLOCK), -(-width // BLOCK)))
    return Pyramid(tuple(levels), tuple(shapes))


def find_motion(picture: Pyramid, neighbour: Pyramid, predicted: Vectors | None = None) -> Vectors:
    """Find for each block of a picture the vector to its like in a neighbour.

    Args:
        picture: whose blocks are looked for.
        neighbour: of the same size.
        predicted: vectors to refine; without them the blocks are searched for.

    Returns:
        Rows and columns of blocks by (down, right), in pixels.
    """
    coarsest = len(picture.levels) - 1
    if predicted is None:
        vectors = np.zeros((*picture.shapes[coarsest], 2), np.int16)
        vectors = _refine(picture, neighbour, coarsest, vectors, _REACH)
        first = coarsest - 1
    else:
        vectors = _coarser(predicted, picture.shapes[1])
        first = 1
        vectors = _choose(picture, neighbour, first, vectors)
        vectors = _refine(picture, neighbour, first, vectors, 1)
        first = 0
    for level in range(first, -1, -1):
        vectors = _finer(vectors, picture.shapes[level])
        if level:
            vectors = _choose(picture, neighbour, level, vectors)
        vectors = _refine(picture, neighbour, level, vectors, 1)
    return vectors


def _refine(picture: Pyramid, neighbour: Pyramid, level: int, vectors: Vectors, reach: int) -> Vectors:
    """Move each vector to the best within `reach` around it."""
    here = _blocks(picture.levels[level], np.zeros_like(vectors), 0)
    there = _blocks(neighbour.levels[level], vectors, reach)
    best = np.full(here.shape[2], np.iinfo(np.int16).max, np.int16)
    down, right = np.zeros_like(best), np.zeros_like(best)
    difference = np.empty_like(here)
    for dy, dx in _steps(reach):
        np.subtract(
            there[reach + dy : reach + dy + BLOCK, reach + dx : reach + dx + BLOCK], here, out=difference
        )
        np.abs(difference, out=difference)
        cost = np.add.reduce(difference.reshape(-1, best.size), axis=0, dtype=np.int16)
        cost += np.int16(_STEP_COST * (abs(dy) + abs(dx)))
        better = cost < best
        np.copyto(best, cost, where=better)
        np.copyto(down, np.int16(dy), where=better)
        np.copyto(right, np.int16(dx), where=better)
    rows, columns = vectors.shape[:2]
    step = np.stack([down.reshape(rows, columns), right.reshape(rows, columns)], axis=2)
    limit = LONGEST >> level
    moved: Vectors = np.clip(vectors + step, -limit, limit).astype(np.int16)
    return moved


def _choose(picture: Pyramid, neighbour: Pyramid, level: int, vectors: Vectors) -> Vectors:
    """Give each block the best of its own vector, those of the four blocks around, and none."""
    here = _blocks(picture.levels[level], np.zeros_like(vectors), 0)
    best: NDArray[np.int16] | None = None
    chosen = vectors
    for candidate in (vectors, *_around(vectors), np.zeros_like(vectors)):
        difference = _blocks(neighbour.levels[level], candidate, 0)
        difference -= here
        np.abs(difference, out=difference)
        cost = np.add.reduce(difference.reshape(-1, difference.shape[2]), axis=0, dtype=np.int16)
        cost = cost.reshape(vectors.shape[:2])
        if best is None:
            best = cost
            continue
        better = cost < best
        best = np.minimum(best, cost)
        chosen = np.where(better[..., None], candidate, chosen)
    return chosen


def _around(vectors: Vectors) -> Iterator[Vectors]:
    """The vectors of the blocks above, below, left and right; at the edges the block's own."""
    padded = np.pad(vectors, ((1, 1), (1, 1), (0, 0)), mode="edge")
    yield padded[:-2, 1:-1]
    yield padded[2:, 1:-1]
    yield padded[1:-1, :-2]
    yield padded[1:-1, 2:]


def _steps(reach: int) -> list[tuple[int, int]]:
    """Steps by their length: of equally good ones the first wins."""
    span = range(-reach, reach + 1)
    return sorted(((dy, dx) for dy in span for dx in span), key=lambda s: (abs(s[0]) + abs(s[1]), s))


def _blocks(level: NDArray[np.int16], vectors: Vectors, around: int) -> NDArray[np.int16]:
    """Blocks that vectors lead to and pixels around them: rows by columns by blocks."""
    side, stride = BLOCK + 2 * around, level.shape[1]
    rows, columns = vectors.shape[:2]
    top = np.arange(rows, dtype=np.intp)[:, None] * BLOCK + (_MARGIN - around)
    left = np.arange(columns, dtype=np.intp)[None] * BLOCK + (_MARGIN - around)
    start = ((top + vectors[..., 0]) * stride + left + vectors[..., 1]).reshape(-1)
    offsets = np.arange(side, dtype=np.intp)[:, None] * stride + np.arange(side, dtype=np.intp)
    taken: NDArray[np.int16] = np.take(level.reshape(-1), offsets[..., None] + start)
    return taken


def _finer(vectors: Vectors, shape: tuple[int, int]) -> Vectors:
    """Vectors of the next finer level."""
    rows = np.minimum(np.arange(shape[0]) // 2, vectors.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // 2, vectors.shape[1] - 1)
    finer: Vectors = vectors[rows][:, columns] * np.int16(2)
    return finer


def _coarser(vectors: Vectors, shape: tuple[int, int]) -> Vectors:
    """Vectors of the next coarser level: of four blocks the first one's."""
    limit = LONGEST // 2
    return np.clip(vectors[::2, ::2][: shape[0], : shape[1]] // 2, -limit, limit).astype(np.int16)


def _blur(luma: NDArray[np.int16]) -> NDArray[np.int16]:
    padded = np.pad(luma, 1, mode="edge")
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    blurred: NDArray[np.int16] = (across[:-2] + 2 * across[1:-1] + across[2:] + np.int16(8)) >> np.int16(4)
    return blurred


def _halve(level: NDArray[np.int16]) -> NDArray[np.int16]:
    height, width = level.shape
    even = np.pad(level, ((0, height % 2), (0, width % 2)), mode="edge")
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    halved: NDArray[np.int16] = (total + np.int16(2)) >> np.int16(2)
    return halved
