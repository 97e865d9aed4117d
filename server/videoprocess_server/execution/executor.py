"""Runs tasks somewhere else than in the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from videoprocess_server.model.tasks import Task, TaskMessage, TaskResult


class Slot(Enum):
    """Which workers may take a task."""

    #: one worker is kept for these, so that Prepare answers while all others encode
    PROBE = "probe"
    GENERAL = "general"


class TaskFailedError(Exception):
    """The worker answered that the task cannot be done. `reason` is one of the catalogue in errors.py."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class WorkerCrashedError(Exception):
    """The worker ended without an answer: `exit_code` as subprocess tells it, negative for a signal."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"a worker ended with exit code {exit_code}")
        self.exit_code = exit_code


class TaskStalledError(Exception):
    """The worker gave no sign of life for the task's stall time and was killed."""


class TaskCancelledError(Exception):
    """The task was cancelled, or the executor closed, before it ended."""


class TaskHandle(Protocol):
    """A submitted task."""

    def result(self) -> TaskResult:
        """Wait for the answer.

        Raises:
            TaskFailedError, WorkerCrashedError, TaskStalledError, TaskCancelledError: what became of it instead.
        """
        ...

    def done(self) -> bool:
        """Return whether it ended."""
        ...

    def cancel(self) -> None:
        """Stop it: a queued task never starts, a running one's worker is killed. Returns at once; `result` tells the end."""
        ...

    def add_done_callback(self, callback: Callable[[TaskHandle], None]) -> None:
        """Call back once it ended, from any thread, at once if it has; the worker it had is gone or free by then."""
        ...


class Executor(Protocol):
    """Runs tasks, as many at once as it has workers; the others wait in order of submission."""

    @property
    def worker_count(self) -> int:
        """How many GENERAL tasks run at once."""
        ...

    def start(self) -> None:
        """Start the workers; before any gRPC thread exists."""
        ...

    def submit(
        self,
        task: Task,
        *,
        source_fd: int | None = None,
        slot: Slot = Slot.GENERAL,
        stall_seconds: float,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskHandle:
        """Queue a task.

        Args:
            task: what to do.
            source_fd: the opened source; the executor owns it from here and closes it. Each task needs a descriptor
                of its own, since a descriptor's offset is shared.
            slot: which workers may take it.
            stall_seconds: a worker silent for longer is killed (running time only).
            on_message: called from the executor's thread, in order, before the task ends.
        """
        ...

    def worker_pids(self) -> Sequence[int]:
        """Return the process ids of the workers there are."""
        ...

    def ping(self) -> None:
        """Return if tasks can run; RuntimeError otherwise."""
        ...

    def close(self) -> None:
        """Kill all workers and end all tasks as cancelled."""
        ...
