"""Frozen work: drivers whose jobs were stopped wait here with their open segments, within a budget of memory and time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParkingLimits:
    """How much may stay frozen. What goes over is given up, the oldest first: its open segments are encoded again."""

    max_count: int = 8
    max_bytes: int = 1 << 30
    max_seconds: float = 600.0


class Parkable(Protocol):
    """Work that can wait."""

    def resident_bytes(self) -> int:
        """Return the memory it holds while it waits."""
        ...

    def evict(self) -> None:
        """Give up the open segments; from any thread, returns at once."""
        ...


W = TypeVar("W", bound=Parkable)


@dataclass(frozen=True)
class _Parked(Generic[W]):
    work: W
    since: float


class ParkingLot(Generic[W]):
    """The frozen work there is, at most one a video; the oldest comes first."""

    def __init__(self, limits: ParkingLimits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._parked: dict[tuple[int, str], _Parked[W]] = {}

    def park(self, user_id: int, video_id: str, work: W) -> None:
        """Let work wait; what waited for the same video is given up."""
        with self._lock:
            before = self._parked.pop((user_id, video_id), None)
            self._parked[(user_id, video_id)] = _Parked(work, self._monotonic())
        if before is not None and before.work is not work:
            before.work.evict()

    def get(self, user_id: int, video_id: str) -> W | None:
        """Return a video's work and leave it where it is."""
        with self._lock:
            parked = self._parked.get((user_id, video_id))
        return parked.work if parked is not None else None

    def take(self, user_id: int, video_id: str) -> W | None:
        """Take a video's work out, to go on with it or to give it up."""
        with self._lock:
            parked = self._parked.pop((user_id, video_id), None)
        return parked.work if parked is not None else None

    def names(self) -> Sequence[tuple[int, str]]:
        """Return user_id and video_id of all work that waits."""
        with self._lock:
            return list(self._parked)

    def count(self) -> int:
        """Return how much work waits."""
        return len(self._all())

    def resident_bytes(self) -> int:
        """Return the memory all of it holds."""
        return sum(parked.work.resident_bytes() for parked in self._all())

    def keep_within_limits(self) -> None:
        """Give up what is over the budget."""
        now = self._monotonic()
        parked = self._all()
        total_bytes = 0
        for count, entry in enumerate(reversed(parked), start=1):  # the newest are kept
            total_bytes += entry.work.resident_bytes()
            if (
                count > self._limits.max_count
                or total_bytes > self._limits.max_bytes
                or now - entry.since > self._limits.max_seconds
            ):
                self._give_up(entry)

    def seconds_to_next_expiry(self) -> float | None:
        """Return when the oldest has waited long enough; None where nothing waits."""
        parked = self._all()
        if not parked:
            return None
        return max(0.0, parked[0].since + self._limits.max_seconds - self._monotonic())

    def clear(self) -> None:
        """Give up everything."""
        for entry in self._all():
            self._give_up(entry)

    def _give_up(self, entry: _Parked[W]) -> None:
        with self._lock:
            names = [name for name, parked in self._parked.items() if parked is entry]
            for name in names:
                del self._parked[name]
        for user_id, video_id in names:  # else somebody took it just now
            log.info("parked_work_given_up", user_id=user_id, video_id=video_id)
            entry.work.evict()

    def _all(self) -> list[_Parked[W]]:
        with self._lock:
            return list(self._parked.values())
