"""Makes one file of the segments: their packets, and the source's other tracks packet by packet."""

from __future__ import annotations

import hashlib
import heapq
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np
from av.container import InputContainer, OutputContainer
from av.container.core import Flags
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videoprocess_server.media.encode import renditions_in
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.own_files import open_own, settle
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source
from videoprocess_server.media.timestamps import rebuild_dts_array
from videoprocess_server.media.track_reports import Tally, report_losses, report_tracks
from videoprocess_server.media.tracks import (
    ISO_MUXERS,
    add_copy,
    container_metadata,
    copied_packets,
    copied_streams,
    count_packets,
    decode_time,
    metadata_losses,
    muxer_options,
    rewritten_tracks,
    track_metadata,
)
from videoprocess_server.model.plan import Plan, Rendition
from videoprocess_server.model.tasks import JoinResult, JoinTask, TaskMessage


@dataclass(frozen=True)
class _Timeline:
    """When each packet of the picture is decoded and how long it is shown, in ticks of the encoder, in decode order."""

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    duration: NDArray[np.int64]


def join(task: JoinTask, fd: int, emit: Callable[[TaskMessage], None]) -> JoinResult:
    """Writes the result beside everything else the source has; the same bytes whenever it is called.

    Args:
        task: the plan, its segments' files and where to write.
        fd: the source, opened for reading.
        emit: is told about twice a second how far it is.

    Returns:
        What was written and what was not; file and directory are on the disk.

    Raises:
        MediaFault: JOIN_FAILED, the segments are not those of the plan or the muxer refuses.
        FileExistsError: the output path exists.
    """
    started = time.process_time()
    rendition = task.plan.renditions[task.rendition_index]
    path = Path(task.output_path)
    with path.open("xb"):
        pass
    pulse = Pulse(emit)
    try:
        timeline = _read_timeline(task, pulse)
        with open_source(fd) as source:
            expected = container_metadata(source.metadata)
            totals = count_packets(fd, source, pulse)
        tally = _write(task, fd, timeline, pulse)
        with open_own(task.output_path) as written:
            metadata = tuple(metadata_losses(written, expected))
    except OSError:  # the disk's answer is no fault of the muxer
        raise
    except av.error.FFmpegError as error:
        raise MediaFault("JOIN_FAILED", f"The result cannot be written: {error.strerror}.") from error
    tracks = report_tracks(task.media, task.plan, rendition.container, totals, tally)
    losses = tuple(report_losses(task.plan, tracks, tally))
    size, digest = settle(path, pulse)
    return JoinResult(
        size_bytes=size,
        sha256=digest,
        tracks=tracks,
        not_kept=(*losses, *metadata),
        cpu_seconds=time.process_time() - started,
    )


def _read_timeline(task: JoinTask, pulse: Pulse) -> _Timeline:
    """Reads the time stamps of all segments and compares them with the plan."""
    plan, rendition = task.plan, task.plan.renditions[task.rendition_index]
    pts = array("q")
    parameter_sets: bytes | None = None
    shown_until: int | None = None
    if len(task.segment_paths) != len(plan.segments):
        raise MediaFault("JOIN_FAILED", f"{len(task.segment_paths)} files for {len(plan.segments)} segments.")
    for segment, segment_path in zip(plan.segments, task.segment_paths, strict=True):
        before = len(pts)
        with open_own(segment_path) as container:
            stream = own_track(container, plan, segment.index, rendition)
            found = stream.codec_context.extradata or b""
            if parameter_sets not in {None, found}:
                raise MediaFault(
                    "JOIN_FAILED", f"Segment {segment.index} has other parameter sets than the one before."
                )
            parameter_sets = found
            pts.extend(_ticks(packet, plan) for packet in container.demux(stream) if packet.size)
        pulse.beat(size=Path(segment_path).stat().st_size)
        own = pts[before:]
        if len(own) != segment.frame_count:
            raise MediaFault(
                "JOIN_FAILED",
                f"Segment {segment.index} has {len(own)} frames where the plan has {segment.frame_count}.",
            )
        if shown_until is not None and min(own) <= shown_until:
            raise MediaFault(
                "JOIN_FAILED", f"Segment {segment.index} is not what comes after the one before."
            )
        shown_until = max(own)
    return _timeline(np.frombuffer(pts, dtype=np.int64), plan)


