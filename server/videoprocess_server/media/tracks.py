"""What a Matroska source has beside its picture, and how FFmpeg's muxers get it into a result."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Final

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream
from av.video.stream import VideoStream

from videoprocess_server.media.containers import ISO_MUXERS
from videoprocess_server.media.track_reports import Tally
from videoprocess_server.media.units import count_units, silent_end, single_units
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import NotKept

#: a time scale is stored as a signed number of 32 bits by some readers
_MOST_TICKS: Final = 2**31 - 1

#: what describes the old file's bytes and not the recording, lower case
_OF_THE_FILE: Final = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
#: of a track: also what the muxer measures itself, the vendor of an encoder that is not the new one, and the time code,
#: for which FFmpeg would make a track at a frame rate that PyAV cannot tell it
_OF_THE_TRACK: Final = frozenset({"encoder", "vendor_id", "duration", "timecode"})
#: beginnings of a track's metadata that count the old picture's bytes
_STATISTICS: Final = ("bps", "number_of_", "_statistics_", "duration")
#: keys FFmpeg writes to MP4 without being told to keep all; creation_time has fields of its own
_PLAIN_KEYS: Final = frozenset(
    {"creation_time", "title", "artist", "album", "comment", "copyright", "description", "date", "genre"}
)
#: a place of ISO 6709, whose numbers may have leading zeros
_NUMBER: Final = re.compile(r"[+-]\d+(?:\.\d+)?")
_PLACE: Final = re.compile(r"(?:[+-]\d+(?:\.\d+)?){2,3}/?")
#: pictures that H.264 and H.265 may decode before one that is shown earlier
_MOST_REORDERED: Final = 16


def copied_streams(source: InputContainer, video_index: int, muxer: str) -> list[Stream]:
    """The tracks beside the processed one that the muxer takes, in the source's order."""
    return [stream for stream in source.streams if stream.index != video_index and muxer_takes(muxer, stream)]


def muxer_takes(muxer: str, stream: Stream) -> bool:
    """Whether a file with this track alone gets a header, or the container has another place for it."""
    if attached_file(stream) is not None:
        return muxer not in ISO_MUXERS
    return stream.type != "attachment" and _makes_header(muxer, stream)


def attached_file(stream: Stream) -> tuple[str, str] | None:
    """Name and type of a file that is attached, a cover picture too; None of a track like others."""
    if isinstance(stream, AttachmentStream) or stream.disposition & Disposition.attached_pic:
        metadata = stream.metadata
        return metadata.get("filename", "attachment"), metadata.get("mimetype", "application/octet-stream")
    return None


def add_copy(out: OutputContainer, stream: Stream) -> Stream:
    """Adds a track that takes the packets of `stream` as they are."""
    added = out.add_stream_from_template(stream, opaque=True)
    added.metadata.update(track_metadata(stream.metadata))
    added.disposition = stream.disposition
    return added


def add_attachment(out: OutputContainer, stream: Stream, data: bytes) -> Stream:
    """Adds an attached file."""
    name, mime_type = attached_file(stream) or ("", "")
    added = out.add_attachment(name, mime_type, data)
    added.metadata.update(track_metadata(stream.metadata))
    return added


def container_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of a container's metadata a result gets."""
    return {key: value for key, value in metadata.items() if key.lower() not in _OF_THE_FILE}


def muxable_metadata(metadata: Mapping[str, str], muxer: str) -> dict[str, str]:
    """What of it the muxer may be given: of a time code MP4's makes a track at a rate it is not told, and fails."""
    left_out = "timecode" if muxer in ISO_MUXERS else None
    return {key: value for key, value in metadata.items() if key.lower() != left_out}


def track_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of a track's metadata its copy gets."""
    return {key: value for key, value in metadata.items() if key.lower() not in _OF_THE_TRACK}


def picture_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of the old picture's metadata the new one gets: not what counts its bytes."""
    kept = track_metadata(metadata)
    return {key: value for key, value in kept.items() if not key.lower().startswith(_STATISTICS)}


