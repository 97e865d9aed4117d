"""Says whether wall time may be believed: a clock that jumped by years must not empty the store."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND, Clock

log = structlog.get_logger(__name__)

#: wall and monotonic time that drift apart by more, from one look to the next, are a jump
JUMP_SECONDS = 3600.0


class ClockWatch:
    """Compares wall time with monotonic time, which nobody sets.

    Args:
        clock: wall time.
        monotonic: seconds that never jump.
        steady_seconds: how long both must have gone together, after the start or a jump, to be believed.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float], steady_seconds: float) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._steady_seconds = steady_seconds
        self._jumped = False
        self._steady_since = self._last_monotonic = monotonic()
        self._last_us = clock.now_us()

    @property
    def is_steady(self) -> bool:
        """Whether the clock ran steadily for long enough, as of the last look."""
        return self._last_monotonic - self._steady_since >= self._steady_seconds

    @property
    def has_jumped(self) -> bool:
        """Whether it jumped and has not run steadily for long enough since."""
        return self._jumped and not self.is_steady

    def look(self) -> None:
        """Compare both with the last time."""
        now_us, monotonic = self._clock.now_us(), self._monotonic()
        jump = (now_us - self._last_us) / MICROSECONDS_PER_SECOND - (monotonic - self._last_monotonic)
        self._last_us, self._last_monotonic = now_us, monotonic
        if abs(jump) > JUMP_SECONDS:
            self._jumped, self._steady_since = True, monotonic
            log.warning("clock_jumped", seconds=round(jump), nothing_expires_for_seconds=self._steady_seconds)
