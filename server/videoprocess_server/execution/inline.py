"""Runs tasks in threads of this process: for tests, and where processes cannot be had."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from videoprocess_server.execution.codec import Failed
from videoprocess_server.execution.executor import Slot, TaskCancelledError, TaskHandle
from videoprocess_server.execution.handlers import Handlers, answer
from videoprocess_server.execution.task_run import TaskRun, error_of
from videoprocess_server.model.tasks import Task, TaskMessage, TaskResult


class InlineExecutor:
    """An Executor without isolation.

    A thread cannot be killed: a cancelled task ends at its next message, a stalled one never, and a crash is the
    service's own.

    Args:
        worker_count: how many GENERAL tasks run at once; one PROBE thread comes on top.
        handlers: what does the tasks.
    """

    def __init__(self, worker_count: int, handlers: Handlers) -> None:
        self._worker_count = worker_count
        self._handlers = handlers
        self._lock = threading.Lock()
        self._closed = False
        self._open_runs: set[TaskHandle] = set()
        self._threads = {
            Slot.PROBE: ThreadPoolExecutor(1, thread_name_prefix="inline-probe"),
            Slot.GENERAL: ThreadPoolExecutor(worker_count, thread_name_prefix="inline-general"),
        }

    @property
    def worker_count(self) -> int:
        """How many GENERAL tasks run at once."""
        return self._worker_count

    def start(self) -> None:
        """Nothing to do: threads start when there are tasks."""

    def submit(
        self,
        task: Task,
        *,
        source_fd: int | None = None,
        slot: Slot = Slot.GENERAL,
        stall_seconds: float,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskRun:
        """Queue a task; see Executor. After `close` it is cancelled at once."""
        run = TaskRun(task, source_fd, stall_seconds, on_message)
        with self._lock:
            closed = self._closed
            if not closed:
                self._open_runs.add(run)
                run.add_done_callback(self._forget)
                self._threads[slot].submit(self._do, run)
        if closed:
            run.finish(TaskCancelledError("the executor is closed"))
        return run

    def worker_pids(self) -> Sequence[int]:
        """Return nothing: there are no worker processes."""
        return ()

    def ping(self) -> None:
        """Return if tasks can run; RuntimeError otherwise."""
        if self._closed:
            raise RuntimeError("the executor is closed")

    def close(self) -> None:
        """Cancel all tasks and wait until the running ones have noticed."""
        with self._lock:
            self._closed = True
            runs = list(self._open_runs)
        for run in runs:
            run.cancel()
        for threads in self._threads.values():
            threads.shutdown()

    def _forget(self, run: TaskHandle) -> None:
        with self._lock:
            self._open_runs.discard(run)

    def _do(self, run: TaskRun) -> None:
        if not run.begin(_nothing):
            return
        outcome = self._outcome(run)
        run.finish(outcome if run.settle() else TaskCancelledError("cancelled while running"))

    def _outcome(self, run: TaskRun) -> TaskResult | Exception:
        def emit(message: TaskMessage) -> None:
            refusal = run.tell(message)
            if run.cancelled or refusal is not None:
                raise TaskCancelledError from refusal

        try:
            reply = answer(self._handlers, run.task, -1 if run.source_fd is None else run.source_fd, emit)
        except TaskCancelledError as cancelled:
            return cancelled.__cause__ if isinstance(cancelled.__cause__, Exception) else cancelled
        return error_of(run.task, reply) if isinstance(reply, Failed) else reply


def _nothing() -> None:
    """Stop a running task: only its next message can."""
