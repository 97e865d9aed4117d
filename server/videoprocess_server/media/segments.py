"""Makes segments: decode, filter, split, encode, check. One pass over a run of neighbours, frame by frame."""

from __future__ import annotations

import hashlib
import os
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from av.video.frame import VideoFrame

from videoprocess_server.media.carried_units import NO_UNITS
from videoprocess_server.media.damage import conceal, is_near_damage
from videoprocess_server.media.decode import Ledger, decode_fault, decoded_frames
from videoprocess_server.media.encode import EnhancedFrame, encode_file, renditions_in
from videoprocess_server.media.filters import run_filters
from videoprocess_server.media.measure.samples import sampled_numbers
from videoprocess_server.media.measure.sources import SourcePictures
from videoprocess_server.media.result_frames import result_frames, source_pts_of
from videoprocess_server.media.video_usability import ChromaLocation
from videoprocess_server.model.grid import slot_bounds, slot_of
from videoprocess_server.model.plan import Plan, SegmentPlan
from videoprocess_server.model.quality import SegmentMeasures, main_rendition
from videoprocess_server.model.tasks import EncodeResult, EncodeTask, Progress, SegmentDone, TaskMessage

if TYPE_CHECKING:
    from videoprocess_server.media.measure.segment_meter import SegmentMeter

#: seconds between two signs of life at least
PROGRESS_SECONDS = 0.5


def encode_segments(task: EncodeTask, fd: int, emit: Callable[[TaskMessage], None]) -> EncodeResult:
    """Make a run of neighbouring segments; each is told as soon as its file and its directory are on disk.

    The bytes do not depend on how many segments a run has.

    Raises:
        MediaFault: DECODE_FAILED, ENCODE_FAILED, VERIFY_FAILED, NOT_A_VIDEO or SOURCE_CHANGED.
        FileExistsError: one of the output paths exists.
    """
    started = time.process_time()
    plan, pulse, inputs = task.plan, _Pulse(emit), dict[int, str]()
    frames = filtered_frames(plan, task.segments, fd, inputs, pulse.beat, task.camera_path)
    by_segment = groupby(frames, key=attrgetter("segment_index"))
    done, check_cpu_seconds = [], 0.0
    for segment, output_path in zip(task.segments, task.output_paths, strict=True):
        path = Path(output_path)
        index, group = next(by_segment, (None, iter(())))
        if index != segment.index:
            raise decode_fault(segment.start_pts, plan.time_base, "no frame comes")
        meter = _meter(plan, segment)
        parameter_sets_sha256 = encode_file(path, plan, segment, group, pulse, meter)
        measures = None
        if meter is not None:
            measures, seconds = _measured(path, plan, segment, meter, pulse)
            check_cpu_seconds += seconds
        _sync(path)
        done.append(
            SegmentDone(
                index=segment.index,
                path=output_path,
                size_bytes=path.stat().st_size,
                sha256=_sha256(path),
                frame_count=segment.frame_count,
                input_sha256=inputs[segment.index],
                parameter_sets_sha256=parameter_sets_sha256,
                measures=measures,
            )
        )
        emit(done[-1])
    return EncodeResult(
        segments=tuple(done), cpu_seconds=time.process_time() - started, check_cpu_seconds=check_cpu_seconds
    )


def filtered_frames(
    plan: Plan,
    segments: Sequence[SegmentPlan],
    fd: int,
    inputs: dict[int, str] | None = None,
    beat: Callable[[], None] = lambda: None,
    camera_path: str = "",
) -> Iterator[EnhancedFrame]:
    """Give the frames of segments, enhanced, as the renditions are made of them.

    Args:
        plan: of the result.
        segments: in order.
        fd: the source.
        inputs: gets the SHA-256 of each segment's packets.
        beat: called often.
        camera_path: the file of a stabilised plan; "" for none.

    Raises:
        MediaFault: as `encode_segments`.
    """
    inputs = {} if inputs is None else inputs
    for run in neighbours(plan, segments):
        yield from _run(plan, run, fd, inputs, beat, camera_path)


