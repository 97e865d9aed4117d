"""What a file consists of: its outermost boxes, found without reading what is in them."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from typing import Final

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import HEAD, LARGE, Box, broken, name_of

#: a movie box in memory; one of a day of picture and sound has about 100 MiB
_MOST_MOOV_BYTES: Final = 512 << 20
#: a fragment's; one of a few seconds has some KiB
_MOST_MOOF_BYTES: Final = 64 << 20
#: outermost boxes: a day in fragments of one frame has five million
_MOST_BOXES: Final = 8_000_000
#: those of them that are kept as they are; a dash camera writes one a second
_MOST_KEPT: Final = 100_000
#: free space with something in it, where dash cameras keep places and speeds; more is what another program gave up
_MOST_FREE_BYTES: Final = 1 << 20
#: the media, and what only says where in this file it is
_LEFT_OUT: Final = frozenset({b"mdat", b"wide", b"mfra", b"sidx", b"ssix", b"styp", b"pdin", b"imda"})
_FREE: Final = frozenset({b"free", b"skip"})


@dataclass(frozen=True, slots=True)
class Place:
    """A box, or bytes after the last one, in the file."""

    kind: bytes
    offset: int
    size: int
    header_size: int


@dataclass
class TopLevel:
    """The outermost boxes of a file."""

    file_size: int
    ftyp: Place | None = None
    moov: Place | None = None
    #: where the media or the movie begins, whichever is first
    body_offset: int | None = None
    media_offset: int | None = None
    #: of each fragment: offset, size, size of its header
    moofs: array[int] = field(default_factory=lambda: array("q"))
    #: everything else that belongs to the file, in its order
    others: list[Place] = field(default_factory=list)
    #: bytes after the last box
    tail: Place | None = None


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Bytes of the file.

    Raises:
        MediaFault: it ends before them.
    """
    parts = []
    while size and (part := os.pread(fd, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    if size:
        raise MediaFault("JOIN_FAILED", f"The file ends {size} bytes before what it says it has.")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_box(fd: int, place: Place) -> Box:
    """A whole box.

    Raises:
        MediaFault: it is larger than is sensible.
    """
    if place.size > (_MOST_MOOF_BYTES if place.kind == b"moof" else _MOST_MOOV_BYTES):
        raise broken(name_of(place.kind), f"has {place.size} bytes")
    return Box(place.kind, memoryview(read_at(fd, place.offset, place.size)), place.header_size)


def read_top_level(fd: int) -> TopLevel:
    """Find the outermost boxes.

    Raises:
        MediaFault: there are more than is sensible.
    """
    found = TopLevel(os.fstat(fd).st_size)
    offset = count = 0
    while offset < found.file_size:
        place = _place(fd, offset, found.file_size)
        if place is None:
            found.tail = Place(b"", offset, found.file_size - offset, 0)
            break
        count += 1
        if count > _MOST_BOXES:
            raise MediaFault("JOIN_FAILED", f"The file has more than {_MOST_BOXES} boxes.")
        _sort_in(fd, place, found)
        offset += place.size
    return found


def _place(fd: int, offset: int, file_size: int) -> Place | None:
    """The box at an offset, None where there is none."""
    head = os.pread(fd, HEAD.size + LARGE.size, offset)
    if len(head) < HEAD.size:
        return None
    size, kind = HEAD.unpack_from(head)
    header_size, left = HEAD.size, file_size - offset
    if size == 1 and len(head) == HEAD.size + LARGE.size:
        (size,) = LARGE.unpack_from(head, HEAD.size)
        header_size += LARGE.size
    elif size == 0 and kind != b"\0\0\0\0":
        size = left
    if kind == b"mdat":  # a recording that was cut off; whether the samples are there is looked at later
        size = min(size, left)
    return Place(kind, offset, size, header_size) if header_size <= size <= left else None


def _sort_in(fd: int, place: Place, found: TopLevel) -> None:
    if place.kind in {b"mdat", b"moov", b"moof"} and found.body_offset is None:
        found.body_offset = place.offset
    if place.kind in {b"mdat", b"moof"} and found.media_offset is None:
        found.media_offset = place.offset
    if place.kind == b"moof":
        found.moofs.extend((place.offset, place.size, place.header_size))
    elif place.kind == b"ftyp":
        found.ftyp = found.ftyp or place
    elif place.kind == b"moov" and found.moov is None:
        found.moov = place
    elif place.kind not in _LEFT_OUT and not (place.kind in _FREE and _is_empty(fd, place)):
        if len(found.others) == _MOST_KEPT:
            raise MediaFault("JOIN_FAILED", f"The file has more than {_MOST_KEPT} boxes beside its media.")
        found.others.append(place)


def _is_empty(fd: int, place: Place) -> bool:
    """Whether free space is that, and nothing of a camera's."""
    if place.size > _MOST_FREE_BYTES:
        return True
    return not any(read_at(fd, place.offset + place.header_size, place.size - place.header_size))
