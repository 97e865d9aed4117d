"""Runs tasks on workers that are started, driven and replaced by threads of the service: some for each slot."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence

from videoprocess_server.execution.executor import Slot, TaskCancelledError, TaskHandle
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.execution.worker_group import Usage, WorkerGroup
from videoprocess_server.execution.worker_settings import WorkerSettings
from videoprocess_server.execution.worker_thread import WorkerThread, no_worker_error
from videoprocess_server.model.tasks import Task, TaskMessage


class WorkerPool:
    """An Executor of the slots it has workers for, each worker driven by a thread of its own that spawned it.

    A worker that ends, whatever the reason, is replaced. While no worker of a slot starts, tasks for that slot fail
    rather than wait, and starts are tried again with growing pauses. Callbacks run in the worker's thread: while one
    runs, that worker's next task waits. The place of a frozen task gets a further worker when another task has use for it.

    Args:
        slots: how many workers each has, and how they are started and watched.
    """

    def __init__(self, slots: Mapping[Slot, tuple[int, WorkerSettings]]) -> None:
        if min(count for count, _settings in slots.values()) < 1:
            raise ValueError("a pool needs at least 1 worker")
        self._worker_count = slots[Slot.GENERAL][0]
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._groups = {
            slot: self._group(slot.value, count, settings) for slot, (count, settings) in slots.items()
        }
        self._started = False
        self._layers: tuple[str, ...] = ()
        self._open_runs: set[TaskHandle] = set()

    @property
    def worker_count(self) -> int:
        """How many GENERAL tasks run at once."""
        return self._worker_count

    @property
    def layers(self) -> Sequence[str]:
        """What confines the workers, see sandbox; empty until the first is ready."""
        return self._layers

    def start(self) -> None:
        """Spawn the workers; returns before they are ready, about 0.3 s later they are."""
        self._started = True
        for worker in [worker for group in self._groups.values() for worker in group.open()]:
            worker.wait()

    @property
    def memory_bytes(self) -> int | None:
        """None: the workers share this machine's."""
        return None

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
        group = self._groups[slot]
        run = TaskRun(task, source_fd, stall_seconds, on_message, group.places, niceness=niceness)
        with self._lock:
            refusal = self._refusal(group)
            if refusal is None:
                self._open_runs.add(run)
        if refusal is not None:
            run.refuse(refusal)
        else:
            run.add_done_callback(self._forget)
            run.queue()
        return run

    def worker_pids(self) -> Sequence[int]:
        """Return the process ids of the workers there are, frozen ones too."""
        return [pid for group in self._groups.values() for pid in group.pids()]

    def usage(self) -> Mapping[Slot, Usage]:
        """Return what the workers of each slot have used, and hold."""
        return {slot: group.usage() for slot, group in self._groups.items()}

    def note_layers(self, layers: tuple[str, ...]) -> None:
        """Note what confines a worker that is ready now."""
        self._layers = layers

    def ping(self) -> None:
        """Return if tasks can run; RuntimeError otherwise."""
        if self._closing.is_set() or not self._started:
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
        for group in self._groups.values():
            group.close()

    def _group(self, name: str, size: int, settings: WorkerSettings) -> WorkerGroup[WorkerThread]:
        def new_worker(group: WorkerGroup[WorkerThread]) -> WorkerThread:
            return WorkerThread(settings, group, f"{name}-{next(numbers)}", self._closing)

        numbers = itertools.count()
        return WorkerGroup(size, new_worker)

    def _refusal(self, group: WorkerGroup[WorkerThread]) -> Exception | None:
        if self._closing.is_set():
            return TaskCancelledError("the executor is closed")
        return None if group.usable else no_worker_error()

    def _forget(self, run: TaskHandle) -> None:
        with self._lock:
            self._open_runs.discard(run)
