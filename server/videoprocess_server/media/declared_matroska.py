"""What the elements of a Matroska or WebM file declare (RFC 9559)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from videoprocess_server.media.declared import Declared, read

EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_SEEK_HEAD, _SEEK, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AC
_TRACKS, _TRACK_ENTRY, _VIDEO = 0x1654AE6B, 0xAE, 0xE0
_WIDTH, _HEIGHT = 0xB0, 0xBA
_INDEX: Final = frozenset({0x1C53BB6B, _TRACKS, _SEEK_HEAD})  # Cues
_METADATA: Final = frozenset({0x1254C367, 0x1043A770, 0x1549A966})  # Tags, Chapters, Info
_ATTACHMENTS: Final = 0x1941A469
#: elements of the segment that a seek head names; real ones name about five
_MOST_SEEKS: Final = 1000
_LONGEST_HEAD: Final = 12


def check_elements(fd: int, size: int, declared: Declared) -> None:
    """Look at the heads of all elements that FFmpeg reads when it opens the file.

    Raises:
        MediaFault: OVER_LIMITS.
    """
    for kind, start, end in _elements(fd, 0, size):
        if kind == _SEGMENT:
            _check_segment(fd, start, min(end, size), declared)
            return


def _check_segment(fd: int, start: int, end: int, declared: Declared) -> None:
    seen: set[int] = set()
    named: list[int] = []
    for kind, begin, stop in _elements(fd, start, end):
        if kind == _CLUSTER:
            break
        _check_element(fd, kind, begin, min(stop, end), declared)
        seen.add(begin)
        if kind == _SEEK_HEAD:
            named += _positions(fd, begin, min(stop, end), declared)
    for position in named[:_MOST_SEEKS]:
        element = next(_elements(fd, start + position, end), None)
        if element is not None and element[1] not in seen:
            seen.add(element[1])
            _check_element(fd, element[0], element[1], min(element[2], end), declared)


def _check_element(fd: int, kind: int, start: int, end: int, declared: Declared) -> None:
    declared.head()
    length = end - start
    if kind in _INDEX:
        declared.add(index_bytes=length)
    elif kind in _METADATA:
        declared.add(metadata_bytes=length)
    elif kind == _ATTACHMENTS:
        declared.add(attachment_bytes=length)
    if kind == _TRACKS:
        for entry, begin, stop in _elements(fd, start, end):
            declared.head()
            if entry == _TRACK_ENTRY:
                declared.add(tracks=1)
                _check_track(fd, begin, min(stop, end), declared)


def _check_track(fd: int, start: int, end: int, declared: Declared) -> None:
    for kind, begin, stop in _elements(fd, start, end):
        declared.head()
        if kind == _VIDEO:
            sides = dict.fromkeys((_WIDTH, _HEIGHT), 0)
            for side, at, behind in _elements(fd, begin, min(stop, end)):
                declared.head()
                if side in sides:
                    sides[side] = int.from_bytes(read(fd, at, min(8, behind - at)), "big")
            declared.picture(*sides.values())


def _positions(fd: int, start: int, end: int, declared: Declared) -> Iterator[int]:
    for kind, begin, stop in _elements(fd, start, end):
        declared.head()
        if kind == _SEEK:
            for inner, at, behind in _elements(fd, begin, min(stop, end)):
                declared.head()
                if inner == _SEEK_POSITION:
                    yield int.from_bytes(read(fd, at, min(8, behind - at)), "big")


def _elements(fd: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Id, beginning of the body and end of each element; one of untold size goes to the end, nonsense ends them."""
    while start < end:
        head = read(fd, start, _LONGEST_HEAD)
        if not head:
            return
        id_length = 9 - head[0].bit_length()
        size_length = 9 - head[id_length].bit_length() if len(head) > id_length else 9
        if id_length > 4 or size_length > 8 or len(head) < id_length + size_length:
            return
        most = (1 << 7 * size_length) - 1
        size = int.from_bytes(head[id_length : id_length + size_length], "big") & most
        begin = start + id_length + size_length
        stop = end if size == most else begin + size
        yield int.from_bytes(head[:id_length], "big"), begin, stop
        start = stop
