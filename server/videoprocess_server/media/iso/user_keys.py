"""User metadata under free names, such as com.apple.quicktime.make: moov/meta of handler mdta."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from videoprocess_server.media.iso.boxes import (
    HEAD,
    U32,
    Box,
    Parts,
    broken,
    build,
    build_full,
    joined,
    parse,
    split,
    unpack,
)

_HANDLER: Final = b"mdta"
_MDTA: Final = int.from_bytes(_HANDLER, "big")
_HANDLER_AT: Final = 8
_VALUE: Final = struct.Struct(">II")
_COUNT: Final = struct.Struct(">4xI")
_OWN_BOXES: Final = frozenset({b"keys", b"ilst"})
_UTF8, _FLOAT32 = 1, 23
#: names in one file; phones write about ten
_MOST_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class UserValue:
    """A value and how it is written."""

    #: number of QuickTime's list of well-known types
    type: int
    data: bytes
    #: country and language, 0 for all
    locale: int = 0

    @classmethod
    def text(cls, value: str) -> UserValue:
        """A text in UTF-8."""
        return cls(_UTF8, value.encode())

    @classmethod
    def float32(cls, value: float) -> UserValue:
        """A number in 32 bits."""
        return cls(_FLOAT32, struct.pack(">f", value))

    def as_text(self) -> str | None:
        """The text, None where it is none."""
        return self.data.decode("utf-8", "replace") if self.type == _UTF8 else None

    def as_float32(self) -> float | None:
        """The number, None where it is none in 32 bits."""
        if self.type != _FLOAT32 or len(self.data) != U32.size:
            return None
        return float(struct.unpack(">f", self.data)[0])


def meta_body_at(meta: Box) -> int:
    """Where a meta box's own boxes begin: ISO's has version and flags before them, QuickTime's has not."""
    body = meta.body
    return 0 if len(body) >= HEAD.size and bytes(body[4:8]) in {b"hdlr", b"keys", b"ilst"} else 4


def meta_boxes(meta: Box) -> tuple[list[Box], memoryview]:
    """The boxes in a meta box, and what is after them."""
    return split(meta.body[meta_body_at(meta) :], "meta")


def has_user_keys(meta: Box) -> bool:
    """Whether a meta box is of the kind that has free names."""
    boxes, _ = meta_boxes(meta)
    handler = next((box for box in boxes if box.kind == b"hdlr"), None)
    return handler is not None and bytes(handler.body[_HANDLER_AT : _HANDLER_AT + 4]) == _HANDLER


def read_user_keys(meta: Box | None) -> dict[str, UserValue]:
    """The values by name, of a movie's meta box.

    Raises:
        MediaFault: its boxes contradict themselves.
    """
    if meta is None or not has_user_keys(meta):
        return {}
    boxes, _ = meta_boxes(meta)
    names = [name for box in boxes if box.kind == b"keys" for name in _names(box)]
    values: dict[str, UserValue] = {}
    for item in _items(boxes):
        number = int.from_bytes(item.kind, "big")
        value = _value(item)
        if 0 < number <= len(names) and value is not None:
            values.setdefault(names[number - 1].decode("utf-8", "replace"), value)
    return values


def write_user_keys(meta: Box | None, values: Mapping[str, UserValue], *, is_quicktime: bool) -> Parts:
    """A meta box with these values added, or in the place of those of the same name.

    Args:
        meta: a movie's, of handler mdta; None where it has none.
        values: by name.
        is_quicktime: how a new box is to be written.
    """
    if meta is None:
        version = b"" if is_quicktime else b"\0\0\0\0"
        handler = build_full(b"hdlr", bytes(4) + _HANDLER + bytes(13))
        meta = parse(joined(build(b"meta", version, *handler)))
    boxes, tail = meta_boxes(meta)
    names = [name for box in boxes if box.kind == b"keys" for name in _names(box)]
    numbers: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        numbers.setdefault(name.decode("utf-8", "replace"), number)
    for added in values:
        if added not in numbers:
            names.append(added.encode())
            numbers[added] = len(names)
    replaced = {numbers[key].to_bytes(4, "big") for key in values}
    items: Parts = [item.data for item in _items(boxes) if item.kind not in replaced]
    for key, value in values.items():
        data = build(b"data", _VALUE.pack(value.type, value.locale), value.data)
        items += build(numbers[key].to_bytes(4, "big"), *data)
    table = b"".join(_VALUE.pack(len(name) + _VALUE.size, _MDTA) + name for name in names)
    written = {
        b"keys": build_full(b"keys", U32.pack(len(names)), table),
        b"ilst": build(b"ilst", *items),
    }
    parts: Parts = [meta.body[: meta_body_at(meta)]]
    for box in boxes:
        parts += written.pop(box.kind, []) if box.kind in _OWN_BOXES else [box.data]
    for missing in written.values():
        parts += missing
    return build(b"meta", *parts, tail)


def _names(keys: Box) -> Iterator[bytes]:
    (count,) = unpack(_COUNT, keys, 0)
    if count > _MOST_KEYS:
        raise broken("keys", f"says it has {count} names")
    at = _COUNT.size
    for _ in range(count):
        size, _ = unpack(HEAD, keys, at)
        if not HEAD.size <= size <= len(keys.body) - at:
            raise broken("keys", f"has a name of {size} bytes")
        yield bytes(keys.body[at + HEAD.size : at + size])
        at += size


def _items(boxes: list[Box]) -> Iterator[Box]:
    for box in boxes:
        if box.kind == b"ilst":
            yield from split(box.body, "ilst")[0]


def _value(item: Box) -> UserValue | None:
    for data in split(item.body, "ilst")[0]:
        if data.kind == b"data" and len(data.body) >= _VALUE.size:
            kind, locale = _VALUE.unpack_from(data.body)
            return UserValue(kind, bytes(data.body[_VALUE.size :]), locale)
    return None
