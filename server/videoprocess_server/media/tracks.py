"""What a source has beside its picture, and how it gets into a result: the other tracks, metadata and chapters."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Final

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from videoprocess_server.media.containers import ISO_DEMUXER_MARK
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source
from videoprocess_server.media.track_reports import Tally
from videoprocess_server.media.units import count_units, single_units
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import NotKept

#: muxers that write ISO base media files
ISO_MUXERS: Final = frozenset({"mp4", "mov", "3gp"})
#: a time scale is stored as a signed number of 32 bits by some readers
_MOST_TICKS: Final = 2**31 - 1

#: what describes the old file's bytes and not the recording, lower case
_OF_THE_FILE: Final = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
#: of a track: also what the muxer measures itself, the vendor of an encoder that is not the new one, and the time code,
#: for which FFmpeg would make a track at a frame rate that PyAV cannot tell it
_OF_THE_TRACK: Final = frozenset({"encoder", "vendor_id", "duration", "timecode"})
#: keys FFmpeg writes to MP4 and MOV without being told to keep all; creation_time has fields of its own
_PLAIN_KEYS: Final = frozenset(
    {"creation_time", "title", "artist", "album", "comment", "copyright", "description", "date", "genre"}
)
#: a place of ISO 6709, whose numbers may have leading zeros
_NUMBER: Final = re.compile(r"[+-]\d+(?:\.\d+)?")
_PLACE: Final = re.compile(r"(?:[+-]\d+(?:\.\d+)?){2,3}/?")
#: pictures that H.264 and H.265 may decode before one that is shown earlier
_MOST_REORDERED: Final = 16
#: AV_PKT_DATA_SKIP_SAMPLES begins with the number to skip at the packet's begin
_SKIP: Final = struct.Struct("<I")


def copied_streams(source: InputContainer, video_index: int, muxer: str) -> list[Stream]:
    """The tracks beside the processed one that the muxer takes, in the source's order."""
    return [stream for stream in source.streams if stream.index != video_index and muxer_takes(muxer, stream)]


def muxer_takes(muxer: str, stream: Stream) -> bool:
    """Whether a file with this track alone gets a header.

    FFmpeg's MOV muxer takes any data track and leaves its description empty, so that no reader can use it: what its MP4
    muxer refuses is refused there too. A track that the demuxer has switched off holds chapters, which are written anew.
    """
    if stream.type == "data" and stream.discard == Discard.all:
        return False
    tried = {muxer, "mp4"} if stream.type == "data" and muxer in ISO_MUXERS else {muxer}
    return all(_makes_header(name, stream) for name in tried)


def add_copy(out: OutputContainer, stream: Stream) -> Stream:
    """Adds a track that takes the packets of `stream` as they are."""
    added = out.add_stream_from_template(stream, opaque=True)
    added.metadata.update(track_metadata(stream.metadata))
    added.disposition = stream.disposition
    return added


def container_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of a container's metadata a result gets."""
    return {key: value for key, value in metadata.items() if key.lower() not in _OF_THE_FILE}


def track_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of a track's metadata its copy gets."""
    return {key: value for key, value in metadata.items() if key.lower() not in _OF_THE_TRACK}


def muxer_options(muxer: str, metadata: Mapping[str, str], time_bases: Iterable[Fraction]) -> dict[str, str]:
    """Options that keep metadata whole and start times exact.

    Edit lists count in ticks of the movie; with the least common multiple of all tracks' ticks each start is exact.
    """
    if muxer not in ISO_MUXERS:
        return {}
    scale = 1
    for time_base in time_bases:
        together = lcm(scale, time_base.denominator)
        scale = together if together <= _MOST_TICKS else scale
    options = {"movie_timescale": str(scale)}
    if muxer != "3gp" and not metadata.keys() <= _PLAIN_KEYS:
        options["movflags"] = "use_metadata_tags"
    return options


def copied_packets(
    source: InputContainer, added: Mapping[int, Stream], copied: Sequence[Stream], tally: Tally
) -> Iterator[Packet[Stream]]:
    """The packets of the copied tracks as the demuxer gives them, for their tracks of the result."""
    last: dict[int, int] = {}
    for demuxed in source.demux(copied) if copied else ():
        index = demuxed.stream_index
        if demuxed.size and index not in last:
            tally.unhidden[index] = _unhidden(demuxed)
        for packet in single_units(demuxed) if demuxed.size else ():
            tally.moved[index] += _settle_times(packet, last.get(index))
            last[index] = packet.dts or 0
            tally.packets[index] += count_units(packet)
            tally.rounded[index] += _lies_between(packet, added[index])
            packet.stream = added[index]
            yield packet