def ticks_of(stream: Stream) -> Iterator[Fraction]:
    """Units in which all times of a copied track are whole numbers: the source's, and samples, in which sound may end."""
    yield stream.time_base or Fraction(1)
    if rate := getattr(stream.codec_context, "sample_rate", 0):
        yield Fraction(1, rate)


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
    if not {key.lower() for key in metadata} <= _PLAIN_KEYS:
        options["movflags"] = "use_metadata_tags"
    return options


def copied_packets(
    source: InputContainer,
    added: Mapping[int, Stream],
    copied: Sequence[Stream],
    tally: Tally,
    *,
    ascending: bool,
) -> Iterator[Packet[Stream]]:
    """The packets of the copied tracks as the demuxer gives them, for their tracks of the result.

    Args:
        source: freshly opened.
        added: tracks of the result by index of the source's.
        copied: of the source.
        tally: what is written is counted in it.
        ascending: whether no two packets of a track may have one decode time, as in MP4.
    """
    last: dict[int, int] = {}
    for stream in source.streams:
        if stream not in copied:
            stream.discard = Discard.all
    for demuxed in source.demux(copied) if copied else ():
        index = demuxed.stream_index
        for packet in single_units(demuxed) if demuxed.size else ():
            tally.moved[index] += _settle_times(packet, last.get(index), step=int(ascending))
            last[index] = packet.dts or 0
            tally.packets[index] += count_units(packet)
            tally.rounded[index] += _lies_between(packet, added[index])
            if ascending:
                _end_where_sound_ends(packet)
            packet.stream = added[index]
            yield packet


def _end_where_sound_ends(packet: Packet[Stream]) -> None:
    """MP4 has no field for what is not played of a packet's end: the packet is shorter by it."""
    silent = silent_end(packet)
    if not silent or not packet.duration:
        return
    # Matroska's ticks are milliseconds, a part of a packet is samples.
    finer = Fraction(1, lcm(packet.time_base.denominator, silent.denominator))
    times = [ticks * packet.time_base / finer for ticks in (packet.pts or 0, packet.dts or 0)]
    length = max(Fraction(0), packet.duration * packet.time_base - silent) / finer
    packet.time_base, packet.duration = finer, int(length)
    packet.pts, packet.dts = map(int, times)


def _settle_times(packet: Packet[Stream], last_dts: int | None, step: int) -> bool:
    """Gives the packet times that a muxer takes, `step` after the last; whether its decode time had to be moved."""
    if packet.dts is None:
        packet.dts = _missing_dts(packet, last_dts)
    moved = last_dts is not None and packet.dts < last_dts + step
    if moved:
        packet.dts = (last_dts or 0) + step
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


def metadata_losses(
    source: InputContainer, result: InputContainer, places: Mapping[int, int]
) -> Iterator[NotKept]:
    """Compares the metadata of a result and of its tracks with the source's.

    Args:
        source: what it was made of.
        result: as it reads.
        places: track of the source → track of the result.
    """
    compared: list[tuple[int | None, Mapping[str, str], Mapping[str, str]]] = []
    compared.append((None, container_metadata(source.metadata), result.metadata))
    for index, place in places.items():
        stream = source.streams[index]
        kept = (
            picture_metadata(stream.metadata) if stream.type == "video" else track_metadata(stream.metadata)
        )
        compared.append((index, kept, result.streams[place].metadata))
    for track, given, read in compared:
        found = {key.lower(): value for key, value in read.items()}
        changed = sorted(
            key for key, value in given.items() if _reads_otherwise(found.get(key.lower()), value)
        )
        if track is not None and _chosen(source)[track] != _chosen(result)[places[track]]:
            changed.append("disposition")
        if changed:
            reason = f"The container has no field for, or rounds: {', '.join(changed)}."
            yield NotKept(what=Loss.METADATA, track_index=track, count=len(changed), reason=reason)


def _chosen(container: InputContainer) -> list[int]:
    """Dispositions by track; where no track of a kind is the default, a player takes the first, and MP4 says so."""
    with_default = {s.type for s in container.streams if s.disposition & Disposition.default}
    chosen = []
    for stream in container.streams:
        first = stream.type not in with_default
        with_default.add(stream.type)
        chosen.append(int(stream.disposition | Disposition.default if first else stream.disposition))
    return chosen


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