def neighbours(plan: Plan, segments: Sequence[SegmentPlan]) -> Iterator[tuple[SegmentPlan, ...]]:
    """Give neighbours in time that go through the same chain; where a plan has stills only, it leaves out what they do not show.

    What a decoder makes of frames after a damaged one depends on where decoding began: a segment near them is a run of its own.
    """
    run: list[SegmentPlan] = []
    for segment in segments:
        if run and (
            run[-1].end_pts != segment.start_pts
            or run[-1].enhanced != segment.enhanced
            or is_near_damage(plan, run[-1])
            or is_near_damage(plan, segment)
        ):
            yield tuple(run)
            run = []
        run.append(segment)
    if run:
        yield tuple(run)


def _run(
    plan: Plan,
    segments: Sequence[SegmentPlan],
    fd: int,
    inputs: dict[int, str],
    beat: Callable[[], None],
    camera_path: str,
) -> Iterator[EnhancedFrame]:
    """Decode and filter neighbours that go through the same chain."""
    filters = plan.filters
    ledger = Ledger(plan, segments, inputs)
    decode_from_pts = segments[0].decode_from_pts
    decoded = decoded_frames(fd, plan, decode_from_pts, ledger, beat)
    if ledger.announced is not None:
        decoded = conceal(decoded, plan, decode_from_pts, ledger.announced)
    enhancement = filters.enhancement if segments[0].enhanced else ()
    stages = (*filters.prepare, *filters.crop, *enhancement, f"format=pix_fmts={filters.pixel_format}")
    window = window_of(decoded, plan, segments, ledger)
    sources, samples = SourcePictures(plan), _samples(plan, segments)
    filtered = run_filters(sources.watch(window), stages, plan.time_base, filters.source_picture)
    if camera_path:
        filtered = warped(filtered, plan, Path(camera_path))
    starts = [segment.start_pts for segment in segments]
    burn_in = _burner(plan)
    numbers = Counter[int]()

    def position_of(source_pts: int) -> int | None:
        position = bisect_right(starts, source_pts) - 1
        return position if position >= 0 and source_pts < segments[position].end_pts else None

    def is_wanted(source_pts: int) -> bool:
        return position_of(source_pts) is not None

    for made in result_frames(filtered, plan, is_wanted, sources.take):
        position = position_of(made.source_pts)
        assert position is not None
        is_sampled = numbers[position] in samples[position] and not made.interpolated
        numbers[position] += 1
        made.picture.pts, made.picture.time_base = made.pts, plan.output_time_base
        burn_in(made.picture)
        yield EnhancedFrame(
            segment_index=segments[position].index,
            source_pts=made.source_pts,
            interpolated=made.interpolated,
            picture=made.picture,
            units=ledger.units.take(made.source_pts) if ledger.units and not made.interpolated else NO_UNITS,
            source=sources.cropped(made.source) if is_sampled and made.source is not None else None,
        )


def _samples(plan: Plan, segments: Sequence[SegmentPlan]) -> list[frozenset[int]]:
    """Give the numbers of the frames that are measured, for each segment; none where no rendition is a video."""
    main = main_rendition(plan)
    if main is None:
        return [frozenset() for _ in segments]
    encoder = plan.renditions[main].encoder
    return [sampled_numbers(segment.frame_count, encoder) for segment in segments]


def _meter(plan: Plan, segment: SegmentPlan) -> SegmentMeter | None:
    """Give what measures the segment; imports numpy, which segments of stills do without."""
    main = main_rendition(plan)
    if main is None:
        return None
    from videoprocess_server.media.measure.segment_meter import SegmentMeter

    return SegmentMeter(plan, segment, main)


