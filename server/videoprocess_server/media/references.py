"""Whether other frames may refer to a coded one, by what stands in its packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from av.packet import Packet
from av.video.stream import VideoStream

_START_CODE: Final = b"\x00\x00\x01"


def _is_h264_reference(unit: bytes) -> bool | None:
    """ITU-T H.264 7.4.1: nal_ref_idc of a slice; None for what is no slice, True for a forbidden first bit."""
    kind, reference = unit[0] & 31, unit[0] >> 5 & 3
    if unit[0] & 0x80:
        return True
    return bool(reference) if kind in {1, 5} else None


def _is_h265_reference(unit: bytes) -> bool | None:
    """ITU-T H.265 table 7-1: the even types below 16 are of sub-layer non-reference pictures."""
    kind = unit[0] >> 1 & 63
    if unit[0] & 0x80:
        return True
    return bool(kind & 1 or kind >= 16) if kind < 32 else None


#: by codec: where the size of a unit's size stands in avcC and hvcC, and what a unit says
_CODECS: Final[dict[str, tuple[int, Callable[[bytes], bool | None]]]] = {
    "h264": (4, _is_h264_reference),
    "hevc": (21, _is_h265_reference),
}


def is_referred_to(packet: Packet[VideoStream]) -> bool:
    """Whether other frames may refer to the packet's; True where it does not say."""
    context = packet.stream.codec_context
    if context.name not in _CODECS:
        return not packet.is_disposable
    size_at, says = _CODECS[context.name]
    for unit in _units(bytes(packet), context.extradata or b"", size_at):
        answer = says(unit)
        if answer is not None:
            return answer
    return True


def _units(data: bytes, configuration: bytes, size_at: int) -> Iterator[bytes]:
    """The units of a packet: behind their sizes as MP4 and Matroska have them, else behind start codes."""
    if not configuration or configuration[0] != 1 or len(configuration) <= size_at:
        yield from (part for part in data.split(_START_CODE)[1:] if part)
        return
    head, at = (configuration[size_at] & 3) + 1, 0
    while at + head < len(data):
        size = int.from_bytes(data[at : at + head], "big")
        if not 0 < size <= len(data) - at - head:
            return
        yield data[at + head : at + head + size]
        at += head + size
