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


class CrashCause(Enum):
    """Whose doing a worker's end was, as far as the executor can tell."""

    #: the exit code tells
    EXIT = "exit"
    #: SIGKILL, and the cgroup's count of out-of-memory kills rose
    OUT_OF_MEMORY = "out_of_memory"
    #: its heartbeat stopped while it had a task and was not frozen; it was killed
    SILENT = "silent"


class WorkerCrashedError(Exception):
    """The worker ended without an answer: `exit_code` as subprocess tells it, negative for a signal."""

    def __init__(self, exit_code: int | None, cause: CrashCause = CrashCause.EXIT) -> None:
        super().__init__(f"a worker ended with exit code {exit_code} ({cause.value})")
        self.exit_code = exit_code
        self.cause = cause


class TaskStalledError(Exception):
    """The task's counts did not advance for its stall time of running (frozen time does not count): it was killed."""


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

    def freeze(self) -> None:
        """Stop it where it is, to go on later.

        When this returns no thread of its worker runs, and its place is another task's. What its worker said before may
        still be told, its end too. A queued task does not start while it is frozen; one that ended stays ended. Freezing
        twice is once.
        """
        ...

    def thaw(self) -> None:
        """Let a frozen task go on as soon as there is a place, before queued ones. Nothing happens unless it is frozen."""
        ...

    def resident_bytes(self) -> int:
        """Return the memory its worker holds; 0 where it has none."""
        ...

    def add_done_callback(self, callback: Callable[[TaskHandle], None]) -> None:
        """Call back once it ended, from any thread, at once if it has; the worker it had is gone or free by then."""
        ...


class Executor(Protocol):
    """Runs tasks, as many at once as it has workers; the others wait in order of submission.

    A frozen task's worker stays in memory beside the workers that run, so whoever freezes bounds how many there are.
    """

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
        niceness: int = 0,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskHandle:
        """Queue a task.

        Args:
            task: what to do.
            source_fd: the opened source; the executor owns it from here and closes it. Each task needs a descriptor
                of its own, since a descriptor's offset is shared.
            slot: which workers may take it.
            stall_seconds: a task whose counts of frames and bytes do not advance for longer is killed (running time only).
            niceness: of the worker while it has the task, added to the service's own.
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
