"""OpenHarmony's serialised camera metadata: the bytes a camera app passes as `mode_setting`.

    message = u32 tag count, u32 item capacity, u32 data capacity, item...
    item    = u32 index, u32 tag, u32 type, u32 count, value...          (little-endian, nothing padded)

The capacities size the C++ side's buffers; here they allocate nothing. The index is the item's place in those buffers.
What a tag means is not known here: see `mode_setting`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, TypeAlias

MAX_BYTES = 256 * 1024
MAX_TAGS = 1000  # the reference's MAX_SUPPORTED_TAGS
MAX_VALUES = 48000  # an item's; the reference's MAX_SUPPORTED_ITEMS

_HEADER = struct.Struct("<3I")
_ITEM = struct.Struct("<4I")
_INLINE_BYTES = 4  # the C++ side keeps values up to this size in the item, larger ones in its data area
_DATA_ALIGNMENT = 8  # of the C++ side's data area

SettingErrorKind: TypeAlias = Literal["malformed", "too_large", "invalid", "unsupported"]
#: a rational is (numerator, denominator)
Value: TypeAlias = int | float | tuple[int, int]


class SettingError(ValueError):
    """A `mode_setting` that cannot be taken.

    Attributes:
        kind: "malformed" and "too_large" are about the bytes; "invalid" is a value nobody could fulfil, "unsupported" one
            that this version cannot.
        field: the setting, by its path in the typed form; `mode_setting` where the bytes as a whole are wrong.
        message: what is wrong, for people.
    """

    def __init__(self, kind: SettingErrorKind, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.kind = kind
        self.field = field
        self.message = message


class ItemType(IntEnum):
    """The type of an item's values."""

    BYTE = 0
    INT32 = 1
    UINT32 = 2
    FLOAT = 3
    INT64 = 4
    DOUBLE = 5
    RATIONAL = 6


@dataclass(frozen=True)
class _Layout:
    """How one value lies in the bytes."""

    code: str
    #: numbers a value is made of
    numbers: int
    #: bytes of a value
    size: int


_LAYOUTS = {
    ItemType.BYTE: _Layout("B", 1, 1),
    ItemType.INT32: _Layout("i", 1, 4),
    ItemType.UINT32: _Layout("I", 1, 4),
    ItemType.FLOAT: _Layout("f", 1, 4),
    ItemType.INT64: _Layout("q", 1, 8),
    ItemType.DOUBLE: _Layout("d", 1, 8),
    ItemType.RATIONAL: _Layout("i", 2, 8),
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One tag with its values."""

    index: int
    tag: int
    type: ItemType
    values: tuple[Value, ...]


def parse(data: bytes) -> tuple[Item, ...]:
    """Read serialised metadata; no bytes at all are no items.

    Any tag is read, also one that comes twice. What the reference's encoder cannot have written is refused: an unknown
    type, more tags than the item capacity holds, missing bytes, bytes left over.

    Raises:
        SettingError: "too_large" for more than MAX_BYTES, "malformed" for what does not parse or is over a limit.
    """
    if not data:
        return ()
    if len(data) > MAX_BYTES:
        raise SettingError(
            "too_large", "mode_setting", f"{len(data)} bytes of metadata; at most {MAX_BYTES} are read"
        )
    if len(data) < _HEADER.size:
        raise _malformed(f"it ends within the header, after {len(data)} bytes")
    tag_count, item_capacity, _ = _HEADER.unpack_from(data)
    if tag_count > min(item_capacity, MAX_TAGS):
        raise _malformed(f"{tag_count} tags; its capacity is {item_capacity} and the limit {MAX_TAGS}")
    items = []
    offset = _HEADER.size
    for _ in range(tag_count):
        item, offset = _read_item(data, offset)
        items.append(item)
    if offset != len(data):
        raise _malformed(f"{len(data) - offset} bytes follow the last item")
    return tuple(items)


def encode(
    items: Iterable[Item], *, item_capacity: int | None = None, data_capacity: int | None = None
) -> bytes:
    """Write metadata as the reference's encoder does.

    Args:
        items: what to write; values must fit their type.
        item_capacity: default: just enough.
        data_capacity: in bytes; default: just enough.
    """
    body = bytearray()
    tag_count = data_bytes = 0
    for item in items:
        values = _write_values(item)
        body += _ITEM.pack(item.index, item.tag, item.type, len(item.values)) + values
        tag_count += 1
        data_bytes += _data_area_bytes(len(values))
    header = _HEADER.pack(
        tag_count,
        tag_count if item_capacity is None else item_capacity,
        data_bytes if data_capacity is None else data_capacity,
    )
    return header + bytes(body)


def _malformed(message: str) -> SettingError:
    return SettingError("malformed", "mode_setting", message)


def _read_item(data: bytes, offset: int) -> tuple[Item, int]:
    """Read the item at `offset`; also return the offset after it."""
    if len(data) - offset < _ITEM.size:
        raise _malformed(f"it ends within the item at byte {offset}")
    index, tag, type_number, count = _ITEM.unpack_from(data, offset)
    offset += _ITEM.size
    if type_number not in _LAYOUTS:
        raise _malformed(f"tag {tag:#010x} has the unknown type {type_number}")
    if count > MAX_VALUES:
        raise _malformed(f"tag {tag:#010x} has {count} values; the limit is {MAX_VALUES}")
    item_type = ItemType(type_number)
    layout = _LAYOUTS[item_type]
    end = offset + count * layout.size
    if end > len(data):
        raise _malformed(f"it ends within the values of tag {tag:#010x}")
    numbers = struct.unpack_from(f"<{count * layout.numbers}{layout.code}", data, offset)
    values = numbers if layout.numbers == 1 else tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return Item(index=index, tag=tag, type=item_type, values=values), end


def _write_values(item: Item) -> bytes:
    layout = _LAYOUTS[item.type]
    numbers: list[int | float] = []
    for value in item.values:
        numbers.extend(value if isinstance(value, tuple) else (value,))
    return struct.pack(f"<{len(item.values) * layout.numbers}{layout.code}", *numbers)


def _data_area_bytes(value_bytes: int) -> int:
    if value_bytes <= _INLINE_BYTES:
        return 0
    return -(-value_bytes // _DATA_ALIGNMENT) * _DATA_ALIGNMENT
