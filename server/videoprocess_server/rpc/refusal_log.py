"""Tells of refused calls in a bounded number of lines: whoever calls in vain, with or without credentials, fills no disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from videoprocess_server.rpc.rate_limits import Rate, RateLimit

log = structlog.get_logger(__name__)

#: lines of all callers together
LINES = Rate(20.0, 1000)


class RefusalLog:
    """Logs refused calls; what comes too fast is counted and told with a later one.

    Args:
        clock: seconds that never go back.
        lines: how many there may be.
    """

    def __init__(self, clock: Callable[[], float], lines: Rate = LINES) -> None:
        self._lines = RateLimit(lines, clock, max_keys=1)
        self._untold = 0

    def tell(self, **fields: Any) -> None:  # noqa: ANN401 - whatever a line has
        """Log one call."""
        if self._lines.take("") > 0:
            self._untold += 1
            log.debug("rpc", **fields)
            return
        if self._untold:
            fields["untold_calls"], self._untold = self._untold, 0
        log.info("rpc", **fields)
