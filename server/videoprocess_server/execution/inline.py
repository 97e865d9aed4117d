"""Runs tasks in threads of this process: for tests, and where processes cannot be had."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from videoprocess_server.execution.codec import Failed
from videoprocess_server.execution.executor import Slot, TaskCancelledError, TaskHandle
from videoprocess_server.execution.handlers import Handlers, answer
from videoprocess_server.execution.task_run import TaskRun, error_of
from videoprocess_server.execution.task_threads import TaskThread, TaskThreads
from videoprocess_server.model.tasks import Task, TaskMessage, TaskResult


class InlineExecutor:
    """An Executor without isolation.

    A thread can be neither killed nor stopped: a cancelled task ends at its next message, a frozen one stands still from
    its next message or its end on (until then it runs beside the task that has its place), a stalled one never ends, a
    crash is the service's own, and niceness does nothing.

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
            Slot.PROBE: TaskThreads(1, self._do, "inline-probe"),
            Slot.GENERAL: TaskThreads(worker_count, self._do, "inline-general"),
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
        niceness: int = 0,
        on_message: Callable[[TaskMessage], None] | None = None,
    ) -> TaskRun:
        """Queue a task; see Executor. After `close` it is cancelled at once."""
        threads = self._threads[slot]
        run = TaskRun(task, source_fd, stall_seconds, on_message, threads.places, niceness=niceness)
        with self._lock:
            closed = self._closed
            if not closed:
                self._open_runs.add(run)
        if closed:
            run.refuse(TaskCancelledError("the executor is closed"))
        else:
            run.add_done_callback(self._forget)
            run.queue()
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
            threads.join()

    def _forget(self, run: TaskHandle) -> None:
        with self._lock:
            self._open_runs.discard(run)

    def _do(self, run: TaskRun, worker: TaskThread) -> TaskResult | Exception:
        def emit(message: TaskMessage) -> None:
            worker.hold()
            refusal = run.tell(message)
            if run.cancelled or refusal is not None:
                raise TaskCancelledError from refusal

        try:
            reply = answer(self._handlers, run.task, -1 if run.source_fd is None else run.source_fd, emit)
        except TaskCancelledError as cancelled:
            return cancelled.__cause__ if isinstance(cancelled.__cause__, Exception) else cancelled
        return error_of(run, reply) if isinstance(reply, Failed) else reply
