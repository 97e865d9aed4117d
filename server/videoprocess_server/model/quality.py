"""How good a result is: figures of its segments and of all of it. docs/streams.md tells how each is measured."""

from __future__ import annotations

from dataclasses import dataclass

from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.noise import FrameNoise
from videoprocess_server.model.plan import Plan, Rendition

#: frames on either side of a seam that count as being at it
SEAM_FRAMES = 1


@dataclass(frozen=True, kw_only=True)
class PictureFigures:
    """What is measured of pictures for themselves, in their own pixels: medians over frames."""

    width: int
    height: int
    #: standard deviation of the noise in code values of 255, per plane
    sigma_y: float
    sigma_u: float
    sigma_v: float
    #: root mean square of the luma's Laplacian in code values of 255, without the share of the noise
    sharpness: float


@dataclass(frozen=True, kw_only=True)
class CodingFigures:
    """How near decoded pictures come to those that went into their encoder."""

    #: frames compared
    frame_count: int
    #: structural similarity of the luma, mean over frames; 1.0 is the same
    ssim: float
    #: perceptually weighted PSNR of the luma in dB, mean over frames
    xpsnr_db: float
    #: of the worst frame
    least_xpsnr_db: float


@dataclass(frozen=True, kw_only=True)
class MotionFigures:
    """Shake that is left."""

    #: of neighbouring frames
    pair_count: int
    #: root mean square of the high-passed motion between frames, in pixels
    jitter_px: float


@dataclass(frozen=True, kw_only=True)
class CheckedVideo:
    """What a segment's track of a rendition decodes to, every frame of it."""

    #: of plan.renditions
    rendition_index: int
    frame_count: int
    #: of its pictures
    size_bytes: int
    #: over its packets, comparable with VerifyResult.packets_sha256
    packets_sha256: str
    #: of sampled frames
    noise: tuple[FrameNoise, ...]


@dataclass(frozen=True, kw_only=True)
class SegmentMeasures:
    """What was measured on a segment as it was made: on sampled frames, and of all what they decode to."""

    #: frames of the segment that were looked at
    sample_count: int
    #: of the measured rendition's pictures in the segment's file
    size_bytes: int
    #: of the source's pictures, as the crop leaves them; None where no sampled frame is one of the source's
    before: PictureFigures | None
    #: of the decoded result
    after: PictureFigures
    coding: CodingFigures
    #: of the frames beside a seam; None where the segment has none
    at_seams: CodingFigures | None
    #: of the others
    elsewhere: CodingFigures | None
    #: structural similarity of source and enhanced picture; None where they do not lie on one another
    changed_ssim: float | None
    #: of the frames as they are now; None where nothing is stabilised
    motion_after: MotionFigures | None = None
    #: what its file decodes to: one a rendition of moving pictures, in the plan's order
    checked: tuple[CheckedVideo, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SegmentQuality:
    """A segment's place and its figures. Media times are relative to the first frame."""

    start_us: int
    end_us: int
    frame_count: int
    enhanced: bool
    measures: SegmentMeasures

    @property
    def bitrate_bps(self) -> int:
        """Bits per second of the measured rendition's pictures."""
        length_us = self.end_us - self.start_us
        return self.measures.size_bytes * 8 * 1_000_000 // length_us if length_us else 0


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures of a whole video: means over its segments, weighted by their frames."""

    #: of the rendition that was measured
    stream_id: int
    #: frames that were looked at
    sample_count: int
    #: over the enhanced segments; over all where none is enhanced
    before: PictureFigures | None
    after: PictureFigures
    changed_ssim: float | None
    #: over all segments
    coding: CodingFigures
    at_seams: CodingFigures | None
    elsewhere: CodingFigures | None
    #: of the source, in its pixels, and of the result, in the result's; None where nothing is stabilised
    jitter_before_px: float | None
    motion_after: MotionFigures | None
    #: in order; of many, a report keeps those with the worst frames
    segments: tuple[SegmentQuality, ...]
    #: of the result, whether or not they are all here
    segment_count: int


def main_rendition(plan: Plan) -> int | None:
    """Return the index of the rendition whose figures stand for the result: the first VIDEO, else the first video; None without."""
    moving = [index for index, made in enumerate(plan.renditions) if made.is_moving]
    videos = [index for index in moving if plan.renditions[index].intent is StreamIntent.VIDEO]
    return next(iter([*videos, *moving]), None)


def shown_rendition(plan: Plan) -> Rendition | None:
    """Return the rendition that is compared with the source by eye: that one, else the largest stills; None without pictures."""
    main = main_rendition(plan)
    if main is not None:
        return plan.renditions[main]
    return max(plan.renditions, key=lambda made: made.encoder.width * made.encoder.height, default=None)
