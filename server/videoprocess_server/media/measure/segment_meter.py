"""Measures sampled frames of a segment while it is made: the source's picture, the encoder's, and what decodes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from statistics import median
from typing import TYPE_CHECKING, Final

from av.video.frame import VideoFrame

from videoprocess_server.media.measure.pictures import laplacian_square, luma_of, sharpness, ssim, xpsnr_db
from videoprocess_server.media.measure.samples import judged_numbers, sampled_numbers
from videoprocess_server.media.noise import NoiseMeter
from videoprocess_server.model.plan import Plan, Rendition, SegmentPlan
from videoprocess_server.model.quality import (
    SEAM_FRAMES,
    CheckedVideo,
    CodingFigures,
    PictureFigures,
    SegmentMeasures,
)

if TYPE_CHECKING:
    from videoprocess_server.media.measure.shake import ShakeMeter

#: blocks of a plane whose noise is asked for
_NOISE_BLOCKS: Final = 1024
#: of figures of similarity, and of decibels
_SIMILARITY_DECIMALS: Final = 4
_DECIBEL_DECIMALS: Final = 2


class SegmentMeter:
    """Measures the pictures of one rendition in a segment. Holds the encoder's pictures of sampled frames, few and for a segment.

    Args:
        plan: of the result.
        segment: which part of it.
        index: of plan.renditions, a video.
    """

    def __init__(self, plan: Plan, segment: SegmentPlan, index: int) -> None:
        self.rendition = rendition = plan.renditions[index]
        self._index = index
        self._segment = segment
        self._time_base = plan.output_time_base
        self._is_last = segment.end_pts >= plan.end_pts
        self._numbers = sampled_numbers(segment.frame_count, rendition.encoder)
        self._judged = judged_numbers(self._numbers)
        self._comparable = _lie_on_one_another(plan, rendition)
        self._before, self._after = _PictureMeter(), _PictureMeter()
        self._shake = _shake_meter(plan, segment, rendition)
        self._source: VideoFrame | None = None
        self._changes: list[float] = []
        #: what the encoder got, by the frame's number in the segment, until it is compared
        self._held: dict[int, VideoFrame] = {}
        self._compared: list[_Compared] = []
        #: frames that the encoder got, and that came back
        self._count = 0
        self._decoded = 0
        #: that comparing took
        self.cpu_seconds = 0.0

    def source(self, picture: VideoFrame) -> None:
        """Take the source's picture of the frame that the encoder gets next."""
        if self._count not in self._judged:
            return
        self._before.add(picture)
        self._source = picture if self._comparable else None

    def encoding(self, frame: VideoFrame) -> None:
        """Take the next frame that the encoder gets."""
        number, source = self._count, self._source
        self._count, self._source = number + 1, None
        if self._shake is not None:
            self._shake.add(frame)
        if number not in self._numbers:
            return
        self._held[number] = frame
        if source is not None and (source.width, source.height) == (frame.width, frame.height):
            (old, old_bits), (new, new_bits) = luma_of(source), luma_of(frame)
            if old_bits == new_bits:
                self._changes.append(ssim(old, new, new_bits))

    def decoded(self, frame: VideoFrame) -> None:
        """Take the next frame that decodes of what was encoded, and compare it where it is sampled."""
        number, self._decoded = self._decoded, self._decoded + 1
        original = self._held.pop(number, None)
        if original is None:
            return
        started = time.thread_time()
        if number in self._judged:
            self._after.add(frame)
        (old, bits), (new, _) = luma_of(original), luma_of(frame)
        self._compared.append(_Compared(number, ssim(old, new, bits), xpsnr_db(old, new, bits)))
        self.cpu_seconds += time.thread_time() - started

    def measures(self, checked: tuple[CheckedVideo, ...]) -> SegmentMeasures:
        """Return all that was measured; every frame has decoded.

        Args:
            checked: what all videos of the segment decode to.
        """
        compared = self._compared
        after = self._after.figures()
        assert after is not None
        at_seams = [frame for frame in compared if self._is_at_seam(frame.number)]
        elsewhere = [frame for frame in compared if not self._is_at_seam(frame.number)]
        coding = _coding_figures(compared)
        assert coding is not None
        return SegmentMeasures(
            sample_count=len(compared),
            size_bytes=next(video.size_bytes for video in checked if video.rendition_index == self._index),
            before=self._before.figures(),
            after=after,
            coding=coding,
            at_seams=_coding_figures(at_seams),
            elsewhere=_coding_figures(elsewhere),
            changed_ssim=_mean(self._changes, _SIMILARITY_DECIMALS) if self._changes else None,
            motion_after=None if self._shake is None else self._shake.figures(self._time_base),
            checked=checked,
        )

    def _is_at_seam(self, number: int) -> bool:
        begins = number < SEAM_FRAMES and self._segment.index > 0
        ends = number >= self._segment.frame_count - SEAM_FRAMES and not self._is_last
        return begins or ends


@dataclass(frozen=True)
class _Compared:
    """A frame's figures."""

    number: int
    ssim: float
    xpsnr_db: float


class _PictureMeter:
    """Measures pictures for themselves as they come by."""

    def __init__(self) -> None:
        self._noise = NoiseMeter(_NOISE_BLOCKS)
        self._squares: list[float] = []
        self._size = (0, 0)

    def add(self, frame: VideoFrame) -> None:
        """Measure one."""
        self._noise.add(frame)
        self._squares.append(laplacian_square(*luma_of(frame)))
        self._size = (frame.width, frame.height)

    def figures(self) -> PictureFigures | None:
        """Return the medians; None where there was no picture."""
        if not self._squares:
            return None
        noise, (width, height) = self._noise.estimate(), self._size
        return PictureFigures(
            width=width,
            height=height,
            sigma_y=noise.sigma_y,
            sigma_u=noise.sigma_u,
            sigma_v=noise.sigma_v,
            sharpness=sharpness(median(self._squares), noise.sigma_y),
        )


def _shake_meter(plan: Plan, segment: SegmentPlan, rendition: Rendition) -> ShakeMeter | None:
    """Give what measures the shake that is left of a stabilised segment; imports OpenCV, which others do without."""
    if plan.stabilisation is None or not segment.enhanced:
        return None
    from videoprocess_server.media.measure.shake import ShakeMeter

    return ShakeMeter(rendition.encoder.width, rendition.encoder.height)


def _lie_on_one_another(plan: Plan, rendition: Rendition) -> bool:
    """Whether the same pixel of the source's picture and of the encoder's shows the same."""
    return plan.stabilisation is None and len(rendition.geometry) == 1 and rendition.mapped_from is None


def _coding_figures(frames: Sequence[_Compared]) -> CodingFigures | None:
    if not frames:
        return None
    return CodingFigures(
        frame_count=len(frames),
        ssim=_mean([frame.ssim for frame in frames], _SIMILARITY_DECIMALS),
        xpsnr_db=_mean([frame.xpsnr_db for frame in frames], _DECIBEL_DECIMALS),
        least_xpsnr_db=round(min(frame.xpsnr_db for frame in frames), _DECIBEL_DECIMALS),
    )


def _mean(values: Sequence[float], decimals: int) -> float:
    return round(fsum(values) / len(values), decimals)