def _settle_times(packet: Packet[Stream], last_dts: int | None) -> bool:
    """Gives the packet times that a muxer takes; whether its decode time had to be moved."""
    if packet.dts is None:
        packet.dts = _missing_dts(packet, last_dts)
    moved = last_dts is not None and packet.dts <= last_dts
    if moved:
        packet.dts = (last_dts or 0) + 1
    if packet.pts is None or packet.pts < packet.dts:
        packet.pts = packet.dts
    return moved


def _missing_dts(packet: Packet[Stream], last_dts: int | None) -> int:
    """Matroska has no decode times; FFmpeg works them out but for the first pictures that others are shown before."""
    if isinstance(packet.stream, VideoStream):
        if last_dts is not None:
            return last_dts + 1
        return 0 if packet.pts is None else packet.pts - _MOST_REORDERED
    return packet.pts if packet.pts is not None else (0 if last_dts is None else last_dts + 1)


def _lies_between(packet: Packet[Stream], added: Stream) -> bool:
    """Whether a packet's time is none of its new track's; MP4 counts sound in samples, Matroska in milliseconds."""
    time_base = packet.time_base
    return added.time_base is not None and ((packet.pts or 0) * time_base / added.time_base).denominator != 1


def decode_time(packet: Packet[Stream]) -> Fraction:
    """Seconds at which a packet is decoded."""
    return (packet.dts or 0) * packet.time_base


def rewritten_tracks(source: InputContainer) -> dict[int, str]:
    """Tracks whose content the muxer writes anew from chapters and metadata; index → what is told of it."""
    told = {}
    for stream in source.streams:
        if stream.type == "data" and stream.discard == Discard.all and source.chapters():
            told[stream.index] = "Its chapters are written anew."
    return told


def _unhidden(first: Packet[Stream]) -> int:
    """Samples to skip that the result's edit list will not hide: it begins with the first packet, if that is not before 0."""
    if not first.has_sidedata("skip_samples") or (first.pts or 0) < 0:
        return 0
    (samples,) = _SKIP.unpack_from(bytes(first.get_sidedata("skip_samples")))
    return int(samples)


def count_packets(fd: int, source: InputContainer, pulse: Pulse) -> dict[int, int]:
    """The packets each track has when edit lists are ignored; empty where the container has no edit lists.

    Pictures are counted in the index and not read.
    """
    if ISO_DEMUXER_MARK not in source.format.name.split(","):
        return {}
    counts: dict[int, int] = {}
    with open_source(fd, ignore_edit_list=True) as container:
        for stream in container.streams:
            if isinstance(stream, VideoStream):
                stream.discard = Discard.all
        for packet in container.demux():
            pulse.beat(size=packet.size)
            if packet.size and not isinstance(packet.stream, VideoStream):
                counts[packet.stream_index] = counts.get(packet.stream_index, 0) + count_units(packet)
        for stream in container.streams:
            if isinstance(stream, VideoStream):
                counts[stream.index] = len(stream.index_entries)
    return counts


def metadata_losses(written: InputContainer, expected: Mapping[str, str]) -> Iterator[NotKept]:
    """Compares a result's metadata with what it was given."""
    changed = sorted(
        key for key, value in expected.items() if _reads_otherwise(written.metadata.get(key), value)
    )
    if changed:
        reason = f"The container has no field for, or rounds: {', '.join(changed)}."
        yield NotKept(what=Loss.METADATA, track_index=None, count=len(changed), reason=reason)


def _reads_otherwise(read: str | None, given: str) -> bool:
    if read is None:
        return True
    if _PLACE.fullmatch(given) and _PLACE.fullmatch(read):
        return [Fraction(number) for number in _NUMBER.findall(read)] != [
            Fraction(number) for number in _NUMBER.findall(given)
        ]
    return read.strip() != given.strip()


def _makes_header(muxer: str, stream: Stream) -> bool:
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as out:
            out.add_stream_from_template(stream, opaque=True)
            out.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True
