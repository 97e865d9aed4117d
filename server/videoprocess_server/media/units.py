"""Counts what a packet holds, where demuxers cut a track's bytes into packets as they like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from av.packet import Packet
from av.stream import Stream

from videoprocess_server.media.faults import MediaFault

#: 3GPP TS 26.101 and 26.201 with the storage format of RFC 4867: bytes of a frame by the four bits of its type
_AMR_SIZES: Final = {
    "amr_nb": (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1),
    "amr_wb": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
}
#: seconds are 50 frames of AMR
_AMR_FRAMES_PER_SECOND: Final = 50


def count_units(packet: Packet[Stream]) -> int:
    """Frames of AMR, samples of PCM, of which each channel has its own, and of everything else the packet itself.

    PyAV is not asked for channels: reading them frees the layout of a context that has one of its own (double free).
    """
    codec = _codec(packet)
    if codec in _AMR_SIZES:
        return sum(1 for _ in _amr_frames(bytes(packet), _AMR_SIZES[codec]))
    if codec.startswith("pcm_"):
        return packet.size // _pcm_bytes(codec)
    return 1


def is_grouped(stream: Stream) -> bool:
    """Whether demuxers cut the track's bytes into packets as they like."""
    codec = _codec_of(stream)
    return codec in _AMR_SIZES or codec.startswith("pcm_")


def single_units(packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
    """The packet as FFmpeg's muxers take it: a frame of AMR is a packet of its own there."""
    codec = _codec(packet)
    if codec not in _AMR_SIZES:
        yield packet
        return
    ticks = round(1 / (_AMR_FRAMES_PER_SECOND * packet.time_base))
    for number, data in enumerate(_amr_frames(bytes(packet), _AMR_SIZES[codec])):
        single: Packet[Stream] = Packet(data)
        single.stream, single.time_base, single.is_keyframe = packet.stream, packet.time_base, True
        single.pts = single.dts = (packet.dts or 0) + number * ticks
        single.duration = ticks
        yield single


def silent_end(packet: Packet[Stream]) -> Fraction:
    """Seconds at a packet's end that are not played, where a coder had to fill it up."""
    rate = getattr(packet.stream.codec_context, "sample_rate", 0)
    told = next((bytes(data) for data in packet.iter_sidedata() if data.data_type == "skip_samples"), b"")
    return Fraction(int.from_bytes(told[4:8], "little"), rate) if rate else Fraction(0)


def _codec(packet: Packet[Stream]) -> str:
    return _codec_of(packet.stream)


def _codec_of(stream: Stream) -> str:
    context = stream.codec_context
    return context.codec.canonical_name if context and stream.type == "audio" else ""


def _pcm_bytes(codec: str) -> int:
    """Bytes of a sample of one channel; the logarithmic ones have no number in their name and 8 bits."""
    bits = re.search(r"\d+", codec)
    return max(1, int(bits[0]) // 8) if bits else 1


def _amr_frames(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        size = sizes[data[start] >> 3 & 15]
        if start + size > len(data):
            raise MediaFault("JOIN_FAILED", "A packet of AMR sound ends within a frame.")
        yield data[start : start + size]
        start += size
