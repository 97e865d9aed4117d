"""The figures of a whole video, from those of its segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import fsum, sqrt
from typing import Final, TypeVar

from videoprocess_server.engine.media_times import microseconds
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.quality import (
    CodingFigures,
    MotionFigures,
    PictureFigures,
    Quality,
    SegmentMeasures,
    SegmentQuality,
    main_rendition,
)

#: segments that a report tells of; all are in the JSON of an ANALYZE stream
MOST_REPORTED: Final = 1000
_SIMILARITY_DECIMALS: Final = 4
_DECIMALS: Final = 2
_JITTER_DECIMALS: Final = 3

_Figures = TypeVar("_Figures")
_Parts = Sequence[tuple[_Figures, int]]


def quality_of(plan: Plan, measures: Iterable[SegmentMeasures | None]) -> Quality | None:
    """Return the figures of a video; None where none was made.

    Args:
        plan: of the result.
        measures: one a segment, in order.
    """
    main = main_rendition(plan)
    segments = tuple(
        SegmentQuality(
            start_us=microseconds(plan, segment.start_pts),
            end_us=microseconds(plan, segment.end_pts),
            frame_count=segment.frame_count,
            enhanced=segment.enhanced,
            measures=replace(measured, checked=()),  # those are for the verification
        )
        for segment, measured in zip(plan.segments, measures, strict=False)
        if measured is not None
    )
    if main is None or not segments:
        return None
    enhanced = [part for part in segments if part.enhanced] or list(segments)
    coding = _coding(_with(segments, lambda measured: measured.coding))
    after = _pictures(_with(enhanced, lambda measured: measured.after))
    assert coding is not None
    assert after is not None
    return Quality(
        stream_id=plan.renditions[main].stream_id,
        sample_count=sum(part.measures.sample_count for part in segments),
        before=_pictures(_with(enhanced, lambda measured: measured.before)),
        after=after,
        changed_ssim=_mean(_with(enhanced, lambda measured: measured.changed_ssim), _SIMILARITY_DECIMALS),
        coding=coding,
        at_seams=_coding(_with(segments, lambda measured: measured.at_seams)),
        elsewhere=_coding(_with(segments, lambda measured: measured.elsewhere)),
        jitter_before_px=None
        if plan.stabilisation is None
        else round(plan.stabilisation.jitter_px, _JITTER_DECIMALS),
        motion_after=_motion(_with(enhanced, lambda measured: measured.motion_after)),
        segments=segments,
        segment_count=len(segments),
    )


def shortened(quality: Quality, most: int = MOST_REPORTED) -> Quality:
    """Return it with the segments whose worst frames lost most to the encoder, where it has too many of them."""
    if len(quality.segments) <= most:
        return quality
    worst = sorted(quality.segments, key=lambda part: (part.measures.coding.least_xpsnr_db, part.start_us))
    return replace(quality, segments=tuple(sorted(worst[:most], key=lambda part: part.start_us)))


def _with(
    segments: Iterable[SegmentQuality], figures: Callable[[SegmentMeasures], _Figures | None]
) -> list[tuple[_Figures, int]]:
    """Return the figures of segments that have them, with the segments' frames."""
    found = [(figures(part.measures), part.frame_count) for part in segments]
    return [(each, frames) for each, frames in found if each is not None]


def _mean(parts: _Parts[float], decimals: int = _DECIMALS) -> float | None:
    """Return the mean, weighted; None of nothing."""
    weight = sum(frames for _, frames in parts)
    return round(fsum(value * frames for value, frames in parts) / weight, decimals) if weight else None


def _pictures(parts: _Parts[PictureFigures]) -> PictureFigures | None:
    if not parts:
        return None

    def mean(figure: Callable[[PictureFigures], float]) -> float:
        return _mean([(figure(each), frames) for each, frames in parts]) or 0.0

    first, _ = parts[0]
    return PictureFigures(
        width=first.width,
        height=first.height,
        sigma_y=mean(lambda each: each.sigma_y),
        sigma_u=mean(lambda each: each.sigma_u),
        sigma_v=mean(lambda each: each.sigma_v),
        sharpness=mean(lambda each: each.sharpness),
    )


def _coding(parts: _Parts[CodingFigures]) -> CodingFigures | None:
    """Weighted by the frames that were compared: at seams there are as many in a short segment as in a long one."""
    if not parts:
        return None
    compared = [(each, each.frame_count) for each, _ in parts]
    return CodingFigures(
        frame_count=sum(frames for _, frames in compared),
        ssim=_mean([(each.ssim, frames) for each, frames in compared], _SIMILARITY_DECIMALS) or 0.0,
        xpsnr_db=_mean([(each.xpsnr_db, frames) for each, frames in compared]) or 0.0,
        least_xpsnr_db=min(each.least_xpsnr_db for each, _ in compared),
    )


def _motion(parts: _Parts[MotionFigures]) -> MotionFigures | None:
    pairs = sum(each.pair_count for each, _ in parts)
    if not pairs:
        return None
    squares = fsum(each.jitter_px * each.jitter_px * each.pair_count for each, _ in parts)
    return MotionFigures(pair_count=pairs, jitter_px=round(sqrt(squares / pairs), _JITTER_DECIMALS))
