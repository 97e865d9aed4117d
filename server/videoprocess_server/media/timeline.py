"""Turns a packet index into segments: which frames, from where they decode, and what they become."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.cadence import Cadence, moments
from videoprocess_server.model.cuts import CutRules, choose_cuts
from videoprocess_server.model.grid import slot_bounds, slot_of
from videoprocess_server.model.plan import FrameGrid, Interpolation, SegmentPlan

_MICROSECONDS = 1_000_000
#: frames that are made up whose times a plan tells
MOST_INTERPOLATED_TIMES = 10_000


class Shown(NamedTuple):
    """A frame of the result."""

    #: of the frame of the source that it is, or of the one before it
    source_pts: int
    #: its own, in ticks of the result
    pts: int
    #: whether it is made up
    interpolated: bool


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The frames of a source and what becomes of them."""

    #: of the frames shown, ascending, in ticks of the source
    pts: Sequence[int]
    keys: Sequence[int]
    end_pts: int
    time_base: Fraction
    #: of the result
    output_time_base: Fraction
    grid: FrameGrid | None
    interpolation: Interpolation | None = None
    #: of `pts`, those of frames that do not decode: the one before is shown
    damaged: AbstractSet[int] = frozenset()

    @property
    def keeps_frames(self) -> bool:
        """Whether the result has all frames of the source and no others."""
        return self.grid is None and self.interpolation is None

    def results(self) -> Iterator[Shown]:
        """Give each frame of the result."""
        cadence = Cadence(
            end_pts=self.end_pts,
            time_base=self.time_base,
            output_time_base=self.output_time_base,
            grid=self.grid,
            interpolation=self.interpolation,
        )
        for moment in moments(self.pts, lambda pts: pts, cadence):
            yield Shown(moment.item, moment.pts, moment.following is not None)

    def presentable(self) -> Sequence[int]:
        """Give the source's time stamps of its frames in the result; those that do not decode only where none does."""
        if self.grid is None and not self.damaged:
            return self.pts
        shown = array("q", (shown.source_pts for shown in self.results() if not shown.interpolated))
        whole = array("q", (pts for pts in shown if pts not in self.damaged))
        return whole or shown


def output_pts(pts: int, time_base: Fraction, output_time_base: Fraction) -> int:
    """Convert a time stamp to a finer time base, exactly."""
    return (pts * time_base / output_time_base).numerator


def first_pts_at(timeline: Timeline, microseconds: int) -> int:
    """Give the time stamp of the first frame at or after a time since the first frame.

    Frame times count in whole microseconds, rounded up, as a caller that learnt one from a player has them.

    Raises:
        MediaFault: TIMESTAMP_BEYOND_END where no frame starts then or later.
    """
    first = timeline.pts[0]

    def microseconds_of(pts: int) -> int:
        return ceil((pts - first) * timeline.time_base * _MICROSECONDS)

    at = bisect_left(timeline.pts, microseconds, key=microseconds_of)
    if at == len(timeline.pts):
        raise MediaFault(
            "TIMESTAMP_BEYOND_END",
            f"{microseconds} us is after the last frame, which starts at {microseconds_of(timeline.pts[-1])} us.",
        )
    return timeline.pts[at]


def plan_segments(
    timeline: Timeline,
    rules: CutRules,
    enhance_from_pts: int,
    pre_roll_frames: int,
    prepare_roll_frames: int = 0,
) -> tuple[SegmentPlan, ...]:
    """Cut the timeline into segments that each have at least one frame of the result."""
    forced = None if enhance_from_pts <= timeline.pts[0] else enhance_from_pts
    starts = choose_cuts(timeline.pts, timeline.keys, timeline.end_pts, rules, forced)
    frames = [bytearray() for _ in starts]
    start_pts = [timeline.pts[start] for start in starts]
    for shown in timeline.results():
        frames[bisect_right(start_pts, shown.source_pts) - 1].append(shown.interpolated)
    ends = [*starts[1:], len(timeline.pts)]
    segments = [
        _segment(timeline, start, end, made, enhanced=timeline.pts[start] >= enhance_from_pts)
        for start, end, made in zip(starts, ends, frames, strict=True)
    ]
    return tuple(
        replace(
            segment,
            index=index,
            decode_from_pts=_decode_from(
                timeline,
                segment.start_pts,
                prepare_roll_frames + (pre_roll_frames if segment.enhanced else 0),
            ),
        )
        for index, segment in enumerate(_without_empty(segments))
    )


