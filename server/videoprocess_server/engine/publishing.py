"""What a finished job is told as: its artifacts and its report."""

from __future__ import annotations

from collections.abc import Sequence

from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.media_times import ranges
from videoprocess_server.engine.outcome import Outcome
from videoprocess_server.engine.products import file_names
from videoprocess_server.engine.quality import shortened
from videoprocess_server.model.plan import interpolated_times_text
from videoprocess_server.model.records import Artifact, Delivery, Job, PlanRecord, Report, StageCost, Video
from videoprocess_server.model.tasks import BuildInfo


def artifacts_of(
    job: Job,
    video: Video,
    outcome: Outcome,
    deliveries: Sequence[Delivery | None],
    now_us: int,
    kept_us: int,
) -> list[Artifact]:
    """Return the rows of the files, in their order.

    The rows of a stream are listed by their ids; so ids are drawn first and given out in order.

    Args:
        job: that made them.
        video: of the job.
        outcome: what it made.
        deliveries: of each file, where it is also written to.
        now_us: the time.
        kept_us: how long they are kept.
    """
    assert video.source is not None
    products = outcome.products
    ids = sorted(new_id() for _ in products)
    names = file_names(products, video.source.file_name)
    return [
        Artifact(
            artifact_id=artifact_id,
            user_id=job.user_id,
            video_id=job.video_id,
            job_id=job.job_id,
            stream_id=product.stream_id,
            kind=product.kind,
            media_type=product.media_type,
            file_name=name,
            size_bytes=product.size_bytes,
            sha256=product.sha256,
            create_time_us=now_us,
            media_time_us=product.media_time_us,
            expire_time_us=now_us + kept_us,
            published_root=delivery.root if delivery else "",
            published_path=delivery.path if delivery else "",
        )
        for artifact_id, name, product, delivery in zip(ids, names, products, deliveries, strict=True)
    ]


def report_of(
    record: PlanRecord,
    video: Video,
    outcome: Outcome,
    stages: tuple[StageCost, ...],
    reused_segment_count: int,
    build: BuildInfo,
) -> Report:
    """Return what the result is, and what of the source it does not have."""
    assert video.media is not None
    assert video.source is not None
    plan, frames = record.plan, outcome.frames
    enhanced, carried_over = ranges(plan)
    quality = outcome.quality
    return Report(
        source_frame_count=frames.source,
        decoded_frame_count=frames.decoded,
        frame_count=frames.made,
        dropped_frame_count=frames.dropped,
        interpolated_frame_count=frames.interpolated,
        enhanced_frame_count=frames.enhanced,
        segment_count=len(plan.segments),
        reused_segment_count=reused_segment_count,
        enhanced=enhanced,
        carried_over=carried_over,
        noise_before=plan.noise,
        noise_after=outcome.noise_after,
        filters=outcome.filters,
        encodings=outcome.encodings,
        source_codec=video.media.video.codec,
        scaling_factor=outcome.scaling_factor,
        interp_frame_pts=interpolated_times_text(plan) if frames.interpolated else "",
        versions=dict(build.versions),
        source_size_bytes=sum(file.size_bytes for file in (video.source, video.companion) if file),
        size_bytes=sum(product.size_bytes for product in outcome.products),
        duration_us=outcome.duration_us,
        tracks=outcome.tracks,
        not_kept=outcome.not_kept,
        stages=stages,
        fingerprint=record.fingerprint,
        quality=None if quality is None else shortened(quality),
    )
