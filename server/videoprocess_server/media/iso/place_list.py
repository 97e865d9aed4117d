"""The box in which dash cameras list where in the file they wrote places and speeds (Novatek's "gps ")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from videoprocess_server.media.iso.boxes import UINT32_MAX, Box, Parts, build
from videoprocess_server.media.iso.layout import Extent

#: of a movie
KIND: Final = b"gps "
#: before the rows: two numbers that are none of places
_ROWS_AT: Final = 8
_ROW_SIZE: Final = 8
#: a day has a row a second
_MOST_ROWS: Final = 1 << 20


def listed_extents(box: Box, file_size: int) -> list[Extent]:
    """The bytes that the rows point to; a row that points to nothing in the file is none."""
    return [
        Extent(offset, size) for offset, size in _rows(box).tolist() if _is_inside(offset, size, file_size)
    ]


def with_moved_rows(box: Box, file_size: int, moved: Callable[[Extent], int]) -> Parts:
    """The box with the places where its bytes are now; a place that 32 bits cannot tell becomes 0.

    Args:
        box: the source's.
        file_size: of the source, in bytes.
        moved: tells where an extent is now.
    """
    rows = _rows(box)
    for row in rows:
        offset, size = row.tolist()
        if _is_inside(offset, size, file_size):
            place = moved(Extent(offset, size))
            row[0] = place if place <= UINT32_MAX else 0
    end = _ROWS_AT + rows.size * 4
    return build(KIND, box.body[:_ROWS_AT], rows.astype(">u4").tobytes(), box.body[end:])


def _rows(box: Box) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    count = min(_MOST_ROWS, max(0, len(box.body) - _ROWS_AT) // _ROW_SIZE)
    table = np.frombuffer(box.body[_ROWS_AT : _ROWS_AT + count * _ROW_SIZE], dtype=">u4")
    return table.astype(np.int64).reshape(count, 2)


def _is_inside(offset: int, size: int, file_size: int) -> bool:
    return offset > 0 and 0 < size <= file_size - offset
