"""Breaks small files in seeded ways: the same seed breaks the same file in the same way."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

#: numbers at which programs err, of each width in bytes
_EDGES = {
    1: (0, 1, 0x7F, 0x80, 0xFF),
    2: (0, 1, 0x7FFF, 0x8000, 0xFFFF),
    4: (0, 1, 7, 8, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF8, 0xFFFF_FFFE, 0xFFFF_FFFF),
    8: (0, 1, 15, 16, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
}
_INSIDE = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"mvex", b"moof", b"traf")
_MOST_CHANGES = 4
#: of the changes, those that go into the index rather than anywhere
_INTO_INDEX = 0.7
#: bytes at the beginning of a file of another kind that count as its index
_HEAD_BYTES = 2048

#: where a box begins and how long it is
Place = tuple[int, int]


def mutated(data: bytes, others: Sequence[bytes], seed: int) -> bytes:
    """A broken copy: one to four changes.

    Args:
        data: the file.
        others: files that pieces may come from.
        seed: of what is drawn.
    """
    draw = Random(seed)
    broken = bytearray(data)
    for _ in range(draw.randint(1, _MOST_CHANGES)):
        if len(broken) < 16:
            break
        draw.choice(_CHANGES)(broken, others, draw)
    return bytes(broken)


def boxes_of(data: bytes | bytearray) -> list[Place]:
    """All boxes of an MP4, MOV or 3GP file, those inside others too; nothing for other files."""
    found: list[Place] = []
    _find_boxes(data, 0, len(data), found)
    return found


def _find_boxes(data: bytes | bytearray, at: int, end: int, found: list[Place]) -> None:
    while end - at >= 8 and len(found) < 2000:
        size, kind = struct.unpack_from(">I4s", data, at)
        if not 8 <= size <= end - at:
            return
        found.append((at, size))
        if kind in _INSIDE:
            _find_boxes(data, at + 8, at + size, found)
        at += size


def _place(broken: bytearray, draw: Random) -> int:
    """Somewhere: mostly in the index, where a byte means much."""
    if draw.random() > _INTO_INDEX:
        return draw.randrange(len(broken))
    index = [(at, size) for at, size in boxes_of(broken) if broken[at + 4 : at + 8] not in (b"mdat", b"moov")]
    if not index:
        return draw.randrange(min(_HEAD_BYTES, len(broken)))
    at, size = draw.choice(index)
    return min(len(broken) - 1, at + draw.randrange(min(size, 256)))


def _flip_bits(broken: bytearray, _others: Sequence[bytes], draw: Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        broken[_place(broken, draw)] ^= 1 << draw.randrange(8)


def _write_edge(broken: bytearray, _others: Sequence[bytes], draw: Random) -> None:
    width = draw.choice(tuple(_EDGES))
    at = min(_place(broken, draw), len(broken) - width)
    broken[at : at + width] = draw.choice(_EDGES[width]).to_bytes(width, "big")


def _change_size(broken: bytearray, others: Sequence[bytes], draw: Random) -> None:
    boxes = boxes_of(broken)
    if not boxes:
        _write_edge(broken, others, draw)
        return
    at, size = draw.choice(boxes)
    other = draw.choice((0, 1, 7, 8, size - 1, size + 1, 2 * size, size // 2, 0x7FFF_FFFF, 0xFFFF_FFFF))
    broken[at : at + 4] = (other & 0xFFFF_FFFF).to_bytes(4, "big")


def _change_kind(broken: bytearray, others: Sequence[bytes], draw: Random) -> None:
    boxes = boxes_of(broken)
    if not boxes:
        _write_edge(broken, others, draw)
        return
    (at, _), (other, _) = draw.choice(boxes), draw.choice(boxes)
    broken[at + 4 : at + 8] = broken[other + 4 : other + 8]


def _cut(broken: bytearray, _others: Sequence[bytes], draw: Random) -> None:
    del broken[draw.randrange(8, len(broken)) :]


def _remove(broken: bytearray, _others: Sequence[bytes], draw: Random) -> None:
    at, size = _piece(broken, draw)
    del broken[at : at + size]


def _repeat(broken: bytearray, _others: Sequence[bytes], draw: Random) -> None:
    at, size = _piece(broken, draw)
    piece = bytes(broken[at : at + size])
    broken[at:at] = piece * draw.choice((1, 1, 2, 16)) if size < 1 << 16 else piece


def _splice(broken: bytearray, others: Sequence[bytes], draw: Random) -> None:
    other = draw.choice(others)
    at, size = _piece(bytearray(other), draw)
    here, room = _piece(broken, draw)
    broken[here : here + room] = other[at : at + size]


def _blank(broken: bytearray, _others: Sequence[bytes], draw: Random) -> None:
    at = _place(broken, draw)
    size = min(draw.choice((4, 16, 256, 4096)), len(broken) - at)
    broken[at : at + size] = draw.choice((b"\0", b"\xff")) * size


def _piece(broken: bytearray, draw: Random) -> Place:
    """A whole box, or bytes anywhere."""
    boxes = boxes_of(broken)
    if boxes and draw.random() < _INTO_INDEX:
        return draw.choice(boxes)
    at = draw.randrange(len(broken))
    return at, min(draw.choice((1, 4, 8, 64, 1024, 16384)), len(broken) - at)


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], Random], None], ...] = (
    _flip_bits,
    _flip_bits,
    _write_edge,
    _write_edge,
    _change_size,
    _change_kind,
    _cut,
    _remove,
    _repeat,
    _splice,
    _blank,
)
