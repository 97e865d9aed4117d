"""Runs a job's tasks on the executor so that a stop ends all of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from videoprocess_server.engine.work import StopReason
from videoprocess_server.execution.executor import Executor, TaskHandle
from videoprocess_server.model.tasks import Task, TaskMessage, TaskResult


class StoppedError(Exception):
    """The job was asked to stop."""


class TaskRunner:
    """The tasks of one job. `stop` may come from any thread at any time."""

    def __init__(self, executor: Executor, stall_seconds: float) -> None:
        self._executor = executor
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._reason: StopReason | None = None
        self._handles: set[TaskHandle] = set()

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the job is to stop; None while it is not."""
        with self._lock:
            return self._reason

    def stop(self, reason: StopReason) -> None:
        """Cancel all tasks and refuse new ones; a greater reason replaces a smaller one."""
        with self._lock:
            self._reason = max(self._reason or reason, reason)
            handles = list(self._handles)
        for handle in handles:
            handle.cancel()

    def check(self) -> None:
        """Return unless the job is to stop.

        Raises:
            StoppedError: it is.
        """
        if self.stop_reason is not None:
            raise StoppedError

    def submit(
        self, task: Task, source_fd: int | None, on_message: Callable[[TaskMessage], None] | None = None
    ) -> TaskHandle:
        """Start a task.

        Raises:
            StoppedError: the job is to stop; the task may have begun and is cancelled.
        """
        handle = self._executor.submit(
            task, source_fd=source_fd, stall_seconds=self._stall_seconds, on_message=on_message
        )
        with self._lock:
            self._handles.add(handle)
            stopping = self._reason is not None
        handle.add_done_callback(self._forget)
        if stopping:
            handle.cancel()
        return handle

    def run(
        self, task: Task, source_fd: int | None, on_message: Callable[[TaskMessage], None] | None = None
    ) -> TaskResult:
        """Run a task to its end and return its answer."""
        ended: queue.SimpleQueue[TaskHandle] = queue.SimpleQueue()
        handle = self.submit(task, source_fd, on_message)
        handle.add_done_callback(ended.put)
        return ended.get().result()

    def _forget(self, handle: TaskHandle) -> None:
        with self._lock:
            self._handles.discard(handle)
