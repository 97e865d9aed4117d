"""How long something ran, without the times it stood still."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stopwatch:
    """Stands at 0 until it is started. Whoever shares one between threads locks it.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted = 0.0
        self._started_at: float | None = None

    def start(self) -> None:
        """Count from now on; it stood still."""
        self._started_at = self._clock()

    def stop(self) -> None:
        """Stand still."""
        self._counted = self.seconds()
        self._started_at = None

    def seconds(self) -> float:
        """Return what it counted so far."""
        if self._started_at is None:
            return self._counted
        return self._counted + self._clock() - self._started_at
