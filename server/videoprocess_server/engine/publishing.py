"""What a finished job is told as: its artifact and its report."""

from __future__ import annotations

from fractions import Fraction
from pathlib import PurePath

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.records import (
    Artifact,
    ArtifactKind,
    Job,
    MediaRange,
    PlanRecord,
    Report,
    StageCost,
    Video,
)
from videoprocess_server.model.tasks import BuildInfo, JoinResult, VerifyResult

MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".3gp": "video/3gpp",
    ".mkv": "video/x-matroska",
}


def artifact_of(
    job: Job,
    video: Video,
    record: PlanRecord,
    joined: JoinResult,
    artifact_id: str,
    now_us: int,
    kept_us: int,
) -> Artifact:
    """Return the row of the enhanced video."""
    assert job.snapshot is not None
    extension = record.plan.renditions[0].file_extension
    return Artifact(
        artifact_id=artifact_id,
        user_id=job.user_id,
        video_id=job.video_id,
        job_id=job.job_id,
        stream_id=job.snapshot.streams[0].stream_id,
        kind=ArtifactKind.VIDEO,
        media_type=MEDIA_TYPES[extension],
        file_name=_file_name(video) + extension,
        size_bytes=joined.size_bytes,
        sha256=joined.sha256,
        create_time_us=now_us,
        expire_time_us=now_us + kept_us,
    )


def _file_name(video: Video) -> str:
    assert video.source is not None
    stem = PurePath(video.source.file_name).stem
    return f"{stem}_enhanced" if stem else "enhanced"


def report_of(
    record: PlanRecord,
    video: Video,
    joined: JoinResult,
    verified: VerifyResult,
    stages: tuple[StageCost, ...],
    reused_segment_count: int,
    build: BuildInfo,
) -> Report:
    """Return what the result is, and what of the source it does not have."""
    assert video.media is not None
    assert video.source is not None
    plan, made = record.plan, record.plan.renditions[0]
    enhanced, carried_over = _ranges(plan)
    return Report(
        source_frame_count=plan.source_frame_count,
        frame_count=verified.frame_count,
        dropped_frame_count=plan.source_frame_count - plan.frame_count,
        enhanced_frame_count=sum(segment.frame_count for segment in plan.segments if segment.enhanced),
        segment_count=len(plan.segments),
        reused_segment_count=reused_segment_count,
        enhanced=enhanced,
        carried_over=carried_over,
        noise_before=plan.noise,
        noise_after=verified.noise,
        filters=(*plan.filters.enhancement, *made.geometry),
        encoder=made.encoder.encoder,
        encoder_options=dict(made.encoder.options),
        source_codec=video.media.video.codec,
        codec=made.encoder.codec,
        width=made.encoder.width,
        height=made.encoder.height,
        pixel_format=made.encoder.pixel_format,
        versions=dict(build.versions),
        source_size_bytes=video.source.size_bytes,
        size_bytes=joined.size_bytes,
        duration_us=verified.duration_us,
        tracks=joined.tracks,
        not_kept=(*plan.not_kept, *joined.not_kept),
        stages=stages,
        fingerprint=record.fingerprint,
    )


def _ranges(plan: Plan) -> tuple[tuple[MediaRange, ...], tuple[MediaRange, ...]]:
    """Return the enhanced and the carried-over ranges; the second comes first in time, and may be empty."""
    end_us = _microseconds(plan, plan.end_pts)
    first = next((segment for segment in plan.segments if segment.enhanced), None)
    begin_us = end_us if first is None else _microseconds(plan, max(first.start_pts, plan.first_pts))
    enhanced = (MediaRange(start_us=begin_us, end_us=end_us),) if begin_us < end_us else ()
    carried_over = (MediaRange(start_us=0, end_us=begin_us),) if begin_us > 0 else ()
    return enhanced, carried_over


def _microseconds(plan: Plan, pts: int) -> int:
    return round(Fraction(pts - plan.first_pts) * plan.time_base * MICROSECONDS_PER_SECOND)
