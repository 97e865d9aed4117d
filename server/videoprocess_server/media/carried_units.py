"""Carries over what H.265 packets say of their pictures besides the pictures: Dolby Vision, HDR10+, HDR Vivid, time codes.

Pure functions over NAL units (ITU-T H.265, 7.3 and annex D). What they say of a picture holds for the enhanced one, too, as
long as it has the same time, size and colours. Messages that the encoder writes by itself (HDR10's static metadata,
captions) and those that describe the coded bytes (hashes, timing, an encoder's name) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

#: nal_unit_type: pictures have lower ones
_FIRST_NOT_PICTURE: Final = 32
_PREFIX_MESSAGES: Final = 39
_SUFFIX_MESSAGES: Final = 40
#: of Dolby Vision: the metadata of a picture, which is the last unit of its packet, and a second layer
_DOLBY_METADATA: Final = 62
_DOLBY_LAYER: Final = 63
#: a unit's type is in the upper bits of its first byte, after one bit
_TYPE_SHIFT: Final = 1
_TYPE_MASK: Final = 0x3F
_HEADER_BYTES: Final = 2
#: type 39, layer 0, temporal sublayer 0
_PREFIX_HEADER: Final = bytes((_PREFIX_MESSAGES << _TYPE_SHIFT, 1))
_START_CODE: Final = b"\x00\x00\x00\x01"
_SHORT_START_CODE: Final = b"\x00\x00\x01"
_STOP_BIT: Final = b"\x80"
#: the byte that a message's type and size go on after
_GOES_ON: Final = 0xFF

#: payloadType of messages
_T35: Final = 4
_UNREGISTERED: Final = 5
_TIME_CODE: Final = 136
_AMBIENT_VIEWING: Final = 148
#: country, provider and kind of messages of ITU-T T.35: HDR10+ (SMPTE ST 2094-40), HDR Vivid
_T35_KINDS: Final = (b"\xb5\x00\x3c\x00\x01", b"\x26\x00\x04\x00\x05")
#: times of each picture (MISB ST 0604)
_UNREGISTERED_KINDS: Final = (b"MISPmicrosectime", b"MISPnanosectime\x00")

#: hvcC: version, and where the length of units' lengths is
_HVCC_VERSION: Final = 1
_HVCC_LENGTH_SIZE: Final = 21


@dataclass(frozen=True, kw_only=True)
class Units:
    """What goes before and after the picture in a packet, with start codes."""

    before: bytes = b""
    after: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.before or self.after)


NO_UNITS: Final = Units()


#: boxes of a sample entry by which players know what packets carry
_CARRIED_BOXES: Final = frozenset({"dvcC", "dvvC", "dvwC"})


def carried_boxes(unit_length_size: int) -> frozenset[str]:
    """Give the boxes of the source's sample entry that hold where its packets' metadata is carried over."""
    return _CARRIED_BOXES if unit_length_size else frozenset()


class UnitStore:
    """Keeps the units of packets until their frames come, in order of display."""

    def __init__(self, unit_length_size: int) -> None:
        self._length_size = unit_length_size
        self._units: dict[int, Units] = {}

    def note(self, pts: int, packet: bytes) -> None:
        """Note a packet of the source."""
        units = carried_units(packet, self._length_size)
        if units:
            self._units[pts] = units

    def take(self, pts: int) -> Units:
        """Give the units of a frame, and forget those of frames before it."""
        found = self._units.pop(pts, NO_UNITS)
        for passed in [earlier for earlier in self._units if earlier < pts]:
            del self._units[passed]
        return found


def length_size(configuration: bytes) -> int:
    """Give the bytes of each unit's length from an hvcC; 0 where it is none.

    Args:
        configuration: FFmpeg's extradata of the track.
    """
    if len(configuration) <= _HVCC_LENGTH_SIZE or configuration[0] != _HVCC_VERSION:
        return 0
    return (configuration[_HVCC_LENGTH_SIZE] & 3) + 1


def carried_units(packet: bytes, unit_length_size: int) -> Units:
    """Give what of a source's packet its result's packet may carry; of a damaged packet what comes before the damage."""
    messages, metadata = [], b""
    for unit in _units(packet, unit_length_size):
        kind = _kind(unit)
        if kind in {_PREFIX_MESSAGES, _SUFFIX_MESSAGES}:
            messages += [
                message for message in _messages(_unescaped(unit[_HEADER_BYTES:])) if _holds(*message)
            ]
        elif kind == _DOLBY_METADATA:
            metadata += _START_CODE + unit
        elif kind == _DOLBY_LAYER:
            # Its metadata says how to add a layer that the result has not.
            return Units(before=_message_unit(messages))
    return Units(before=_message_unit(messages), after=metadata)


def has_second_layer(packet: bytes, unit_length_size: int) -> bool:
    """Tell whether a packet has Dolby Vision's second layer, without which its metadata does not hold."""
    return any(_kind(unit) == _DOLBY_LAYER for unit in _units(packet, unit_length_size))


