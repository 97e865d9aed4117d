"""Runs media tasks in the test's own process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame

from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.plan import make_plan
from videoprocess_server.media.probe import probe
from videoprocess_server.media.segments import encode_segments, filtered_frames
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.plan import NoiseEstimate, Plan, PlanSettings, SegmentPlan
from videoprocess_server.model.settings_snapshot import ModeSetting, Snapshot, StreamInfo
from videoprocess_server.model.tasks import (
    EncodeTask,
    MediaLimits,
    PlanTask,
    ProbeTask,
    SegmentDone,
    TaskMessage,
)

#: too little to be denoised, which takes long
SOME_NOISE = NoiseEstimate(sigma_y=1.2, sigma_u=1.0, sigma_v=1.0, frame_count=3)
VIDEO_STREAM = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO)
#: a temporal filter with its exact window, and a spatial one
TEMPORAL = ("atadenoise=s=9", "cas=strength=0.5:planes=1")


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def probe_file(path: Path, limits: MediaLimits | None = None) -> MediaInfo:
    with opened(path) as fd:
        return probe(ProbeTask(limits=limits or MediaLimits()), fd)


def plan_file(
    path: Path,
    *,
    setting: ModeSetting | None = None,
    streams: Sequence[StreamInfo] = (VIDEO_STREAM,),
    enhance_from_us: int = 0,
    segment_seconds: Fraction = Fraction(4),
    longest_gop_seconds: Fraction | None = None,
    media: MediaInfo | None = None,
    companion: MediaInfo | None = None,
    noise: NoiseEstimate = SOME_NOISE,
    emit: Callable[[TaskMessage], None] | None = None,
) -> Plan:
    task = PlanTask(
        media=media or probe_file(path),
        companion=companion,
        snapshot=Snapshot(streams=tuple(streams), mode_setting=setting or ModeSetting()),
        enhance_from_us=enhance_from_us,
        noise=noise,
        settings=PlanSettings(
            segment_seconds=segment_seconds, longest_gop_seconds=longest_gop_seconds or 2 * segment_seconds
        ),
    )
    with opened(path) as fd:
        return make_plan(task, fd, emit)


def with_enhancement(plan: Plan, filters: tuple[str, ...] = TEMPORAL, window: int = 4) -> Plan:
    """The same plan with another chain; decoding starts at the first frame, which is early enough for any window."""
    segments = tuple(replace(segment, decode_from_pts=plan.first_pts) for segment in plan.segments)
    chain = replace(plan.filters, enhancement=filters, pre_roll_frames=window, post_roll_frames=window)
    return replace(plan, filters=chain, segments=segments)


def as_one_segment(plan: Plan) -> Plan:
    """The same plan without any cut."""
    first, last = plan.segments[0], plan.segments[-1]
    whole = SegmentPlan(
        index=0,
        start_pts=first.start_pts,
        end_pts=last.end_pts,
        decode_from_pts=first.decode_from_pts,
        source_frame_count=sum(segment.source_frame_count for segment in plan.segments),
        frame_count=sum(segment.frame_count for segment in plan.segments),
        enhanced=last.enhanced,
    )
    return replace(plan, segments=(whole,))


def picture_hash(frame: VideoFrame) -> str:
    """SHA-256 of the visible samples."""
    digest = hashlib.sha256()
    for plane in frame.planes:
        data, row = bytes(plane), plane.width * (2 if "10le" in frame.format.name else 1)
        for line in range(plane.height):
            digest.update(data[line * plane.line_size : line * plane.line_size + row])
    return digest.hexdigest()


def filtered_hashes(path: Path, plan: Plan, segments: Sequence[SegmentPlan]) -> list[tuple[int, str]]:
    """Time stamp and pixels of every frame that the segments would encode, made in one run."""
    with opened(path) as fd:
        return [
            (frame.picture.pts or 0, picture_hash(frame.picture))
            for frame in filtered_frames(plan, tuple(segments), fd)
        ]


def rendered_frames(path: Path, plan: Plan, segments: Sequence[SegmentPlan]) -> list[VideoFrame]:
    """What the first rendition's encoder gets."""
    chain, rendered = None, []
    with opened(path) as fd:
        for frame in filtered_frames(plan, tuple(segments), fd):
            chain = chain or FilterChain(plan.renditions[0].geometry, plan.output_time_base)
            rendered += chain.push(frame.picture)
    return rendered


def encode(path: Path, plan: Plan, segments: Sequence[SegmentPlan], folder: Path) -> tuple[SegmentDone, ...]:
    """One run over neighbouring segments."""
    folder.mkdir(parents=True, exist_ok=True)
    messages: list[TaskMessage] = []
    task = EncodeTask(
        plan=plan,
        segments=tuple(segments),
        output_paths=tuple(str(folder / f"{segment.index}.mp4") for segment in segments),
    )
    with opened(path) as fd:
        result = encode_segments(task, fd, messages.append)
    assert result.segments == tuple(message for message in messages if isinstance(message, SegmentDone))
    return result.segments
