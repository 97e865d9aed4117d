"""What a job made: the finished files, and the figures that reports tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from videoprocess_server.engine.media_times import enhance_from_pts, microseconds
from videoprocess_server.engine.products import Product
from videoprocess_server.engine.quality import quality_of
from videoprocess_server.execution.executor import TaskFailedError
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.noise import estimate_of
from videoprocess_server.model.plan import NoiseEstimate, NotKept, Plan, Rendition
from videoprocess_server.model.quality import CheckedVideo, Quality, SegmentMeasures, main_rendition
from videoprocess_server.model.records import Encoding
from videoprocess_server.model.tasks import JoinResult, TrackReport, VerifyResult


@dataclass(frozen=True, kw_only=True)
class FrameTotals:
    """Frames of the source, and of the result."""

    source: int
    #: those of the segments that were made
    decoded: int
    #: of a video; without one, different frames that pictures show
    made: int
    #: of those of the source
    dropped: int
    #: of those made: between two of the source
    interpolated: int
    #: of those made
    enhanced: int


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a video decodes to."""

    frame_count: int
    noise: NoiseEstimate
    duration_us: int


def verification_of(
    plan: Plan, rendition_index: int, checked: Iterable[CheckedVideo], result: VerifyResult
) -> Verification:
    """Put together what the segments of a video decode to, and that the result is made of their packets.

    Args:
        plan: of the result.
        rendition_index: of plan.renditions.
        checked: what the segments' videos decode to, in order.
        result: of the joined file.

    Raises:
        TaskFailedError: VERIFY_FAILED, it is not, or they do not hold every frame once.
    """
    videos = [video for video in checked if video.rendition_index == rendition_index]
    if tuple(video.packets_sha256 for video in videos) != result.packets_sha256:
        raise _mismatch("its packets are not those of the segments")
    frame_count = sum(video.frame_count for video in videos)
    if frame_count != plan.frame_count:
        raise _mismatch(f"{frame_count} frames decode where the plan has {plan.frame_count}")
    return Verification(
        frame_count=frame_count,
        noise=estimate_of([frame for video in videos for frame in video.noise]),
        duration_us=result.duration_us,
    )


def _mismatch(what: str) -> TaskFailedError:
    return TaskFailedError("VERIFY_FAILED", f"The result is not what was planned: {what}.")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that was made for one job."""

    plan: Plan
    #: of the file that pictures come from
    media: MediaInfo
    products: tuple[Product, ...]
    #: of plan.renditions, by index: of those that are videos
    joins: Mapping[int, JoinResult]
    verifications: Mapping[int, Verification]
    #: one a segment, in order
    measures: tuple[SegmentMeasures | None, ...] = ()

    def with_products(self, more: Iterable[Product]) -> Outcome:
        """Return it with further files."""
        return replace(self, products=(*self.products, *more))

    @property
    def frames(self) -> FrameTotals:
        """The totals."""
        plan, main = self.plan, self._main
        decoded = sum(segment.source_frame_count for segment in plan.segments)
        if main is None:
            shown = {pts for made in plan.renditions for pts in made.still_pts or ()}
            enhanced = sum(pts >= enhance_from_pts(plan) for pts in shown)
            return FrameTotals(
                source=plan.source_frame_count,
                decoded=decoded,
                made=len(shown),
                dropped=0,
                interpolated=0,
                enhanced=enhanced,
            )
        return FrameTotals(
            source=plan.source_frame_count,
            decoded=decoded,
            made=self.verifications[main].frame_count,
            dropped=plan.source_frame_count - (plan.frame_count - plan.interpolated_count),
            interpolated=plan.interpolated_count,
            enhanced=sum(segment.frame_count for segment in plan.segments if segment.enhanced),
        )

    @property
    def noise_after(self) -> NoiseEstimate | None:
        """Of the enhanced video, else of the first video; None where only pictures were made."""
        return None if self._main is None else self.verifications[self._main].noise

    @property
    def quality(self) -> Quality | None:
        """Figures of that video; None where only pictures were made."""
        return quality_of(self.plan, self.measures)

    @property
    def duration_us(self) -> int:
        """Of that video, else of the source."""
        if self._main is None:
            return microseconds(self.plan, self.plan.end_pts)
        return self.verifications[self._main].duration_us

    @property
    def filters(self) -> tuple[str, ...]:
        """What that video's frames, else the first picture's, went through."""
        chain, shown = self.plan.filters, self._shown
        return (*chain.prepare, *chain.enhancement, *(shown.geometry if shown else ()))

    @property
    def tracks(self) -> tuple[TrackReport, ...]:
        """What became of the source's tracks in that video."""
        return () if self._main is None else self.joins[self._main].tracks

    @property
    def not_kept(self) -> tuple[NotKept, ...]:
        """What any of the videos does not have."""
        lost = [*self.plan.not_kept, *(each for join in self.joins.values() for each in join.not_kept)]
        return tuple(dict.fromkeys(lost))

    @property
    def scaling_factor(self) -> float | None:
        """Width of the enhanced video over the source's; None where it is not scaled but to the next even number."""
        shown, width = self._shown, self.media.video.width
        if shown is None or shown.intent is not StreamIntent.VIDEO or abs(shown.encoder.width - width) <= 1:
            return None
        return shown.encoder.width / width

    @property
    def encodings(self) -> tuple[Encoding, ...]:
        """How each stream was encoded."""
        return tuple(
            Encoding(
                stream_id=made.stream_id,
                codec=made.encoder.codec,
                encoder=made.encoder.encoder,
                options=_options(self.plan, made),
                width=made.encoder.width,
                height=made.encoder.height,
                pixel_format=made.encoder.pixel_format,
                size_bytes=sum(file.size_bytes for file in self.products if file.stream_id == made.stream_id),
                is_moving=made.is_moving,
                note=made.note,
            )
            for made in self.plan.renditions
        )

    @property
    def _main(self) -> int | None:
        """The index of the rendition whose figures stand for the result."""
        return main_rendition(self.plan)

    @property
    def _shown(self) -> Rendition | None:
        """That rendition, else the first of all."""
        return next(iter(self.plan.renditions[self._main or 0 :]), None)


def _options(plan: Plan, made: Rendition) -> dict[str, str]:
    """Return the options of a stream's encoder; of what each segment has for itself, rates above all, the least and the most."""
    own: dict[str, set[str]] = {}
    for segment in plan.segments:
        for name, value in segment.encoder_options.get(made.stream_id, {}).items():
            own.setdefault(name, set()).add(value)
    return made.encoder.options | {name: _span(values) for name, values in own.items()}


def _span(values: set[str]) -> str:
    """Return "least..most", or the value where there is but one."""
    ordered = sorted(values, key=lambda value: (len(value), value))  # which numbers are in the order of
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]}..{ordered[-1]}"
