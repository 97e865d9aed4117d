"""Boxes: splitting what a stranger wrote, and building new ones."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from videoprocess_server.media.faults import MediaFault

#: size and type; a size of 1 stands for 64 bits that follow, 0 for "to the end"
HEAD: Final = struct.Struct(">I4s")
LARGE: Final = struct.Struct(">Q")
U16: Final = struct.Struct(">H")
U32: Final = struct.Struct(">I")
U64: Final = struct.Struct(">Q")
UINT32_MAX: Final = 0xFFFF_FFFF
#: boxes directly inside one other; real ones have a few hundred at most
_MOST_CHILDREN: Final = 100_000
_NO_KIND: Final = b"\0\0\0\0"

#: a box in pieces, so that large tables are not copied for each box around them
Part = bytes | memoryview
Parts = list[Part]


@dataclass(frozen=True, slots=True)
class Box:
    """A box in memory."""

    kind: bytes
    #: with its header
    data: memoryview
    header_size: int

    @property
    def body(self) -> memoryview:
        """What follows the header."""
        return self.data[self.header_size :]

    @property
    def name(self) -> str:
        """The type as a reader of messages sees it."""
        return name_of(self.kind)


def name_of(kind: bytes) -> str:
    """A type's four characters; those beyond ASCII as Latin-1, which QuickTime's (c) is near enough."""
    return "".join(letter if letter.isprintable() else "?" for letter in bytes(kind).decode("latin-1"))


def broken(box: str, what: str) -> MediaFault:
    """The fault of a box that cannot be as it is."""
    return MediaFault("JOIN_FAILED", f"The file's {box} box {what}.")


def split(body: memoryview, where: str) -> tuple[list[Box], memoryview]:
    """Divide a container's body into its boxes.

    Args:
        body: without the container's own header.
        where: the container's name, for messages.

    Returns:
        The boxes, and the bytes after the last one: QuickTime ends some lists with 32 bits of zero.

    Raises:
        MediaFault: a box is larger than what is around it.
    """
    boxes: list[Box] = []
    at, end = 0, len(body)
    while end - at >= HEAD.size:
        size, kind = HEAD.unpack_from(body, at)
        header_size = HEAD.size
        if size == 0 and kind == _NO_KIND:
            break
        if size == 1 and end - at >= HEAD.size + LARGE.size:
            (size,) = LARGE.unpack_from(body, at + HEAD.size)
            header_size += LARGE.size
        elif size == 0:
            size = end - at
        if not header_size <= size <= end - at:
            raise broken(where, f"holds a box {name_of(kind)} of {size} bytes where {end - at} are left")
        if len(boxes) == _MOST_CHILDREN:
            raise broken(where, f"holds more than {_MOST_CHILDREN} boxes")
        boxes.append(Box(kind, body[at : at + size], header_size))
        at += size
    return boxes, body[at:]


def parse(data: Part) -> Box:
    """One whole box, such as one that was just built."""
    boxes, _ = split(memoryview(data), "built")
    return boxes[0]


def child(box: Box | None, *path: bytes) -> Box | None:
    """The first box at a path below another, None where there is none."""
    for kind in path:
        if box is None:
            return None
        boxes, _ = split(box.body, box.name)
        box = next((inner for inner in boxes if inner.kind == kind), None)
    return box


def children(box: Box | None, kind: bytes) -> list[Box]:
    """The boxes of one type directly inside another."""
    if box is None:
        return []
    boxes, _ = split(box.body, box.name)
    return [inner for inner in boxes if inner.kind == kind]


def unpack(layout: struct.Struct, box: Box, at: int) -> tuple[int, ...]:
    """Numbers at a place in a box's body.

    Raises:
        MediaFault: the box ends before them.
    """
    body = box.body
    if at + layout.size > len(body):
        raise broken(box.name, f"ends after {len(body)} bytes")
    return layout.unpack_from(body, at)


def build(kind: bytes, *parts: Part) -> Parts:
    """A box of these parts."""
    size = HEAD.size + size_of(parts)
    if size <= UINT32_MAX:
        return [HEAD.pack(size, kind), *parts]
    return [HEAD.pack(1, kind) + LARGE.pack(size + LARGE.size), *parts]


def build_full(kind: bytes, *parts: Part, version: int = 0, flags: int = 0) -> Parts:
    """A box with version and flags."""
    return build(kind, U32.pack(version << 24 | flags), *parts)


def size_of(parts: Parts | tuple[Part, ...]) -> int:
    """Bytes of all parts."""
    return sum(len(part) for part in parts)


def joined(parts: Parts) -> bytes:
    """The parts as one, for what is small."""
    return b"".join(parts)


Change = Callable[[Box], Parts]


def rewrite(box: Box, changes: Mapping[tuple[bytes, ...], Change]) -> Parts:
    """A box in which those at some paths are replaced; everything else in it stays as it is, and in its order.

    Args:
        box: a container.
        changes: by path below it: what a box there becomes, which may be nothing or several.
    """
    parts: Parts = []
    boxes, tail = split(box.body, box.name)
    for inner in boxes:
        change = changes.get((inner.kind,))
        below = {path[1:]: deeper for path, deeper in changes.items() if path[0] == inner.kind and path[1:]}
        if change is not None:
            parts += change(inner)
        elif below:
            parts += rewrite(inner, below)
        else:
            parts.append(inner.data)
    return build(box.kind, *parts, tail)
