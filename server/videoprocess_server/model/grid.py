"""Drops frames to an exact grid. What fills a slot depends only on the frames within half a slot of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from math import ceil, floor, lcm
from typing import TypeVar

from videoprocess_server.model.plan import FrameGrid

_Item = TypeVar("_Item")
_HALF = Fraction(1, 2)


def slot_of(pts: int, grid: FrameGrid, time_base: Fraction) -> int:
    """Number of the only slot that a frame may fill."""
    return floor((pts - grid.origin_pts) * time_base * grid.rate + _HALF)


def slot_bounds(slot: int, grid: FrameGrid, time_base: Fraction) -> tuple[int, int]:
    """First pts, and first pts no longer, of the frames that may fill a slot; ticks of the source."""
    ticks_per_slot = 1 / (grid.rate * time_base)
    return (
        grid.origin_pts + ceil((slot - _HALF) * ticks_per_slot),
        grid.origin_pts + ceil((slot + _HALF) * ticks_per_slot),
    )


def grid_time_base(grid: FrameGrid, time_base: Fraction) -> Fraction:
    """The coarsest time base 1/n that holds both the source's time stamps and the grid exactly."""
    return Fraction(1, lcm(time_base.denominator, grid.rate.numerator))


def slot_pts(slot: int, grid: FrameGrid, time_base: Fraction) -> int:
    """Time stamp of a slot in ticks of `grid_time_base`."""
    ticks = (grid.origin_pts * time_base + slot / grid.rate) / grid_time_base(grid, time_base)
    return ticks.numerator


def choose(
    items: Iterable[_Item], pts_of: Callable[[_Item], int], grid: FrameGrid, time_base: Fraction, end_pts: int
) -> Iterator[tuple[_Item, int]]:
    """Give each item that fills a slot, with the slot's number; one item is held at a time.

    Args:
        items: in order of their time stamps.
        pts_of: tells an item's time stamp in ticks of the source.
        grid: the slots.
        time_base: of the source.
        end_pts: where the source's last frame is shown no longer.
    """
    end = (end_pts - grid.origin_pts) * time_base * grid.rate
    best: tuple[Fraction, _Item, int] | None = None
    for item in items:
        pts = pts_of(item)
        slot = slot_of(pts, grid, time_base)
        if slot >= end:
            continue
        distance = abs((pts - grid.origin_pts) * time_base - slot / grid.rate)
        if best is not None and best[2] != slot:
            yield best[1], best[2]
            best = None
        if best is None or distance < best[0]:
            best = (distance, item, slot)
    if best is not None:
        yield best[1], best[2]
