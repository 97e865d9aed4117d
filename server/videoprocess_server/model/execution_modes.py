"""What an ExecutionMode means: how many workers a job may have, and how nice they are to the rest of the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from videoprocess_server.model.hdi import ExecutionMode


@dataclass(frozen=True, kw_only=True)
class ModePolicy:
    """One row of the table of modes."""

    #: how many of the machine's worker places a job may have
    max_workers: Callable[[int], int]
    #: added to the service's own niceness
    niceness: int


def _all(places: int) -> int:
    return places


def _half_rounded_up(places: int) -> int:
    return -(-places // 2)


def _one(_places: int) -> int:
    return 1


#: DEFAULT is as fast as HIGH_PERFORMANCE where nothing else wants the machine, and gives way where something does
MODES: Mapping[ExecutionMode, ModePolicy] = {
    ExecutionMode.HIGH_PERFORMANCE: ModePolicy(max_workers=_all, niceness=0),
    ExecutionMode.DEFAULT: ModePolicy(max_workers=_all, niceness=5),
    ExecutionMode.BALANCED: ModePolicy(max_workers=_half_rounded_up, niceness=10),
    ExecutionMode.LOW_POWER: ModePolicy(max_workers=_one, niceness=19),
}
