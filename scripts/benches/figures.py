"""Figures of a sample, goals, and words about progress."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

_START = time.monotonic()
#: whether nothing is told on stderr
quiet = False


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of the sample are not above: one that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Sequence[float], scale: float = 1000.0) -> dict[str, float]:
    """Return what is told of a sample.

    Args:
        values: seconds, as a rule.
        scale: what they are multiplied by; milliseconds as a rule.
    """
    told = {
        "p50": statistics.median(values),
        "p99": percentile(values, 99),
        "max": max(values),
        "mean": statistics.fmean(values),
    }
    return {"count": len(values), **{name: round(value * scale, 3) for name, value in told.items()}}


def goal(measured: float, at_most: float) -> dict[str, Any]:
    """Return a goal beside what was measured."""
    return {"measured": round(measured, 4), "at_most": round(at_most, 4), "met": measured <= at_most}


def say(text: str) -> None:
    """Tell on stderr how far the bench is; stdout is for the JSON."""
    if quiet:
        return
    print(f"[{time.monotonic() - _START:6.1f} s] {text}", file=sys.stderr, flush=True)
