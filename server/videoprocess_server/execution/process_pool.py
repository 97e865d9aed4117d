"""Runs tasks in worker processes: some for whatever comes, one kept for probes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from videoprocess_server.execution.executor import Slot, TaskCancelledError, TaskHandle
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.execution.worker_thread import (
    WorkerGroup,
    WorkerSettings,
    WorkerThread,
    no_worker_error,
)
from videoprocess_server.model.tasks import Task, TaskMessage


class ProcessPoolExecutor:
    """An Executor over worker processes, each driven by a thread of its own that spawned it.

    A worker that ends, whatever the reason, is replaced. While no worker of a slot starts, tasks for that slot fail
    rather than wait, and starts are tried again with growing pauses. Callbacks run in the worker's thread: while one
    runs, that worker's next task waits.

    Args:
        worker_count: how many GENERAL tasks run at once; one PROBE worker comes on top.
        niceness: of the workers, added to the service's own.
        worker_module: the worker program.
        startup_seconds: a worker that is not ready after this is killed.
        backoff_seconds: pause after a first failed start.
    """

    def __init__(
        self,
        worker_count: int,
        *,
        niceness: int = 0,
        worker_module: str = "videoprocess_server.execution.worker_main",
        startup_seconds: float = 30.0,
        backoff_seconds: float = 0.1,
    ) -> None:
        if worker_count < 1 or niceness < 0:
            raise ValueError("worker_count must be at least 1 and niceness at least 0")
        self._worker_count = worker_count
        self._settings = WorkerSettings(
            module=worker_module,
            niceness=niceness,
            startup_seconds=startup_seconds,
            backoff_seconds=backoff_seconds,
        )
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._groups = {Slot.PROBE: WorkerGroup(1), Slot.GENERAL: WorkerGroup(worker_count)}
        self._threads: list[WorkerThread] = []
        self._open_runs: set[TaskHandle] = set()

    @property
    def worker_count(self) -> int:
        """How many GENERAL tasks run at once."""
        return self._worker_count

    def start(self) -> None:
        """Spawn the workers; returns before they are ready, about 0.3 s later they are."""
        for slot, group in self._groups.items():
            for index in range(group.size):
                thread = WorkerThread(self._settings, group, f"{slot.value}-{index}", self._closing)
                self._threads.append(thread)
                thread.start()

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
        group = self._groups[slot]
        with self._lock:
            refusal = self._refusal(group)
            if refusal is None:
                self._open_runs.add(run)
                run.add_done_callback(self._forget)
                group.tasks.put(run)
        if refusal is not None:
            run.finish(refusal)
        return run

    def worker_pids(self) -> Sequence[int]:
        """Return the process ids of the workers there are."""
        return [pid for thread in self._threads if (pid := thread.pid()) is not None]

    def ping(self) -> None:
        """Return if tasks can run; RuntimeError otherwise."""
        if self._closing.is_set() or not self._threads:
            raise RuntimeError("the executor is not open")
        for slot, group in self._groups.items():
            if not group.usable:
                raise RuntimeError(f"no {slot.value} worker starts")

    def close(self) -> None:
        """Kill all workers and end all tasks as cancelled; returns when no process is left."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
            runs = list(self._open_runs)
        for run in runs:
            run.cancel()
        for thread in self._threads:
            thread.kill_worker()
        for thread in self._threads:
            thread.join()
        for group in self._groups.values():
            group.tasks.close()

    def _refusal(self, group: WorkerGroup) -> Exception | None:
        if self._closing.is_set():
            return TaskCancelledError("the executor is closed")
        return None if group.usable else no_worker_error()

    def _forget(self, run: TaskHandle) -> None:
        with self._lock:
            self._open_runs.discard(run)