def summarise(timeline: Timeline) -> tuple[int, str]:
    """Count the result's frames and hash their time stamps."""
    count, digest = 0, hashlib.sha256()
    for shown in timeline.results():
        count += 1
        digest.update(b"%d\n" % shown.pts)
    return count, digest.hexdigest()


def interpolated_times(timeline: Timeline) -> tuple[int, tuple[int, ...]]:
    """Count the frames that are made up, and tell when the first of them are shown, in microseconds since the first frame."""
    if timeline.interpolation is None:
        return 0, ()
    first, count, times = timeline.pts[0] * timeline.time_base, 0, list[int]()
    for shown in timeline.results():
        if shown.interpolated:
            count += 1
            if len(times) < MOST_INTERPOLATED_TIMES:
                times.append(round((shown.pts * timeline.output_time_base - first) * _MICROSECONDS))
    return count, tuple(times)


def frame_flags(segment: SegmentPlan) -> bytes:
    """Tell of each frame of a segment whether it is made up, a byte each."""
    bits = int(segment.interpolated or "0", 16)
    return bytes(bits >> number & 1 for number in range(segment.frame_count))


def _segment(timeline: Timeline, start: int, end: int, frames: bytearray, *, enhanced: bool) -> SegmentPlan:
    bits = sum(1 << number for number, interpolated in enumerate(frames) if interpolated)
    return SegmentPlan(
        index=0,
        start_pts=timeline.pts[start],
        end_pts=timeline.pts[end] if end < len(timeline.pts) else timeline.end_pts,
        decode_from_pts=0,
        source_frame_count=end - start,
        frame_count=len(frames),
        enhanced=enhanced,
        interpolated=f"{bits:x}" if bits else "",
    )


def _without_empty(segments: list[SegmentPlan]) -> list[SegmentPlan]:
    """Merge a segment all of whose frames are dropped into the next one, the last into the one before."""
    merged: list[SegmentPlan] = []
    for segment in segments:
        if merged and (not merged[-1].frame_count or (segment is segments[-1] and not segment.frame_count)):
            before = merged.pop()
            shown = segment if segment.frame_count else before
            segment = replace(  # noqa: PLW2901 - the merged segment takes its place
                shown,
                start_pts=before.start_pts,
                end_pts=segment.end_pts,
                source_frame_count=before.source_frame_count + segment.source_frame_count,
            )
        merged.append(segment)
    return merged


def _decode_from(timeline: Timeline, start_pts: int, pre_roll_frames: int) -> int:
    """Give the last key frame from which all frames needed decode: pre-roll, and those that decide the first slot."""
    needed_pts = start_pts
    if timeline.interpolation is not None:
        pre_roll_frames += timeline.interpolation.frames_before
    elif timeline.grid is not None:
        slot = slot_of(start_pts, timeline.grid, timeline.time_base)
        needed_pts = slot_bounds(slot, timeline.grid, timeline.time_base)[0]
    needed = max(bisect_left(timeline.pts, needed_pts) - pre_roll_frames, 0)
    while needed and timeline.pts[needed] in timeline.damaged:
        needed -= 1
    key = bisect_right(timeline.keys, timeline.pts[needed])
    # Before the first key frame there may be frames that decode: its own leading ones, or a first that is not marked.
    return timeline.keys[key - 1] if key else timeline.pts[0]
