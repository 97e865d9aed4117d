"""Joins for a Matroska or WebM source: FFmpeg's muxer writes what the result's container holds, and the rest is named."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.container.core import Flags
from av.packet import Packet
from av.stream import AttachmentStream, Stream
from av.video.stream import VideoStream

from videoprocess_server.media.accounts import Account
from videoprocess_server.media.compare_pictures import loss_of, marks_of
from videoprocess_server.media.containers import ISO_MUXERS
from videoprocess_server.media.encode import renditions_in
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.hdr import is_mapped
from videoprocess_server.media.hdr import picture_metadata as picture_metadata_of
from videoprocess_server.media.iso.added import NewPicture
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.iso.transplant import transplant
from videoprocess_server.media.join_maker import maker_tracks
from videoprocess_server.media.own_files import open_own
from videoprocess_server.media.probe import first_frame
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.segment_files import Pictures
from videoprocess_server.media.source import open_source, video_stream
from videoprocess_server.media.track_reports import Tally, report_losses, report_tracks
from videoprocess_server.media.tracks import (
    add_attachment,
    add_copy,
    attached_file,
    container_metadata,
    copied_packets,
    copied_streams,
    decode_time,
    metadata_losses,
    muxable_metadata,
    muxer_options,
    picture_metadata,
    ticks_of,
)
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import NotKept, Rendition
from videoprocess_server.model.tasks import JoinTask


def write(task: JoinTask, fd: int, pictures: Pictures, pulse: Pulse) -> Account:
    """Write the result into the file that is there, and tell what became of each track.

    Raises:
        MediaFault: JOIN_FAILED, the source cannot be read to its end or the muxer refuses.
    """
    tally, rendition = Tally(), task.plan.renditions[task.rendition_index]
    try:
        with open_source(fd) as source:
            attached = _attached_files(source)
        with open_source(fd) as source:
            _write(task, source, attached, pictures, tally, pulse)
        with open_source(fd) as source, open_own(task.output_path) as result:
            places = dict(zip(sorted(tally.kept), range(len(result.streams)), strict=False))
            metadata = tuple(metadata_losses(source, result, places))
            place = places[task.media.video.index]
            marks = tuple(_lost_marks(source, task, rendition, result, place))
        if rendition.container in ISO_MUXERS and (task.maker or task.plan.moov_first):
            _rewrite(task, place, pictures, pulse)
    except OSError:  # the disk's answer is no fault of the muxer
        raise
    except av.error.FFmpegError as error:
        raise MediaFault("JOIN_FAILED", f"The result cannot be written: {error.strerror}.") from error
    tracks = report_tracks(task.media, task.plan, rendition.container, tally)
    losses = report_losses(task.media.video.index, tracks, tally)
    return Account(tracks=tracks, not_kept=(*losses, *metadata, *marks))


def _write(
    task: JoinTask,
    source: InputContainer,
    attached: Mapping[int, bytes],
    pictures: Pictures,
    tally: Tally,
    pulse: Pulse,
) -> None:
    rendition = task.plan.renditions[task.rendition_index]
    picture = task.media.video.index
    copied = copied_streams(source, picture, rendition.container)
    ticks = [task.plan.output_time_base, *(tick for stream in copied for tick in ticks_of(stream))]
    metadata = container_metadata(source.metadata)
    options = muxer_options(rendition.container, metadata, ticks)
    with (
        open_own(task.segment_paths[0]) as first,
        av.open(task.output_path, "w", format=rendition.container, options=options) as out,
    ):
        # Without it Matroska draws a random number and every muxer writes FFmpeg's version.
        out.flags |= cast("int", Flags.bitexact.value)
        out.metadata.update(muxable_metadata(metadata, rendition.container))
        out.set_chapters(source.chapters())
        added: dict[int, Stream] = {}
        for stream in source.streams:
            if stream.index == picture:
                added[stream.index] = _add_video(out, _encoded(task, first), stream, task, rendition)
            elif stream in copied and stream.index in attached:
                added[stream.index] = add_attachment(out, stream, attached[stream.index])
                tally.packets[stream.index] = 1
            elif stream in copied:
                added[stream.index] = add_copy(out, stream)
        out.start_encoding()
        tally.kept.update(added)
        demuxed = [stream for stream in copied if stream.index not in attached]
        packets = heapq.merge(
            _pictures(pictures, added[picture], task.plan.output_time_base),
            copied_packets(source, added, demuxed, tally, ascending=rendition.container in ISO_MUXERS),
            key=decode_time,
        )
        for packet in packets:
            tally.packets[picture] += packet.stream_index == added[picture].index
            size = packet.size
            out.mux_one(packet)
            pulse.beat(frames=tally.packets[picture], size=size)


def _attached_files(source: InputContainer) -> dict[int, bytes]:
    """Attached files by index; a cover picture is its track's only packet, and comes before those of all others."""
    files = {s.index: s.data for s in source.streams if isinstance(s, AttachmentStream)}
    covers = {s.index for s in source.streams if attached_file(s) is not None} - files.keys()
    for packet in source.demux() if covers else ():
        if packet.stream_index in covers:
            files[packet.stream_index] = bytes(packet)
        if covers <= files.keys():
            break
    return files


