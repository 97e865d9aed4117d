"""The files between the tasks: motion per frame of a segment, and the camera path. Whole numbers, little-endian."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault

#: an array of records
Records = NDArray[Any]

#: a frame's motion: see `motion.Motion`
MOTION: Final = np.dtype(
    [("pts", "<i8"), ("dx", "<i4"), ("dy", "<i4"), ("turn", "<i4"), ("growth", "<i4"), ("kind", "<i4")]
)
#: where the pixels of a frame of the result come from: the one at (x, y) from the middle is at
#: (a x - b y + dx, b x + a y + dy) from the middle in the source; a and b in 1 / UNIT_TICKS, dx and dy in 1 / PIXEL_TICKS
PATH: Final = np.dtype([("pts", "<i8"), ("a", "<i4"), ("b", "<i4"), ("dx", "<i4"), ("dy", "<i4")])

#: magic, width and height of the frames in pixels, number of records
_HEADER: Final = struct.Struct("<8sIIQ")
_MAGIC: Final = {MOTION: b"vpmotio1", PATH: b"vppath_1"}


def write_records(path: Path, kind: np.dtype[Any], width: int, height: int, records: Records) -> None:
    """Write a file of records and bring it and its name to the disk; it must not exist."""
    with path.open("xb") as file:
        file.write(_HEADER.pack(_MAGIC[kind], width, height, len(records)))
        file.write(records.astype(kind, copy=False).tobytes())
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_records(path: Path, kind: np.dtype[Any]) -> tuple[int, int, Records]:
    """Give width and height of the frames and the records, which stay on the disk until they are looked at.

    Raises:
        MediaFault: INTERNAL, it is not such a file, or not a whole one.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) != _HEADER.size:
        raise MediaFault("INTERNAL", f"{path.name} is cut off.")
    magic, width, height, count = _HEADER.unpack(header)
    if magic != _MAGIC[kind] or path.stat().st_size != _HEADER.size + count * kind.itemsize:
        raise MediaFault("INTERNAL", f"{path.name} is not a whole file of {len(kind.names or ())} columns.")
    if not count:
        return width, height, np.zeros(0, kind)
    return width, height, np.memmap(path, kind, "r", _HEADER.size, (count,))
