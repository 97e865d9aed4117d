"""The quality report of an ANALYZE stream: JSON whose bytes depend on source, settings and build alone (G2)."""

from __future__ import annotations

import json
from typing import Any, Final

from videoprocess_server.engine.media_times import microseconds, ranges
from videoprocess_server.engine.outcome import Outcome
from videoprocess_server.engine.products import Product
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.quality import (
    CodingFigures,
    MotionFigures,
    PictureFigures,
    Quality,
    SegmentQuality,
)
from videoprocess_server.model.records import Encoding, MediaRange

#: a new number for every change that a reader could stumble over; docs/streams.md describes it
SCHEMA: Final = "videoprocess.analysis/2"
#: of figures that are measured
_DECIMALS: Final = 4


def to_json(outcome: Outcome) -> bytes:
    """Return the report in UTF-8. Nothing of a try, a machine or a clock is in it, and no name or id of a file."""
    plan, frames = outcome.plan, outcome.frames
    enhanced, carried_over = ranges(plan)
    document = {
        "schema": SCHEMA,
        "source": _source(outcome.media) | {"duration_us": microseconds(plan, plan.end_pts)},
        "frames": {
            "source": frames.source,
            "decoded": frames.decoded,
            "made": frames.made,
            "dropped": frames.dropped,
            "interpolated": frames.interpolated,
            "enhanced": frames.enhanced,
        },
        "enhanced_ranges": [_range(part) for part in enhanced],
        "carried_over_ranges": [_range(part) for part in carried_over],
        "noise": {"before": _noise(plan.noise), "after": _noise(outcome.noise_after)},
        "quality": _quality(outcome.quality),
        "filters": list(outcome.filters),
        "duration_us": outcome.duration_us,
        "encodings": [_encoding(made) for made in outcome.encodings],
        "files": [_file(product) for product in outcome.products],
        "tracks": [
            {
                "index": track.index,
                "kind": track.kind,
                "codec": track.codec,
                "packets_in": track.source_packet_count,
                "packets_out": track.packet_count,
                "kept": track.kept,
                "note": track.note,
            }
            for track in outcome.tracks
        ],
        "not_kept": [
            {
                "what": lost.what.value,
                "track_index": lost.track_index,
                "count": lost.count,
                "reason": lost.reason,
            }
            for lost in outcome.not_kept
        ],
    }
    return (json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def _source(media: MediaInfo) -> dict[str, Any]:
    video = media.video
    return {
        "container": media.container,
        "size_bytes": media.size_bytes,
        "codec": video.codec,
        "profile": video.profile,
        "width": video.width,
        "height": video.height,
        "pixel_format": video.pixel_format,
        "rotation_degrees": video.rotation_degrees,
        "colour": {
            "primaries": video.colour.primaries,
            "transfer": video.colour.transfer,
            "matrix": video.colour.matrix,
            "range": video.colour.range,
        },
    }


def _range(part: MediaRange) -> dict[str, int]:
    return {"start_us": part.start_us, "end_us": part.end_us}


def _noise(estimate: NoiseEstimate | None) -> dict[str, float] | None:
    """Standard deviations in code values of 255."""
    if estimate is None:
        return None
    return {
        "sigma_y": round(estimate.sigma_y, _DECIMALS),
        "sigma_u": round(estimate.sigma_u, _DECIMALS),
        "sigma_v": round(estimate.sigma_v, _DECIMALS),
    }


def _quality(quality: Quality | None) -> dict[str, Any] | None:
    if quality is None:
        return None
    return {
        "stream_id": quality.stream_id,
        "sampled_frames": quality.sample_count,
        "before": _pictures(quality.before),
        "after": _pictures(quality.after),
        "changed_ssim": quality.changed_ssim,
        "coding": _coding(quality.coding),
        "seams": {"at_seams": _coding(quality.at_seams), "elsewhere": _coding(quality.elsewhere)},
        "jitter_before_px": quality.jitter_before_px,
        "jitter_after_px": _jitter(quality.motion_after),
        "segments": [_segment(part) for part in quality.segments],
    }


def _segment(part: SegmentQuality) -> dict[str, Any]:
    measures = part.measures
    return {
        "start_us": part.start_us,
        "end_us": part.end_us,
        "frames": part.frame_count,
        "enhanced": part.enhanced,
        "size_bytes": measures.size_bytes,
        "bitrate_bps": part.bitrate_bps,
        "sampled_frames": measures.sample_count,
        "before": _pictures(measures.before),
        "after": _pictures(measures.after),
        "changed_ssim": measures.changed_ssim,
        "coding": _coding(measures.coding),
        "seams": {"at_seams": _coding(measures.at_seams), "elsewhere": _coding(measures.elsewhere)},
        "jitter_after_px": _jitter(measures.motion_after),
    }


def _pictures(figures: PictureFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "width": figures.width,
        "height": figures.height,
        "sigma_y": figures.sigma_y,
        "sigma_u": figures.sigma_u,
        "sigma_v": figures.sigma_v,
        "sharpness": figures.sharpness,
    }


def _coding(figures: CodingFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "frames": figures.frame_count,
        "ssim": figures.ssim,
        "xpsnr_db": figures.xpsnr_db,
        "least_xpsnr_db": figures.least_xpsnr_db,
    }


def _jitter(figures: MotionFigures | None) -> float | None:
    return None if figures is None else figures.jitter_px


def _encoding(made: Encoding) -> dict[str, Any]:
    return {
        "stream_id": made.stream_id,
        "codec": made.codec,
        "encoder": made.encoder,
        "options": made.options,
        "width": made.width,
        "height": made.height,
        "pixel_format": made.pixel_format,
        "size_bytes": made.size_bytes,
        "note": made.note,
    }


def _file(product: Product) -> dict[str, Any]:
    return {
        "stream_id": product.stream_id,
        "kind": product.kind.value,
        "media_type": product.media_type,
        "size_bytes": product.size_bytes,
        "sha256": product.sha256,
        "media_time_us": product.media_time_us,
    }
