"""Items of a meta box, such as cover pictures, whose bytes lie somewhere in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.boxes import U16, Box, Parts, broken, build, build_full, children
from videoprocess_server.media.iso.layout import Extent
from videoprocess_server.media.iso.user_keys import meta_body_at, meta_boxes

#: extents of one file; photos in tiles have some hundreds
_MOST_EXTENTS: Final = 1 << 16
_IN_FILE: Final = 0
#: paths of meta boxes in a movie or a track
META_PATHS: Final[tuple[tuple[bytes, ...], ...]] = ((b"meta",), (b"udta", b"meta"))


@dataclass(frozen=True)
class _Item:
    item_id: int
    method: int
    data_reference: int
    #: index, offset with the item's base, length
    extents: tuple[tuple[int, int, int], ...]

    @property
    def is_in_file(self) -> bool:
        return self.method == _IN_FILE and self.data_reference == 0


@dataclass(frozen=True)
class _Locations:
    version: int
    flags: int
    length_size: int
    index_size: int
    items: tuple[_Item, ...]


def metas_of(box: Box) -> Iterator[tuple[tuple[bytes, ...], Box]]:
    """The meta boxes of a movie or a track, with their paths; those in user data that cannot be read are left alone."""
    for path in META_PATHS:
        try:
            around = [box] if len(path) == 1 else children(box, path[0])
            found = [meta for outer in around for meta in children(outer, path[-1])]
        except MediaFault:
            continue
        for meta in found:
            yield path, meta


def item_extents(meta: Box) -> list[Extent]:
    """The bytes of the file that the items are; a length of 0 stands for all that follows."""
    locations = _read(meta)
    if locations is None:
        return []
    return [
        Extent(offset, length)
        for item in locations.items
        if item.is_in_file
        for _, offset, length in item.extents
    ]


def with_moved_items(meta: Box, moved: Callable[[Extent], int], *, wide: bool) -> Parts:
    """A meta box that points to where its items are now.

    Args:
        meta: the source's.
        moved: tells where an extent is now.
        wide: whether places take 64 bits.
    """
    locations = _read(meta)
    if locations is None or not any(item.is_in_file for item in locations.items):
        return [meta.data]
    boxes, tail = meta_boxes(meta)
    parts: Parts = [meta.body[: meta_body_at(meta)]]
    for box in boxes:
        parts += _build(locations, moved, wide=wide) if box.kind == b"iloc" else [box.data]
    return build(b"meta", *parts, tail)


def _read(meta: Box) -> _Locations | None:
    """The item locations, None where there are none that can be read."""
    try:
        boxes, _ = meta_boxes(meta)
        iloc = [box for box in boxes if box.kind == b"iloc"]
        return _parse(iloc[0]) if len(iloc) == 1 else None
    except MediaFault:
        return None


class _Reader:
    """Numbers of various sizes, one after the other."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._at = 0

    def number(self, size: int) -> int:
        end = self._at + size
        if end > len(self._body):
            raise broken("iloc", f"ends after {len(self._body)} bytes")
        value = int.from_bytes(self._body[self._at : end], "big")
        self._at = end
        return value


def _parse(iloc: Box) -> _Locations:
    reader = _Reader(iloc.body)
    version, flags, sizes = reader.number(1), reader.number(3), reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 0xF, sizes >> 4 & 0xF
    index_size = sizes & 0xF if version else 0
    id_size = 4 if version > 1 else 2
    items, total = [], 0
    for _ in range(reader.number(id_size)):
        item_id = reader.number(id_size)
        method = reader.number(2) & 0xF if version else _IN_FILE
        data_reference, base = reader.number(2), reader.number(base_size)
        count = reader.number(2)
        total += count + 1
        if total > _MOST_EXTENTS:
            raise broken("iloc", f"has more than {_MOST_EXTENTS} extents")
        extents = []
        for _ in range(count):
            index = reader.number(index_size)
            offset = base + reader.number(offset_size)
            extents.append((index, offset, reader.number(length_size)))
        items.append(_Item(item_id, method, data_reference, tuple(extents)))
    return _Locations(version, flags, length_size, index_size, tuple(items))


def _build(locations: _Locations, moved: Callable[[Extent], int], *, wide: bool) -> Parts:
    """The same items without bases, so that each extent tells its own place."""
    version = locations.version
    elsewhere = max(
        (offset for item in locations.items if not item.is_in_file for _, offset, _ in item.extents),
        default=0,
    )
    offset_size = 8 if wide or elsewhere >> 32 else 4
    id_size = 4 if version > 1 else 2
    parts = [
        U16.pack(offset_size << 12 | locations.length_size << 8 | locations.index_size),
        len(locations.items).to_bytes(id_size, "big"),
    ]
    for item in locations.items:
        parts.append(item.item_id.to_bytes(id_size, "big"))
        if version:
            parts.append(U16.pack(item.method))
        parts.append(U16.pack(item.data_reference) + U16.pack(len(item.extents)))
        for index, offset, length in item.extents:
            place = moved(Extent(offset, length)) if item.is_in_file else offset
            parts.append(index.to_bytes(locations.index_size, "big") if locations.index_size else b"")
            parts.append(place.to_bytes(offset_size, "big"))
            parts.append(length.to_bytes(locations.length_size, "big") if locations.length_size else b"")
    return build_full(b"iloc", *parts, version=version, flags=locations.flags)