def _encoded(task: JoinTask, first: InputContainer) -> VideoStream:
    """The rendition's track in the first segment's file."""
    plan = task.plan
    place = renditions_in(plan, plan.segments[0]).index(plan.renditions[task.rendition_index])
    return first.streams.video[place]


def _add_video(
    out: OutputContainer, encoded: VideoStream, original: Stream, task: JoinTask, rendition: Rendition
) -> VideoStream:
    # add_stream would open an encoder, whose parameter sets replace those of the packets.
    added = out.add_stream_from_template(encoded, opaque=True)
    added.time_base = task.plan.output_time_base
    added.metadata.update(picture_metadata(original.metadata))
    added.disposition = original.disposition
    added.codec_context.codec_tag = rendition.encoder.codec_tag
    if rendition.encoder.sample_aspect_ratio:
        added.codec_context.sample_aspect_ratio = rendition.encoder.sample_aspect_ratio
    if rendition.display_matrix:
        added.set_display_matrix(rendition.display_matrix)
    return added


def _pictures(pictures: Pictures, added: Stream, time_base: Fraction) -> Iterator[Packet[Stream]]:
    for number, data in enumerate(pictures.read()):
        packet: Packet[Stream] = Packet(data)
        packet.stream, packet.time_base = added, time_base
        packet.pts, packet.dts = int(pictures.pts[number]), int(pictures.dts[number])
        packet.duration, packet.is_keyframe = int(pictures.duration[number]), bool(pictures.sync[number])
        yield packet


def _lost_marks(
    source: InputContainer, task: JoinTask, rendition: Rendition, result: InputContainer, place: int
) -> Iterator[NotKept]:
    """What FFmpeg's muxer takes over from its own encoder only, or finds beside the parameter sets."""
    index = task.media.video.index
    mapped = is_mapped(task.media.video.colour, rendition.encoder.colour)
    before = first_frame(source, video_stream(source, index))
    after = first_frame(result, video_stream(result, place))
    for mark in marks_of(before):
        reason = f"The {mark} of the picture cannot be given to FFmpeg's muxer."
        yield NotKept(what=Loss.PICTURE_MARKS, track_index=index, count=1, reason=reason)
    for kind in {*picture_metadata_of(before)} - {*picture_metadata_of(after)}:
        if mapped and loss_of(kind) is Loss.HDR_METADATA:
            continue
        reason = f"The {kind.value} metadata of the first picture is not in the result."
        yield NotKept(what=loss_of(kind), track_index=index, count=1, reason=reason)


def _rewrite(task: JoinTask, place: int, pictures: Pictures, pulse: Pulse) -> None:
    """Puts the index first, or our own track in, which FFmpeg's muxer does not do in one pass.

    The file that is there loses its name and is read from while its successor is written.
    """
    path = Path(task.output_path)
    with path.open("rb") as muxed:
        path.unlink()
        movie = read_movie(muxed.fileno())
        picture = movie.tracks[place]
        encoder = task.plan.renditions[task.rendition_index].encoder
        same = NewPicture(
            track_id=picture.track_id,
            timescale=task.plan.output_time_base.denominator,
            sample_entry=picture.sample_entries[0],
            pts=pictures.pts,
            dts=pictures.dts,
            size=pictures.size,
            sync=pictures.sync,
            shown_until=pictures.shown_until,
            width=encoder.width,
            height=encoder.height,
            sample_aspect_ratio=encoder.sample_aspect_ratio or None,
            read=pictures.read,
        )
        with path.open("xb") as out:
            transplant(
                muxed.fileno(),
                out,
                same,
                added=maker_tracks(task, pictures, picture.track_id),
                moov_first=bool(task.plan.moov_first),
                beat=lambda size: pulse.beat(size=size),
            )
