"""Auxiliary information of samples (saiz, saio), such as that of encryption: bytes beside the samples."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import U32, Box, Parts, broken, build_full, children, unpack
from videoprocess_server.media.iso.layout import Extent
from videoprocess_server.media.iso.sample_tables import Chunks

_HEAD: Final = struct.Struct(">I")
_SIZES: Final = struct.Struct(">BI")
_HAS_TYPE: Final = 1
_TYPE_SIZE: Final = 8
_MOST_PIECES: Final = 1 << 20


def auxiliary_extents(stbl: Box | None, chunks: Chunks) -> list[Extent]:
    """The bytes that a table's auxiliary information is.

    Raises:
        MediaFault: they cannot be found.
    """
    sizes = {_type(box): _sizes(box) for box in children(stbl, b"saiz")}
    extents: list[Extent] = []
    for saio in children(stbl, b"saio"):
        size = sizes.get(_type(saio))
        if size is None:
            raise broken("saio", "has no saiz beside it")
        offsets = _offsets(saio)
        ends = np.concatenate(([0], np.cumsum(size, dtype=np.int64)))
        first = np.minimum(np.append(chunks.first, len(size)), len(size))
        if len(offsets) == 1:
            pieces = [int(ends[-1])]
        elif len(offsets) == len(chunks.offset):
            pieces = np.diff(ends[first]).tolist()
        else:
            raise broken("saio", f"has {len(offsets)} entries for {len(chunks.offset)} chunks")
        extents += [Extent(int(offset), piece) for offset, piece in zip(offsets, pieces, strict=True)]
    return extents


def with_moved_offsets(
    saio: Box, extents: list[Extent], moved: Callable[[Extent], int], *, wide: bool
) -> Parts:
    """A saio that points to where its bytes are now.

    Args:
        saio: the source's.
        extents: its own, in their order.
        moved: tells where an extent is now.
        wide: whether places take 64 bits.
    """
    (head,) = unpack(_HEAD, saio, 0)
    places = np.array([moved(extent) for extent in extents], dtype=np.int64)
    return build_full(
        b"saio",
        saio.body[_HEAD.size : _table_at(saio)],
        U32.pack(len(places)),
        places.astype(">u8" if wide else ">u4").tobytes(),
        version=int(wide),
        flags=head & 0xFF_FFFF,
    )


def entry_count(saio: Box) -> int:
    """How many places it tells."""
    return len(_offsets(saio))


def _table_at(box: Box) -> int:
    (head,) = unpack(_HEAD, box, 0)
    return _HEAD.size + (_TYPE_SIZE if head & _HAS_TYPE else 0)


def _type(box: Box) -> bytes:
    return bytes(box.body[_HEAD.size : _table_at(box)])


def _sizes(saiz: Box) -> NDArray[Any]:
    at = _table_at(saiz)
    each, count = unpack(_SIZES, saiz, at)
    table = saiz.body[at + _SIZES.size :]
    if each:
        if count > _MOST_PIECES:
            raise broken("saiz", f"says it has {count} samples")
        return np.full(count, each, dtype=np.uint8)
    if count > len(table):
        raise broken("saiz", f"says it has {count} samples and has {len(table)} bytes")
    return np.frombuffer(table, dtype=np.uint8, count=count)


def _offsets(saio: Box) -> NDArray[Any]:
    at = _table_at(saio)
    (head,) = unpack(_HEAD, saio, 0)
    (count,) = unpack(_HEAD, saio, at)
    kind = np.dtype(">u8" if head >> 24 else ">u4")
    table = saio.body[at + _HEAD.size :]
    if count > _MOST_PIECES or count * kind.itemsize > len(table):
        raise broken("saio", f"says it has {count} entries and has {len(table)} bytes")
    offsets = np.frombuffer(table, dtype=kind, count=count)
    if count and int(offsets.max()) >> 62:
        raise MediaFault("JOIN_FAILED", "The file's saio box points where no file reaches.")
    return offsets
