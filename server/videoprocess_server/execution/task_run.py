"""A submitted task's way through an executor: queued, running, ended."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

import structlog

from videoprocess_server.errors import CATALOGUE
from videoprocess_server.execution.codec import Failed
from videoprocess_server.execution.executor import TaskCancelledError, TaskFailedError, TaskHandle
from videoprocess_server.model.tasks import Task, TaskMessage, TaskResult

_log = structlog.get_logger(__name__)


class TaskRun:
    """The TaskHandle of every executor here, with what the executor needs beside it.

    An executor calls `begin`, then `tell` for each message, then `settle`, then `finish`. A `cancel` before `settle`
    wins over whatever the task would have answered.

    Args:
        task: what to do.
        source_fd: owned from here.
        stall_seconds: a worker silent for longer is killed.
        on_message: called with each message. What it raises ends the task, and is what `result` raises.
    """

    def __init__(
        self,
        task: Task,
        source_fd: int | None,
        stall_seconds: float,
        on_message: Callable[[TaskMessage], None] | None,
    ) -> None:
        self.task = task
        self.source_fd = source_fd
        self.stall_seconds = stall_seconds
        self._on_message = on_message
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._cancelled = False
        self._settled = False
        self._stop: Callable[[], None] | None = None
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
            if self._settled or self._cancelled:
                return
            self._cancelled = True
            if self._stop is not None:
                self._stop()
                return
            self._settled = True
        self.finish(TaskCancelledError("cancelled while queued"))

    def add_done_callback(self, callback: Callable[[TaskHandle], None]) -> None:
        """Call back once it ended, at once if it has."""
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(callback)
                return
        self._call_back(callback)

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it in time."""
        return self._cancelled

    def begin(self, stop: Callable[[], None]) -> bool:
        """Let it run, unless it was cancelled while queued.

        Args:
            stop: called, from another thread, to stop it.
        """
        with self._lock:
            if self._cancelled:
                return False
            self._stop = stop
            return True

    def tell(self, message: TaskMessage) -> Exception | None:
        """Pass on a message of the running task; return what the receiver raised."""
        if self._on_message is None or self._cancelled:
            return None
        try:
            self._on_message(message)
        except Exception as error:  # noqa: BLE001  whatever the receiver raises is the outcome
            _log.exception("message_refused", task=type(self.task).__name__, message=type(message).__name__)
            return error
        return None

    def settle(self) -> bool:
        """Take no cancel from here on; return False if there was one before."""
        with self._lock:
            self._settled = True
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

    def _call_back(self, callback: Callable[[TaskHandle], None]) -> None:
        try:
            callback(self)
        except Exception:  # noqa: BLE001  a callback must not end the worker's thread
            _log.exception("done_callback_failed", task=type(self.task).__name__)


def error_of(task: Task, failed: Failed) -> TaskFailedError:
    """Return the error a failed answer is raised as; what was not foreseen is logged."""
    if failed.detail:
        _log.error("task_failed_unforeseen", task=type(task).__name__, detail=failed.detail)
    reason = failed.reason if failed.reason in CATALOGUE else "INTERNAL"
    return TaskFailedError(reason, failed.message)
