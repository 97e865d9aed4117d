"""A submitted task's way through an executor: queued, running, perhaps frozen, ended."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Protocol

import structlog

from videoprocess_server.errors import CATALOGUE
from videoprocess_server.execution.codec import Failed
from videoprocess_server.execution.executor import TaskCancelledError, TaskFailedError, TaskHandle
from videoprocess_server.execution.places import Line, Places
from videoprocess_server.execution.stopwatch import Stopwatch
from videoprocess_server.model.tasks import Task, TaskMessage, TaskResult
from videoprocess_server.model.trace_context import CURRENT_TRACE

_log = structlog.get_logger(__name__)


class TaskWorker(Protocol):
    """Whoever does a task, as the task sees it. Called under the task's lock."""

    def stop(self) -> None:
        """Begin to end, frozen or not; returns at once."""
        ...

    def freeze(self) -> bool:
        """Stand still; return when it does. False if it is gone already."""
        ...

    def thaw(self) -> None:
        """Go on."""
        ...

    def resident_bytes(self) -> int:
        """Return the memory it holds."""
        ...


class RunState(Enum):
    """Where a task is. It stands in a line exactly in the states that have one, and has a place exactly while RUNNING."""

    QUEUED = auto()
    #: frozen before it had a worker
    SET_ASIDE = auto()
    RUNNING = auto()
    FROZEN = auto()
    #: its worker stands still until there is a place
    THAWING = auto()
    #: it has its outcome
    SETTLED = auto()


_WORKERLESS = (RunState.QUEUED, RunState.SET_ASIDE)
_STOPPED = (RunState.FROZEN, RunState.THAWING)


