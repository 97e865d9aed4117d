"""The service's condition: of all that is the matter, what OnStatusChanged tells."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from videoprocess_server.engine.events import EventHub
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.states import BlockReason

#: of several conditions the first one is told
_ORDER = (
    SessionStatus.NOT_READY_TEMPORARILY,
    SessionStatus.NOT_READY_OVERHEAT,
    SessionStatus.READY_SPACE_LIMIT_REACHED,
)


@dataclass(frozen=True)
class Condition:
    """Something that is the matter."""

    status: SessionStatus
    reason: BlockReason
    message: str


ALL_WELL = Condition(SessionStatus.READY, BlockReason.NONE, "")


class Conditions:
    """Everything that is the matter, by who says so. Thread-safe; what does not change is not told again."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._conditions: dict[str, Condition] = {}
        self._told = ALL_WELL

    def begin(self, name: str, condition: Condition) -> None:
        """Say that something is the matter."""
        with self._lock:
            self._conditions[name] = condition
            self._tell()

    def end(self, name: str) -> None:
        """Say that it is over; nothing happens where it was not."""
        with self._lock:
            if self._conditions.pop(name, None) is not None:
                self._tell()

    def _tell(self) -> None:
        by_weight = sorted(self._conditions.values(), key=lambda condition: _ORDER.index(condition.status))
        now = by_weight[0] if by_weight else ALL_WELL
        if now != self._told:
            self._told = now
            self._hub.status_changed(now.status, now.reason, now.message)
