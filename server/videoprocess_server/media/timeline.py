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

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.cuts import CutRules, choose_cuts
from videoprocess_server.model.grid import choose, slot_bounds, slot_of, slot_pts
from videoprocess_server.model.plan import FrameGrid, SegmentPlan

_MICROSECONDS = 1_000_000


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
    #: of `pts`, those of frames that do not decode: the one before is shown
    damaged: AbstractSet[int] = frozenset()

    def results(self) -> Iterator[tuple[int, int]]:
        """Give each frame of the result: the source's time stamp and its own, in ticks of the result."""
        if self.grid is None:
            for pts in self.pts:
                yield pts, output_pts(pts, self.time_base, self.output_time_base)
            return
        for pts, slot in choose(self.pts, lambda pts: pts, self.grid, self.time_base, self.end_pts):
            yield pts, slot_pts(slot, self.grid, self.time_base)

    def presentable(self) -> Sequence[int]:
        """Give the source's time stamps of the frames of the result; those that do not decode only where none does."""
        if self.grid is None and not self.damaged:
            return self.pts
        shown = array("q", (pts for pts, _ in self.results()))
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
    counts = [0] * len(starts)
    start_pts = [timeline.pts[start] for start in starts]
    for pts, _ in timeline.results():
        counts[bisect_right(start_pts, pts) - 1] += 1
    ends = [*starts[1:], len(timeline.pts)]
    segments = [
        _segment(timeline, start, end, count, enhanced=timeline.pts[start] >= enhance_from_pts)
        for start, end, count in zip(starts, ends, counts, strict=True)
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
    for _, pts in timeline.results():
        count += 1
        digest.update(b"%d\n" % pts)
    return count, digest.hexdigest()


def _segment(timeline: Timeline, start: int, end: int, frame_count: int, *, enhanced: bool) -> SegmentPlan:
    return SegmentPlan(
        index=0,
        start_pts=timeline.pts[start],
        end_pts=timeline.pts[end] if end < len(timeline.pts) else timeline.end_pts,
        decode_from_pts=0,
        source_frame_count=end - start,
        frame_count=frame_count,
        enhanced=enhanced,
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
    """Give the last key frame from which all frames needed decode: pre-roll, and those that compete for the first slot."""
    needed_pts = start_pts
    if timeline.grid is not None:
        slot = slot_of(start_pts, timeline.grid, timeline.time_base)
        needed_pts = slot_bounds(slot, timeline.grid, timeline.time_base)[0]
    needed = max(bisect_left(timeline.pts, needed_pts) - pre_roll_frames, 0)
    while needed and timeline.pts[needed] in timeline.damaged:
        needed -= 1
    key = bisect_right(timeline.keys, timeline.pts[needed])
    # Before the first key frame there may be frames that decode: its own leading ones, or a first that is not marked.
    return timeline.keys[key - 1] if key else timeline.pts[0]
