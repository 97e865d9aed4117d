"""What a demuxer gives of each track, as running digests: one pass over a file, a few bytes a track, whatever its length."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av.error
from av.packet import Packet
from av.stream import Discard, Stream

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source
from videoprocess_server.media.units import count_units, is_grouped, silent_end


@dataclass(kw_only=True)
class TrackDigest:
    """One track as the demuxer gave it."""

    #: frames of AMR, samples of PCM's channels, packets of everything else
    units: int = 0
    size_bytes: int = 0
    #: seconds; None without packets
    start: Fraction | None = None
    #: the latest presentation time
    last: Fraction | None = None
    #: where the last packet is no longer played, which may be before it ends; None where it has no duration. A reader's
    #: guess, so it makes no difference by itself
    end: Fraction | None = field(default=None, compare=False)
    #: seconds of the last packet that are not played
    silent_end: Fraction = Fraction(0)
    #: of all bytes
    content: str = ""
    #: of every packet's size, times, flags and side data; of a track that demuxers group as they like, of nothing. The last
    #: packet's duration does not count: where the sample table has none, FFmpeg guesses one by the other tracks
    packets: str = ""


@dataclass
class _Running:
    grouped: bool
    #: ticks of the digested times; None: as they are
    ticks: Fraction | None
    told: TrackDigest = field(default_factory=TrackDigest)
    content: Any = field(default_factory=hashlib.sha256)
    packets: Any = field(default_factory=hashlib.sha256)
    origin: int | None = None
    #: of the packet before
    duration: int | None = None


def digest_tracks(
    fd: int,
    pulse: Pulse,
    *,
    skip: Collection[int],
    ignore_edit_list: bool = False,
    marks: bool = True,
    gaps: bool = False,
    ticks: Mapping[int, Fraction] | None = None,
) -> dict[int, TrackDigest]:
    """Read all packets of a file once.

    Args:
        fd: opened for reading.
        pulse: told of what is read.
        skip: indexes of tracks that are not read.
        ignore_edit_list: whether samples count that the edit list hides; times are then told from the track's first
            decode time on.
        marks: whether flags and side data count; what an edit list hides is told by them, of a file in fragments it is not.
        gaps: whether the file, or what it is compared with, is in fragments. A time between two of them lengthens the sample
            before (ISO/IEC 14496-12, 8.8.12), which FFmpeg tells of a file without fragments only: lengths do not count, nor
            the marks that follow from them.
        ticks: where they are given, only presentation times count, rounded to these time bases by track, and the
            lengths of subtitles: what a container without decode times keeps.

    Raises:
        MediaFault: JOIN_FAILED where the file cannot be read to its end.
    """
    running: dict[int, _Running] = {}
    try:
        with open_source(fd, ignore_edit_list=ignore_edit_list) as container:
            for stream in container.streams:
                if stream.index in skip:
                    stream.discard = Discard.all
                else:
                    time_base = None if ticks is None else ticks.get(stream.index)
                    running[stream.index] = _Running(grouped=is_grouped(stream), ticks=time_base)
            for packet in container.demux():
                track = running.get(packet.stream_index)
                if packet.size and track is not None:
                    _count(packet, track, relative=ignore_edit_list, marks=marks, gaps=gaps)
                    pulse.beat(size=packet.size)
    except av.error.FFmpegError as error:
        raise MediaFault("JOIN_FAILED", "The file's packets cannot be read to the end.") from error
    return {index: _finish(track) for index, track in running.items()}


def _count(packet: Packet[Stream], track: _Running, *, relative: bool, marks: bool, gaps: bool) -> None:
    told = track.told
    told.units += count_units(packet)
    told.size_bytes += packet.size
    track.content.update(packet)
    pts = packet.pts if packet.pts is not None else (packet.dts or 0)
    dts = packet.dts if packet.dts is not None else pts
    if track.origin is None:
        track.origin = dts if relative else 0
        told.start = pts * packet.time_base
    told.last = max(told.last or pts * packet.time_base, pts * packet.time_base)
    told.silent_end = silent_end(packet)
    told.end = (pts + packet.duration) * packet.time_base - told.silent_end if packet.duration else None
    if track.grouped:
        return
    if track.ticks is not None:
        length = packet.duration or 0 if packet.stream.type == "subtitle" else 0
        facts = (packet.size, *(_rounded(time * packet.time_base / track.ticks) for time in (pts, length)))
        track.packets.update(repr(facts).encode())
        return
    facts_of_it = (
        track.duration,
        packet.size,
        pts - track.origin,
        dts - track.origin,
        packet.is_keyframe,
    )
    track.duration = None if gaps else packet.duration
    track.packets.update(repr(facts_of_it).encode())
    if not marks:
        return
    is_discard = None if gaps else packet.is_discard
    track.packets.update(repr((is_discard, packet.is_disposable, packet.is_corrupt)).encode())
    for data in packet.iter_sidedata():
        track.packets.update(data.data_type.encode())
        track.packets.update(bytes(data))


def _finish(track: _Running) -> TrackDigest:
    track.told.content = track.content.hexdigest()
    track.told.packets = track.packets.hexdigest()
    return track.told


def _rounded(ticks: Fraction) -> int:
    """To the nearest, halves away from zero, as FFmpeg's muxers do."""
    return int(ticks + (Fraction(1, 2) if ticks >= 0 else -Fraction(1, 2)))
