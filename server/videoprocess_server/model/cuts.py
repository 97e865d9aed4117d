"""Decides where a video is cut into segments. Pure: the same index and rules give the same cuts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

#: frames; a shorter segment costs more in bytes than it saves, and x265 needs a few frames to be itself
MIN_SEGMENT_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class CutRules:
    """How long segments are, in ticks of the source's time base."""

    segment_ticks: Fraction
    longest_gop_ticks: Fraction


def choose_cuts(
    pts: Sequence[int], keys: Sequence[int], end_pts: int, rules: CutRules, forced_pts: int | None = None
) -> tuple[int, ...]:
    """Choose the first frames of all segments, as indexes into `pts`; the first is always 0.

    A segment ends at the first key frame at or after `segment_ticks`. Inside a GOP it ends only if the GOP is longer than
    `longest_gop_ticks` and neither a key frame nor the end comes before the segment were that long itself. No segment is shorter than
    MIN_SEGMENT_FRAMES, unless the video or a part of it is.

    Args:
        pts: time stamps of all frames shown, ascending.
        keys: time stamps of all key frames, ascending; those of hidden frames too.
        end_pts: where the last frame's display ends.
        rules: lengths.
        forced_pts: a segment starts at the first frame at or after this, whatever the rules say.
    """
    forced = len(pts) if forced_pts is None else bisect_left(pts, forced_pts)
    parts = [(0, forced), (forced, len(pts))]
    return tuple(
        start
        for first, after_last in parts
        if first < after_last
        for start in _cuts_of_part(pts, keys, end_pts, rules, first, after_last)
    )


def _cuts_of_part(
    pts: Sequence[int], keys: Sequence[int], end_pts: int, rules: CutRules, first: int, after_last: int
) -> Iterator[int]:
    start = first
    while True:
        yield start
        earliest = max(bisect_left(pts, pts[start] + rules.segment_ticks), start + MIN_SEGMENT_FRAMES)
        if earliest >= len(pts):
            return
        latest_pts = pts[start] + rules.longest_gop_ticks
        start = _cut_at_or_after(pts, keys, end_pts, rules, earliest, latest_pts)
        if after_last - start < MIN_SEGMENT_FRAMES:
            return


def _cut_at_or_after(
    pts: Sequence[int],
    keys: Sequence[int],
    end_pts: int,
    rules: CutRules,
    earliest: int,
    latest_pts: Fraction,
) -> int:
    """Index of the frame the next segment starts with; len(pts) where none may."""
    following = bisect_left(keys, pts[earliest])
    next_key = keys[following] if following < len(keys) else end_pts
    at_key = bisect_left(pts, next_key)
    opening = bisect_right(keys, pts[earliest])
    gop_start = keys[opening - 1] if opening else pts[0]
    is_key = next_key == pts[earliest]
    if is_key or next_key - gop_start <= rules.longest_gop_ticks or next_key <= latest_pts:
        return at_key
    return earliest
