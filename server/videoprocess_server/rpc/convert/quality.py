"""Quality figures: a row a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from videoprocess.v1 import report_pb2
from videoprocess_server.model.quality import MotionFigures, PictureFigures, Quality, SegmentQuality

_CODED = "the decoded pictures against those that went into the encoder, luma, mean over the measured frames"
_NOISE = "standard deviation of the luma's noise on the scale of 8 bits, in the"
_SHARP = "root mean square of the luma's Laplacian, less what noise adds, on the scale of 8 bits, in the"
_SHAKE = "root mean square of the high-passed motion between frames of the"


@dataclass(frozen=True)
class _Score:
    name: str
    unit: str
    note: str
    #: None where it was not measured
    value: Callable[[Quality], float | None]
    #: whether it is about the source
    is_source: bool = False


_SCORES: Sequence[_Score] = (
    _Score("noise_before", "", f"{_NOISE} source", lambda q: _sigma(q.before), is_source=True),
    _Score("noise_after", "", f"{_NOISE} result", lambda q: q.after.sigma_y),
    _Score("sharpness_before", "", f"{_SHARP} source", lambda q: _sharpness(q.before), is_source=True),
    _Score("sharpness_after", "", f"{_SHARP} result", lambda q: q.after.sharpness),
    _Score("changed_ssim", "", "enhanced pictures against the source's, luma", lambda q: q.changed_ssim),
    _Score("ssim", "", _CODED, lambda q: q.coding.ssim),
    _Score(
        "xpsnr", "dB", f"{_CODED}; errors weigh less where the picture is busy", lambda q: q.coding.xpsnr_db
    ),
    _Score("xpsnr_least", "dB", "the same of the worst measured frame", lambda q: q.coding.least_xpsnr_db),
    _Score(
        "xpsnr_at_seams",
        "dB",
        "the same of frames within two of where segments meet",
        lambda q: q.at_seams.xpsnr_db if q.at_seams else None,
    ),
    _Score(
        "xpsnr_elsewhere",
        "dB",
        "the same of all other measured frames",
        lambda q: q.elsewhere.xpsnr_db if q.elsewhere else None,
    ),
    _Score("jitter_before", "px", f"{_SHAKE} source", lambda q: q.jitter_before_px, is_source=True),
    _Score("jitter_after", "px", f"{_SHAKE} result", lambda q: _jitter(q.motion_after)),
)


def scores(quality: Quality) -> list[report_pb2.QualityScore]:
    """Return the messages of a whole video's figures: those that were measured."""
    found = ((score, score.value(quality)) for score in _SCORES)
    return [
        report_pb2.QualityScore(
            name=score.name,
            value=value,
            unit=score.unit,
            stream_id=None if score.is_source else quality.stream_id,
            note=score.note,
        )
        for score, value in found
        if value is not None
    ]


def segment(part: SegmentQuality) -> report_pb2.SegmentQuality:
    """Return the message of a segment's figures."""
    measures = part.measures
    before, after, coding = measures.before, measures.after, measures.coding
    planes = (
        ("Y", before.sigma_y if before else 0.0, after.sigma_y),
        ("U", before.sigma_u if before else 0.0, after.sigma_u),
        ("V", before.sigma_v if before else 0.0, after.sigma_v),
    )
    return report_pb2.SegmentQuality(
        start_us=part.start_us,
        end_us=part.end_us,
        frame_count=part.frame_count,
        enhanced=part.enhanced,
        size_bytes=measures.size_bytes,
        bitrate_bps=part.bitrate_bps,
        noise=[
            report_pb2.PlaneNoise(plane=name, sigma_before=old, sigma_after=new) for name, old, new in planes
        ],
        sharpness_before=_sharpness(before),
        sharpness_after=after.sharpness,
        ssim=coding.ssim,
        xpsnr_db=coding.xpsnr_db,
        least_xpsnr_db=coding.least_xpsnr_db,
        changed_ssim=measures.changed_ssim,
        jitter_after_px=_jitter(measures.motion_after),
    )


def _sigma(figures: PictureFigures | None) -> float | None:
    return None if figures is None else figures.sigma_y


def _sharpness(figures: PictureFigures | None) -> float | None:
    return None if figures is None else figures.sharpness


def _jitter(figures: MotionFigures | None) -> float | None:
    return None if figures is None else figures.jitter_px