class TaskRun:
    """The TaskHandle of every executor here, with what the executor needs beside it.

    An executor calls `queue`, takes it from its places, calls `begin`, then `tell` for each message, then `settle`, gives
    the place back if it `holds_place`, and calls `finish`. A `cancel` before `settle` wins over whatever the task would
    have answered.

    Args:
        task: what to do.
        source_fd: owned from here.
        stall_seconds: of running without progress, after which its worker is killed.
        on_message: called with each message. What it raises ends the task, and is what `result` raises.
        places: where it waits.
        niceness: of its worker, added to the service's own.
        running: counts the time it ran.
    """

    def __init__(
        self,
        task: Task,
        source_fd: int | None,
        stall_seconds: float,
        on_message: Callable[[TaskMessage], None] | None,
        places: Places[TaskRun],
        *,
        niceness: int = 0,
        running: Stopwatch | None = None,
    ) -> None:
        self.task = task
        self.source_fd = source_fd
        self.stall_seconds = stall_seconds
        self.niceness = niceness
        #: what log lines about it carry: those of whoever submitted it, or let it go on
        self.names = _names()
        #: where its spans belong; None where nobody keeps them
        self.trace = CURRENT_TRACE.get()
        #: whether it ended while it had a place; of a settled task
        self.holds_place = False
        self._on_message = on_message
        self._places = places
        self._running = running or Stopwatch()
        self._lock = threading.Lock()
        self._state = RunState.QUEUED
        self._ended = threading.Event()
        self._cancelled = False
        self._worker: TaskWorker | None = None
        self._outcome: TaskResult | Exception | None = None
        self._callbacks: list[Callable[[TaskHandle], None]] = []

    def result(self) -> TaskResult:
        """Wait for the answer and return it, or raise what became of the task instead."""
        self._ended.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome

    def done(self) -> bool:
        """Return whether it ended."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Stop it; a task that has its answer already keeps it."""
        with self._lock:
            if self._state is RunState.SETTLED or self._cancelled:
                return
            self._cancelled = True
            self._places.withdraw(self)
            never_ran = self._state in _WORKERLESS
            if never_ran:
                self._state = RunState.SETTLED
            elif self._worker is not None:
                self._worker.stop()
        self._places.grant()
        if never_ran:
            self.finish(TaskCancelledError("cancelled while queued"))

    def freeze(self) -> None:
        """Stop it where it is; see TaskHandle."""
        with self._lock:
            if self._state is RunState.QUEUED:
                self._state = RunState.SET_ASIDE
            elif self._state is RunState.THAWING:
                self._state = RunState.FROZEN
            elif not self._stop_worker():
                return
            self._places.withdraw(self)
        self._places.grant()

    def thaw(self) -> None:
        """Let it go on as soon as there is a place; see TaskHandle."""
        with self._lock:
            if self._cancelled:
                return
            self.names = _names()
            if self._state is RunState.SET_ASIDE:
                self._state = RunState.QUEUED
                self._places.line_up(self, Line.RETURNING)
            elif self._state is RunState.FROZEN:
                self._state = RunState.THAWING
                self._places.line_up(self, Line.STOPPED)
            else:
                return
        self._places.grant()

    def resident_bytes(self) -> int:
        """Return the memory its worker holds; 0 where it has none."""
        with self._lock:
            has_worker = self._worker is not None and self._state is not RunState.SETTLED
            return self._worker.resident_bytes() if self._worker is not None and has_worker else 0

    def add_done_callback(self, callback: Callable[[TaskHandle], None]) -> None:
        """Call back once it ended, at once if it has."""
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(callback)
                return
        self._call_back(callback)

    @property
    def log(self) -> Any:  # noqa: ANN401 - structlog's
        """The log, with the names of whoever waits for the task."""
        return _log.bind(**self.names)

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it in time."""
        return self._cancelled

    @property
    def frozen(self) -> bool:
        """Whether its worker stands still."""
        return self._state in _STOPPED

    def ran_seconds(self) -> float:
        """Return how long it ran so far; frozen time does not count."""
        with self._lock:
            return self._running.seconds()

    def queue(self, line: Line = Line.QUEUED) -> None:
        """Wait for a place; also for a task that was taken and did not begin."""
        with self._lock:
            if self._state is RunState.QUEUED:
                self._places.line_up(self, line)
        self._places.grant()

    def refuse(self, error: Exception) -> None:
        """End it before it began; nothing happens if it did."""
        with self._lock:
            if self._state not in _WORKERLESS:
                return
            self._state = RunState.SETTLED
            self._places.withdraw(self)
        self.finish(error)

    def begin(self, worker: TaskWorker) -> bool:
        """Let a worker do it; False if it does not want the place any more: cancelled, frozen or running already."""
        with self._lock:
            if self._state is not RunState.QUEUED:
                return False
            self._places.withdraw(self)
            self._worker = worker
            self._state = RunState.RUNNING
            self._running.start()
            return True

    def go_on(self) -> bool:
        """Let its worker go on; False if it does not want the place any more."""
        with self._lock:
            if self._state is not RunState.THAWING or self._worker is None or self._cancelled:
                return False
            self._worker.thaw()
            self._state = RunState.RUNNING
            self._running.start()
            return True

    def tell(self, message: TaskMessage) -> Exception | None:
        """Pass on a message of the running task; return what the receiver raised."""
        if self._on_message is None or self._cancelled:
            return None
        try:
            self._on_message(message)
        except Exception as error:
            self.log.exception(
                "message_refused", task=type(self.task).__name__, message=type(message).__name__
            )
            return error
        return None

    def settle(self) -> bool:
        """Take no cancel, no freeze and no thaw from here on; return False if there was a cancel before."""
        with self._lock:
            self.holds_place = self._state is RunState.RUNNING
            self._state = RunState.SETTLED
            self._places.withdraw(self)
            return not self._cancelled

    def finish(self, outcome: TaskResult | Exception) -> None:
        """End it, for the first and only time."""
        self.close_source()
        with self._lock:
            self._outcome = outcome
            self._ended.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call_back(callback)

    def close_source(self) -> None:
        """Close this process's copy of the source."""
        fd, self.source_fd = self.source_fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _stop_worker(self) -> bool:
        """Freeze the running worker and give its place back; False if there is none to freeze."""
        if self._state is not RunState.RUNNING or self._cancelled or self._worker is None:
            return False
        if not self._worker.freeze():
            return False
        self._running.stop()
        self._state = RunState.FROZEN
        self._places.give_back()
        return True

    def _call_back(self, callback: Callable[[TaskHandle], None]) -> None:
        try:
            callback(self)
        except Exception:
            self.log.exception("done_callback_failed", task=type(self.task).__name__)


def _names() -> Mapping[str, Any]:
    return dict(structlog.contextvars.get_contextvars())


def error_of(run: TaskRun, failed: Failed) -> TaskFailedError:
    """Return the error a failed answer is raised as; what was not foreseen is logged."""
    if failed.detail:
        run.log.error("task_failed_unforeseen", task=type(run.task).__name__, detail=failed.detail)
    reason = failed.reason if failed.reason in CATALOGUE else "INTERNAL"
    return TaskFailedError(reason, failed.message)
