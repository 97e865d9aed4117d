"""A plan's time stamps as callers know them: microseconds since the first frame."""

from __future__ import annotations

from fractions import Fraction

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.records import MediaRange


def microseconds(plan: Plan, pts: int) -> int:
    """Return the time of a time stamp of the source."""
    return round(Fraction(pts - plan.first_pts) * plan.time_base * MICROSECONDS_PER_SECOND)


def ranges(plan: Plan) -> tuple[tuple[MediaRange, ...], tuple[MediaRange, ...]]:
    """Return the enhanced and the carried-over ranges; the second comes first in time, and may be empty."""
    end_us = microseconds(plan, plan.end_pts)
    begin_us = microseconds(plan, max(enhance_from_pts(plan), plan.first_pts))
    enhanced = (MediaRange(start_us=begin_us, end_us=end_us),) if begin_us < end_us else ()
    carried_over = (MediaRange(start_us=0, end_us=begin_us),) if begin_us > 0 else ()
    return enhanced, carried_over


def enhance_from_pts(plan: Plan) -> int:
    """Return the time stamp of the first frame that is enhanced."""
    return plan.first_pts if plan.enhance_from_pts is None else plan.enhance_from_pts