def with_units(packet: bytes, units: Units) -> bytes:
    """Put units into a packet of an encoder, whose units have start codes."""
    at = _first_picture(packet)
    return b"".join((packet[:at], units.before, packet[at:], units.after))


def _units(packet: bytes, unit_length_size: int) -> Iterator[bytes]:
    at = 0
    while unit_length_size and at + unit_length_size <= len(packet):
        size = int.from_bytes(packet[at : at + unit_length_size], "big")
        at += unit_length_size
        if size < _HEADER_BYTES or at + size > len(packet):
            return
        yield packet[at : at + size]
        at += size


def _kind(unit: bytes) -> int:
    """Give nal_unit_type; no bytes are no picture."""
    return (unit[0] if unit else 0xFF) >> _TYPE_SHIFT & _TYPE_MASK


def _first_picture(packet: bytes) -> int:
    """Where the start code of the first unit of a picture begins; the packet's end where there is none."""
    at = packet.find(_SHORT_START_CODE)
    while at >= 0:
        unit = at + len(_SHORT_START_CODE)
        if _kind(packet[unit : unit + 1]) < _FIRST_NOT_PICTURE:
            return at - 1 if at and not packet[at - 1] else at
        at = packet.find(_SHORT_START_CODE, unit)
    return len(packet)


def _messages(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Give type and bytes of each message of a unit."""
    at = 0
    while at < len(payload) and payload[at:] != _STOP_BIT:
        kind, at = _number(payload, at)
        size, at = _number(payload, at)
        if at + size > len(payload):
            return
        yield kind, payload[at : at + size]
        at += size


def _number(payload: bytes, at: int) -> tuple[int, int]:
    """Read a type or a size, and tell where what follows begins."""
    value = 0
    while at < len(payload) and payload[at] == _GOES_ON:
        value += _GOES_ON
        at += 1
    return value + (payload[at] if at < len(payload) else 0), at + 1


def _holds(kind: int, message: bytes) -> bool:
    known = _KINDS.get(kind)
    return known is not None and known(message)


_KINDS: Final[Mapping[int, Callable[[bytes], bool]]] = {
    _T35: lambda message: message.startswith(_T35_KINDS),
    _UNREGISTERED: lambda message: message.startswith(_UNREGISTERED_KINDS),
    _TIME_CODE: lambda _message: True,
    _AMBIENT_VIEWING: lambda _message: True,
}


def _message_unit(messages: list[tuple[int, bytes]]) -> bytes:
    """Give a unit of messages with its start code, nothing without any."""
    if not messages:
        return b""
    payload = b"".join(_coded(kind) + _coded(len(message)) + message for kind, message in messages)
    return _START_CODE + _PREFIX_HEADER + _escaped(payload + _STOP_BIT)


def _coded(value: int) -> bytes:
    return bytes([_GOES_ON] * (value // _GOES_ON) + [value % _GOES_ON])


def _unescaped(unit: bytes) -> bytes:
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")


def _escaped(payload: bytes) -> bytes:
    """Put a 3 after two zeros wherever a start code could be read."""
    out = bytearray()
    zeros = 0
    for byte in payload:
        if zeros == len(b"\x00\x00") and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(out)
