"""Messages that stand beside H.265's parameter sets, in the sample entry: iPhones tell the light around the viewer there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from videoprocess_server.media.carried_units import carried_units
from videoprocess_server.media.iso.boxes import Box, build, joined, parse, split

#: of a visual sample entry: where its boxes begin in its body
_BOXES_AT: Final = 78
_CONFIGURATION: Final = b"hvcC"
#: of an hvcC: where the number of its arrays stands; each has a byte of type, a count, and units with 16 bits of length
_ARRAYS_AT: Final = 22
_TYPE_MASK: Final = 0x3F
_PREFIX_MESSAGES: Final = 39
_START_CODE_BYTES: Final = 4
_MOST_ARRAYS: Final = 255


def with_carried_messages(entry: bytes, source: bytes) -> bytes:
    """Give a sample entry of H.265 those messages of the source's that hold for every picture of the result.

    Args:
        entry: of the encoder, a whole box.
        source: of the picture it replaces.

    Raises:
        MediaFault: boxes that contradict themselves.
    """
    new, old = parse(entry), parse(source)
    boxes, tail = split(new.body[_BOXES_AT:], new.name)
    sources = [box for box in split(old.body[_BOXES_AT:], old.name)[0] if box.kind == _CONFIGURATION]
    units = [unit for box in sources for unit in _messages(bytes(box.body))]
    if not units:
        return entry
    parts = [
        part
        for box in boxes
        for part in (_with_messages(box, units) if box.kind == _CONFIGURATION else [box.data])
    ]
    return joined(build(new.kind, new.body[:_BOXES_AT], *parts, tail))


def _messages(configuration: bytes) -> Iterator[bytes]:
    """The units of messages of an hvcC, with what of them holds."""
    at = _ARRAYS_AT + 1
    for _ in range(configuration[_ARRAYS_AT] if len(configuration) > _ARRAYS_AT else 0):
        kind = configuration[at] & _TYPE_MASK if at < len(configuration) else 0
        count = int.from_bytes(configuration[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(configuration[at : at + 2], "big")
            unit = configuration[at + 2 : at + 2 + size]
            at += 2 + size
            if at > len(configuration):
                return
            held = (
                carried_units(size.to_bytes(4, "big") + unit, 4).before if kind == _PREFIX_MESSAGES else b""
            )
            if held:
                yield held[_START_CODE_BYTES:]


def _with_messages(box: Box, units: list[bytes]) -> list[bytes | memoryview]:
    configuration = bytes(box.body)
    if len(configuration) <= _ARRAYS_AT or configuration[_ARRAYS_AT] == _MOST_ARRAYS:
        return [box.data]
    count = bytes([configuration[_ARRAYS_AT] + 1])
    array = bytes([_PREFIX_MESSAGES]) + len(units).to_bytes(2, "big")
    array += b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)
    return build(box.kind, configuration[:_ARRAYS_AT] + count, configuration[_ARRAYS_AT + 1 :] + array)
