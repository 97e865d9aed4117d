"""What tests see of the service's work: statuses as a session hears them, and who encoded what beside whom."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from engine.engine_under_test import USER, Engine
from engine.scripted_executor import PATIENCE_SECONDS, Attempt, ScriptedExecutor
from videoprocess_server.engine.events import StatusChanged
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.states import BlockReason
from videoprocess_server.model.tasks import EncodeTask, Task

READY = (SessionStatus.READY, BlockReason.NONE)


class Statuses:
    """What a subscriber of one session, or of a user, is told of conditions."""

    def __init__(self, engine: Engine, session_id: str = "", user_id: int = USER) -> None:
        self._hub = engine.hub
        self._subscription = engine.hub.subscribe(user_id, session_id, None, lambda: None)
        self._told: list[StatusChanged] = []

    def told(self) -> list[tuple[SessionStatus, BlockReason]]:
        """All so far, the condition at the beginning first."""
        self._told += [item for item in self._hub.take(self._subscription) if isinstance(item, StatusChanged)]
        return [(status.status, status.reason) for status in self._told]


def plan_of(task: Task) -> str:
    """The plan an encoding belongs to; "" for other tasks."""
    return Path(task.output_paths[0]).parent.name if isinstance(task, EncodeTask) else ""


def encodings(workers: ScriptedExecutor) -> Counter[tuple[str, int]]:
    """How often each segment of each plan was leased."""
    tasks = [task for task in workers.begun if isinstance(task, EncodeTask)]
    return Counter((plan_of(task), part.index) for task in tasks for part in task.segments)


def is_asked_to_stop(engine: Engine, accepted: Accepted) -> bool:
    """Whether a running job is to stop at its next checkpoint, or has."""
    entry = engine.scheduler._running.get(accepted.job.job_id)
    return entry is None or entry.driver._runner.request is not None


class Crowd:
    """An act that takes its time and notes who was there meanwhile.

    Args:
        seconds: how long everybody stays.
        wanted: nobody leaves before so many were there at once.
    """

    def __init__(self, seconds: float = 0.03, wanted: int = 1) -> None:
        self._seconds = seconds
        self._wanted = wanted
        self._lock = threading.Lock()
        self._inside: list[Task] = []
        #: of each visit, in the order of their beginning: who came, and with how many others at most
        self.visits: list[tuple[Task, int]] = []

    def __call__(self, attempt: Attempt) -> None:
        with self._lock:
            self._inside.append(attempt.task)
            self.visits.append((attempt.task, 0))
            for visit, (task, most) in enumerate(self.visits):
                if task in self._inside:
                    self.visits[visit] = (task, max(most, len(self._inside) - 1))
        now = time.monotonic()
        until, latest = now + self._seconds, now + PATIENCE_SECONDS
        while time.monotonic() < until or (self.most < self._wanted and time.monotonic() < latest):
            if attempt.cancelled.wait(0.002):
                break
        with self._lock:
            self._inside.remove(attempt.task)

    @property
    def most(self) -> int:
        """How many were there at once."""
        with self._lock:
            return max(others for _, others in self.visits) + 1

    def plans(self) -> Sequence[str]:
        """Whose segments were visited, in order."""
        return [plan_of(task) for task, _ in self.visits]
