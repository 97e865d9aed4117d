"""Wall time, injected so that tests decide what it is."""

from __future__ import annotations

import time
from typing import Protocol

MICROSECONDS_PER_SECOND = 1_000_000


class Clock(Protocol):
    """Tells the time."""

    def now_us(self) -> int:
        """Return wall time in microseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Return wall time in microseconds since the Unix epoch."""
        return time.time_ns() // 1000