def _measured(
    path: Path, plan: Plan, segment: SegmentPlan, meter: SegmentMeter, pulse: _Pulse
) -> tuple[SegmentMeasures, float]:
    """Decode all of a segment's file; return what was measured, and the CPU seconds that decoding took."""
    from videoprocess_server.media.check import Track, check_segment

    tracks = [
        Track(
            number=number,
            rendition_index=plan.renditions.index(rendition),
            decoded=meter.decoded if rendition is meter.rendition else _ignore,
        )
        for number, rendition in enumerate(renditions_in(plan, segment))
        if rendition.is_moving
    ]
    started = time.thread_time()
    checked = check_segment(path, plan, segment, tracks, pulse.written)
    return meter.measures(checked), time.thread_time() - started - meter.cpu_seconds


def _ignore(_frame: VideoFrame) -> None:
    pass


def _burner(plan: Plan) -> Callable[[VideoFrame], None]:
    """Give what burns the plan's watermark into frames; imports numpy, which most segments do without."""
    overlay = plan.filters.overlay
    if overlay is None:
        return lambda _frame: None
    from videoprocess_server.media.watermark import Burner

    return Burner(overlay).burn_into


def warped(frames: Iterable[VideoFrame], plan: Plan, camera_path: Path) -> Iterator[VideoFrame]:
    """Put frames where the camera path says; imports OpenCV, which only stabilised plans need."""
    from videoprocess_server.media.stabilise.warp import Warper

    assert plan.stabilisation is not None
    location = plan.stabilisation.chroma_location
    warper = Warper(camera_path, None if location is None else ChromaLocation(location))
    for frame in frames:
        warper.warp(frame, source_pts_of(frame, plan))
        yield frame


def window_of(
    decoded: Iterable[VideoFrame],
    plan: Plan,
    segments: Sequence[SegmentPlan],
    ledger: Ledger,
) -> Iterator[VideoFrame]:
    """Pass the frames of the segments, those that compete with them for slots, and pre-roll and post-roll around them."""
    filters, enhanced = plan.filters, segments[0].enhanced
    pre_roll = filters.prepare_roll_frames + (filters.pre_roll_frames if enhanced else 0)
    post_roll = filters.prepare_roll_frames + (filters.post_roll_frames if enhanced else 0)
    if plan.interpolation is not None:
        pre_roll += plan.interpolation.frames_before
        post_roll += plan.interpolation.frames_after
    start_pts, end_pts = _bounds(plan, segments)
    before: deque[VideoFrame] = deque(maxlen=pre_roll)
    after = 0
    for frame in decoded:
        if frame.pts is None:  # of a packet before the first that has a time
            continue
        if frame.pts < start_pts:
            before.append(frame)
            continue
        while before:
            yield before.popleft()
        ledger.frame(frame.pts, damaged=frame.is_corrupt)
        if frame.pts >= end_pts:
            if after == post_roll:
                break
            after += 1
        yield frame
    ledger.finish()


def _bounds(plan: Plan, segments: Sequence[SegmentPlan]) -> tuple[int, int]:
    """First pts, and first pts no longer, of the frames that decide what the segments hold; beside what pre-roll and post-roll do."""
    start_pts, end_pts = segments[0].start_pts, segments[-1].end_pts
    if plan.grid is None or plan.interpolation is not None:
        return start_pts, end_pts
    first_slot = slot_of(start_pts, plan.grid, plan.time_base)
    last_slot = slot_of(end_pts - 1, plan.grid, plan.time_base)
    return (
        slot_bounds(first_slot, plan.grid, plan.time_base)[0],
        slot_bounds(last_slot, plan.grid, plan.time_base)[1],
    )


def _sync(path: Path) -> None:
    """Bring a file and its name to the disk."""
    for target in (path, path.parent):
        fd = os.open(target, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Pulse:
    """Tells progress, not more often than it is wanted."""

    def __init__(self, emit: Callable[[TaskMessage], None]) -> None:
        self._emit = emit
        self._frames = 0
        self._bytes = 0
        self._told_at = time.monotonic()

    def encoded(self) -> None:
        self._frames += 1
        self.beat()

    def written(self, size: int) -> None:
        self._bytes += size
        self.beat()

    def beat(self) -> None:
        """Tell that the worker lives, also while it decodes towards its first frame."""
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._emit(Progress(frames=self._frames, bytes=self._bytes))
