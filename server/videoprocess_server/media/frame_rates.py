"""Decides a result's frame rate: the source's, a lower one on a grid, or a higher one for which frames are made up (docs/frame-rates.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

import numpy as np

from videoprocess_server.media.encoders import declared_rate
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.cadence import RAISING_MODES
from videoprocess_server.model.plan import FrameGrid, Interpolation
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting

#: 29.97 counts as 30
RATE_TOLERANCE: Final = Fraction(1, 100)
#: frames of a result per frame of its source at most: what is made up must stay near what was seen
MOST_FRAMES_PER_FRAME: Final = 8
#: frames per second for which frames are made up at most
MOST_RAISED_RATE: Final = Fraction(240)
#: up to which the modes whose point is a higher rate double it, where no range is asked for
MOST_DOUBLED_RATE: Final = Fraction(120)
#: median steps between frames from which on a step is a gap, in which nothing is made up
_GAP_STEPS: Final = 4
#: a longer step between frames is a pause of the recording
_LONGEST_STEP_SECONDS: Final = 4
#: frames per second of a single frame whose container says nothing
_FALLBACK_RATE: Final = Fraction(30)


@dataclass(frozen=True, kw_only=True)
class FrameRate:
    """What becomes of a source's frame rate."""

    grid: FrameGrid | None = None
    interpolation: Interpolation | None = None


def measured_rate(pts: Sequence[int], time_base: Fraction, told: Fraction | None) -> Fraction:
    """Give frames per second from the first to the last frame; what the container tells where there is but one.

    A pause of the recording is no rate: a longer step than `_LONGEST_STEP_SECONDS` counts as one of that length.
    """
    if len(pts) < 2:
        return told or _FALLBACK_RATE
    steps = np.minimum(np.diff(np.asarray(pts, np.int64)), int(_LONGEST_STEP_SECONDS / time_base))
    return (len(pts) - 1) / (int(steps.sum()) * time_base)


def plan_frame_rate(
    setting: ModeSetting, pts: Sequence[int], time_base: Fraction, told: Fraction | None
) -> FrameRate:
    """Decide whether frames are dropped or made up.

    Args:
        setting: what is asked for.
        pts: of the source's frames, ascending.
        time_base: of them.
        told: the rate that the container tells.

    Raises:
        MediaFault: FRAME_RATE_RAISE_NOT_SUPPORTED where too many frames would have to be made up.
    """
    asked = setting.frame_rate_range
    measured = measured_rate(pts, time_base, told)
    if asked is not None and measured > asked.max_fps * (1 + RATE_TOLERANCE):
        return FrameRate(grid=FrameGrid(rate=Fraction(asked.max_fps), origin_pts=pts[0]))
    steps = _Steps.of(pts, time_base)
    if steps is None:
        return FrameRate()
    if setting.operation_mode in RAISING_MODES:
        return _as_high_as_asked(asked, steps, pts[0])
    if asked is None or max(measured, steps.rate) >= asked.min_fps * (1 - RATE_TOLERANCE):
        return FrameRate()
    least = ceil(asked.min_fps * (1 - RATE_TOLERANCE) / steps.rate)
    if least * steps.rate <= asked.max_fps * (1 + RATE_TOLERANCE):
        return _multiplied(least, steps)
    return _filled(Fraction(asked.min_fps), steps, pts[0])


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """How frames follow each other outside of gaps."""

    rate: Fraction
    gap_ticks: int

    @staticmethod
    def of(pts: Sequence[int], time_base: Fraction) -> _Steps | None:
        """Measure; None where no frame follows another."""
        steps = np.diff(np.asarray(pts, dtype=np.int64))
        if not len(steps):
            return None
        gap_ticks = _GAP_STEPS * int(np.sort(steps)[len(steps) // 2])
        usual = steps[steps <= gap_ticks]
        return _Steps(rate=len(usual) / (int(usual.sum()) * time_base), gap_ticks=gap_ticks)


def _as_high_as_asked(asked: FrameRateRange | None, steps: _Steps, origin_pts: int) -> FrameRate:
    """Give the highest rate of the range that keeps every frame where it is; twice the source's without a range."""
    if asked is None:
        doubled = 2 * steps.rate <= MOST_DOUBLED_RATE * (1 + RATE_TOLERANCE)
        return _multiplied(2, steps) if doubled else FrameRate()
    highest = min(Fraction(asked.max_fps), MOST_RAISED_RATE) * (1 + RATE_TOLERANCE)
    factor = min(int(highest / steps.rate), MOST_FRAMES_PER_FRAME)
    if factor * steps.rate >= asked.min_fps * (1 - RATE_TOLERANCE):
        return _multiplied(factor, steps) if factor > 1 else FrameRate()
    return _filled(Fraction(asked.max_fps), steps, origin_pts)


def _multiplied(factor: int, steps: _Steps) -> FrameRate:
    _check(factor * steps.rate, steps.rate)
    rate = declared_rate(factor * steps.rate)
    return FrameRate(interpolation=Interpolation(factor=factor, gap_ticks=steps.gap_ticks, rate=rate))


def _filled(rate: Fraction, steps: _Steps, origin_pts: int) -> FrameRate:
    _check(rate, steps.rate)
    return FrameRate(
        grid=FrameGrid(rate=rate, origin_pts=origin_pts),
        interpolation=Interpolation(factor=None, gap_ticks=steps.gap_ticks, rate=rate),
    )


def _check(rate: Fraction, source: Fraction) -> None:
    most = min(source * MOST_FRAMES_PER_FRAME, MOST_RAISED_RATE) * (1 + RATE_TOLERANCE)
    if rate > most:
        raise MediaFault(
            "FRAME_RATE_RAISE_NOT_SUPPORTED",
            f"The source has {float(source):.2f} frames per second and would get {float(rate):.2f}; at most "
            f"{MOST_FRAMES_PER_FRAME} are made of one, and at most {MOST_RAISED_RATE} a second.",
        )
