"""Which frames a result has, and when: those of its source, fewer on a grid, or more, some of them made up between two neighbours.

Pure, and a stream: what a result has at a time depends on the frames next to that time only, so it is the same wherever a run
of segments begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final, Generic, TypeVar

from videoprocess_server.model.grid import choose, slot_of, slot_pts
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import FrameGrid, Interpolation, Plan
from videoprocess_server.model.settings_snapshot import ModeSetting

#: modes whose point is a higher rate
RAISING_MODES: Final = frozenset({OperationMode.HIGH_FRAME_RATE, OperationMode.SLOW_MOTION})

_Item = TypeVar("_Item")
_HALF: Final = Fraction(1, 2)
#: part of a slot by which a frame may be moved to fill it; one that is further off is not where its motion would be
_NEAR: Final = Fraction(1, 8)


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """How the frames of a source become those of a result."""

    #: where the source's last frame is shown no longer
    end_pts: int
    time_base: Fraction
    #: of the result; `time_base` is a multiple of it
    output_time_base: Fraction
    grid: FrameGrid | None
    interpolation: Interpolation | None

    @staticmethod
    def of(plan: Plan) -> Cadence:
        """That of a plan."""
        return Cadence(
            end_pts=plan.end_pts,
            time_base=plan.time_base,
            output_time_base=plan.output_time_base,
            grid=plan.grid,
            interpolation=plan.interpolation,
        )


@dataclass(frozen=True)
class Moment(Generic[_Item]):
    """A frame of a result."""

    #: the frame of the source that it is, or the one before it
    item: _Item
    #: when it is shown, in ticks of the result
    pts: int
    #: the frame of the source after one that is made up; None for one of the source
    following: _Item | None = None
    #: of the time between those two
    fraction: Fraction = Fraction(0)


def may_interpolate(setting: ModeSetting, told: Fraction | None) -> bool:
    """Whether frames may be made up for a setting, as far as a container's frame rate tells before there is a plan."""
    asked = setting.frame_rate_range
    if setting.operation_mode in RAISING_MODES:
        return True
    return asked is not None and (told is None or told < asked.min_fps)


def moments(
    items: Iterable[_Item], pts_of: Callable[[_Item], int], cadence: Cadence
) -> Iterator[Moment[_Item]]:
    """Give the frames of the result; two items are held at a time.

    Args:
        items: frames of the source in order of their time stamps.
        pts_of: tells an item's time stamp in ticks of the source.
        cadence: of the result.
    """
    if cadence.interpolation is None:
        return _chosen(items, pts_of, cadence)
    if cadence.interpolation.factor:
        return _multiplied(items, pts_of, cadence, cadence.interpolation)
    return _filled(items, pts_of, cadence, cadence.interpolation)


def _chosen(
    items: Iterable[_Item], pts_of: Callable[[_Item], int], cadence: Cadence
) -> Iterator[Moment[_Item]]:
    """All frames, or those that are nearest to the slots of a grid."""
    if cadence.grid is None:
        ticks = _ticks(cadence)
        for item in items:
            yield Moment(item, pts_of(item) * ticks)
        return
    for item, slot in choose(items, pts_of, cadence.grid, cadence.time_base, cadence.end_pts):
        yield Moment(item, slot_pts(slot, cadence.grid, cadence.time_base))


def _multiplied(
    items: Iterable[_Item], pts_of: Callable[[_Item], int], cadence: Cadence, made: Interpolation
) -> Iterator[Moment[_Item]]:
    """All frames, and between each two so many more that there are `factor` times as many.

    Where the result's ticks do not hold a time exactly, it is rounded down, and left out where another frame has that tick.
    """
    ticks, before, factor = _ticks(cadence), None, made.factor or 1
    for item in items:
        pts = pts_of(item)
        if before is not None:
            earlier, earlier_pts = before
            last, length = earlier_pts * ticks, pts - earlier_pts
            for part in range(1, factor if length <= made.gap_ticks else 0):
                between = earlier_pts * ticks + part * length * ticks // factor
                if last < between < pts * ticks:
                    last = between
                    yield Moment(earlier, between, item, Fraction(part, factor))
        yield Moment(item, pts * ticks)
        before = item, pts


def _filled(
    items: Iterable[_Item], pts_of: Callable[[_Item], int], cadence: Cadence, made: Interpolation
) -> Iterator[Moment[_Item]]:
    """One frame for each slot of the grid: one of the source that is all but there, else one that is made up.

    In a gap and after the last frame a slot has the frame within half a slot of it, or none.
    """
    grid, time_base = cadence.grid, cadence.time_base
    assert grid is not None

    def place(pts: int) -> Fraction:
        return (pts - grid.origin_pts) * time_base * grid.rate

    def of_source(item: _Item, slot: int) -> Moment[_Item]:
        return Moment(item, slot_pts(slot, grid, time_base))

    end, before = place(cadence.end_pts), None
    for item in items:
        pts = pts_of(item)
        at = place(pts)
        if before is not None:
            earlier, earlier_pts = before
            begin = place(earlier_pts)
            is_gap = pts - earlier_pts > made.gap_ticks
            for slot in _slots(begin, at, is_gap=is_gap):
                if min(slot - begin, at - slot) <= _NEAR:
                    yield of_source(earlier if slot - begin <= at - slot else item, slot)
                elif not is_gap:
                    yield Moment(
                        earlier, slot_pts(slot, grid, time_base), item, (slot - begin) / (at - begin)
                    )
                elif slot_of(earlier_pts, grid, time_base) == slot:
                    yield of_source(earlier, slot)
                elif slot_of(pts, grid, time_base) == slot:
                    yield of_source(item, slot)
        before = item, pts
    if before is not None:
        last, last_pts = before
        slot = slot_of(last_pts, grid, time_base)
        if place(last_pts) <= slot < end:
            yield of_source(last, slot)


def _slots(begin: Fraction, end: Fraction, *, is_gap: bool) -> Iterator[int]:
    """Give the slots from a frame's time to before the next one's; in a gap, which may be long, those beside its ends."""
    first, after_last = ceil(begin), ceil(end)
    if is_gap and after_last - first > 2:
        yield first
        first = after_last - 1
    yield from range(first, after_last)


def _ticks(cadence: Cadence) -> int:
    """Ticks of the result that one of the source has."""
    return (cadence.time_base / cadence.output_time_base).numerator
