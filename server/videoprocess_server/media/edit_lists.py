"""Reads from the service's own MP4 and MOV files how long their edit lists show a track, which FFmpeg does not tell."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO, Final

#: size and type of a box; a size of 1 stands for 64 bits that follow
_HEAD: Final = struct.Struct(">I4s")
_LARGE: Final = struct.Struct(">Q")
#: by version: length and media time of an edit, then its rate
_EDITS: Final = (struct.Struct(">IiI"), struct.Struct(">QqI"))
#: by version of mvhd: where its time scale stands
_TIMESCALE_AT: Final = (12, 20)


def read_shown_until(file: BinaryIO, track: int) -> Fraction | None:
    """Gives the second at which a track ends by its edit list, None where it has none.

    Args:
        file: the whole file.
        track: its place in the file, from 0.
    """
    moov = _read_moov(file)
    header = next(_children(moov, b"mvhd"), None)
    traks = list(_children(moov, b"trak"))
    if header is None or track >= len(traks):
        return None
    (timescale,) = struct.unpack_from(">I", header, _TIMESCALE_AT[header[0]])
    for edits in _children(traks[track], b"edts"):
        for edit_list in _children(edits, b"elst"):
            (count,) = struct.unpack_from(">I", edit_list, 4)
            rows = _EDITS[edit_list[0]]
            lengths = (rows.unpack_from(edit_list, 8 + k * rows.size)[0] for k in range(count))
            return Fraction(sum(lengths), timescale)
    return None


def _read_moov(file: BinaryIO) -> memoryview:
    file.seek(0)
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        size, kind = _HEAD.unpack(head)
        rest = size - _HEAD.size
        if size == 1:
            rest = _LARGE.unpack(file.read(_LARGE.size))[0] - _HEAD.size - _LARGE.size
        if kind == b"moov":
            return memoryview(file.read(rest))
        if rest < 0:
            break
        file.seek(rest, 1)
    return memoryview(b"")


def _children(box: memoryview, wanted: bytes) -> Iterator[memoryview]:
    """The contents of the boxes of one type directly inside a box."""
    at = 0
    while at + _HEAD.size <= len(box):
        size, kind = _HEAD.unpack_from(box, at)
        if size < _HEAD.size:
            return
        if kind == wanted:
            yield box[at + _HEAD.size : at + size]
        at += size