def _timeline(pts: NDArray[np.int64], plan: Plan) -> _Timeline:
    shown = np.sort(pts)
    digest = hashlib.sha256()
    for part in np.array_split(shown, max(1, len(shown) // 4096)):
        digest.update("".join(f"{tick}\n" for tick in part.tolist()).encode())
    if len(shown) != plan.frame_count or digest.hexdigest() != plan.pts_sha256:
        raise MediaFault("JOIN_FAILED", "The segments' time stamps are not those of the plan.")
    end = round(plan.end_pts * plan.time_base / plan.output_time_base)
    following = np.append(shown[1:], max(end, int(shown[-1]) + 1))
    durations = following - shown
    step = int(durations[0])
    return _Timeline(
        pts=pts, dts=rebuild_dts_array(pts, step), duration=durations[np.searchsorted(shown, pts)]
    )


def _ticks(packet: Packet[VideoStream], plan: Plan) -> int:
    """The packet's time stamp in ticks of the encoder, which its file must tell exactly."""
    if packet.pts is None:
        raise MediaFault("JOIN_FAILED", "A segment's packet has no time stamp.")
    ticks = packet.pts * packet.time_base / plan.output_time_base
    if ticks.denominator != 1:
        raise MediaFault("JOIN_FAILED", "A segment's time stamp lies between two ticks of the plan.")
    return int(ticks)


def _write(task: JoinTask, fd: int, timeline: _Timeline, pulse: Pulse) -> Tally:
    plan, tally = task.plan, Tally()
    rendition = plan.renditions[task.rendition_index]
    with open_source(fd) as source, open_own(task.segment_paths[0]) as first:
        copied = copied_streams(source, plan.video_track_index, rendition.container)
        metadata = container_metadata(source.metadata)
        ticks = [plan.output_time_base, *(stream.time_base or Fraction(1) for stream in copied)]
        options = muxer_options(rendition.container, metadata, ticks)
        with av.open(task.output_path, "w", format=rendition.container, options=options) as out:
            # Without it Matroska draws a random number and every muxer writes FFmpeg's version.
            out.flags |= cast("int", Flags.bitexact.value)
            out.metadata.update(metadata)
            out.set_chapters(source.chapters())
            added: dict[int, Stream] = {}
            for stream in source.streams:
                if stream.index == plan.video_track_index:
                    added[stream.index] = _add_video(
                        out, own_track(first, plan, 0, rendition), stream, plan, rendition
                    )
                elif stream in copied:
                    added[stream.index] = add_copy(out, stream)
                    if (
                        rendition.container not in ISO_MUXERS
                        and stream.disposition & Disposition.attached_pic
                    ):
                        tally.unmarked_covers.add(stream.index)
            out.start_encoding()
            tally.kept.update(added)
            tally.rewritten.update(rewritten_tracks(source))
            pictures = _pictures(task, timeline, added[plan.video_track_index], tally)
            for packet in heapq.merge(
                pictures, copied_packets(source, added, copied, tally), key=decode_time
            ):
                size = packet.size
                out.mux_one(packet)
                pulse.beat(frames=tally.packets[plan.video_track_index], size=size)
    return tally


def _add_video(
    out: OutputContainer, encoded: VideoStream, original: Stream, plan: Plan, rendition: Rendition
) -> VideoStream:
    # add_stream would open an encoder, whose parameter sets replace those of the packets.
    added = out.add_stream_from_template(encoded, opaque=True)
    added.time_base = plan.output_time_base
    added.metadata.update(track_metadata(original.metadata))
    added.disposition = original.disposition
    added.codec_context.codec_tag = rendition.encoder.codec_tag
    if rendition.encoder.sample_aspect_ratio:
        added.codec_context.sample_aspect_ratio = rendition.encoder.sample_aspect_ratio
    if rendition.display_matrix:
        added.set_display_matrix(rendition.display_matrix)
    return added


def _pictures(task: JoinTask, timeline: _Timeline, added: Stream, tally: Tally) -> Iterator[Packet[Stream]]:
    """The packets of all segments, with the times of the whole."""
    plan, rendition = task.plan, task.plan.renditions[task.rendition_index]
    index = plan.video_track_index
    for segment, path in zip(plan.segments, task.segment_paths, strict=True):
        with open_own(path) as container:
            track: Stream = own_track(container, plan, segment.index, rendition)
            for packet in container.demux(track):
                if not packet.size:
                    continue
                k = tally.packets[index]
                tally.packets[index] += 1
                packet.stream = added
                packet.time_base = task.plan.output_time_base
                packet.pts, packet.dts = int(timeline.pts[k]), int(timeline.dts[k])
                packet.duration = int(timeline.duration[k])
                yield packet


def own_track(container: InputContainer, plan: Plan, segment_index: int, rendition: Rendition) -> VideoStream:
    """Give the track of a rendition in a segment's file."""
    return container.streams.video[renditions_in(plan, plan.segments[segment_index]).index(rendition)]
