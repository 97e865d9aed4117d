"""Runs tasks in worker processes: some for whatever comes, one kept for probes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence

from videoprocess_server.execution.cgroup import oom_kill_count
from videoprocess_server.execution.executor import Slot, TaskCancelledError, TaskHandle
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.execution.worker_group import Usage, WorkerGroup
from videoprocess_server.execution.worker_settings import WorkerSettings
from videoprocess_server.execution.worker_thread import WorkerThread, no_worker_error
from videoprocess_server.model.spans import NOWHERE, SpanSink
from videoprocess_server.model.tasks import Task, TaskMessage

#: nothing may be written, and only the machine bounds memory and time
UNBOUNDED = Confinement()


class ProcessPoolExecutor:
    """An Executor over worker processes, each driven by a thread of its own that spawned it.

    A worker that ends, whatever the reason, is replaced. While no worker of a slot starts, tasks for that slot fail
    rather than wait, and starts are tried again with growing pauses. Callbacks run in the worker's thread: while one
    runs, that worker's next task waits. The place of a frozen task gets a further worker when another task has use for it.

    Args:
        worker_count: how many GENERAL tasks run at once; one PROBE worker comes on top.
        worker_module: the worker program.
        startup_seconds: a worker that is not ready after this is killed.
        backoff_seconds: pause after a first failed start.
        silence_seconds: a worker that has a task and is not heard of for longer is killed.
        probe_confinement: what is around the worker that probes; it writes nothing.
        confinement: what is around the others.
        oom_kills: how many processes of the service's control group were killed for want of memory; None where nothing
            tells.
        spans: where workers' spans go.
    """

    def __init__(
        self,
        worker_count: int,
        *,
        worker_module: str = "videoprocess_server.execution.worker_main",
        startup_seconds: float = 30.0,
        backoff_seconds: float = 0.1,
        silence_seconds: float = 60.0,
        probe_confinement: Confinement = UNBOUNDED,
        confinement: Confinement = UNBOUNDED,
        oom_kills: Callable[[], int | None] = oom_kill_count,
        spans: SpanSink = NOWHERE,
    ) -> None:
        if worker_count < 1:
            raise ValueError("worker_count must be at least 1")
        self._worker_count = worker_count
        self._settings = {
            slot: WorkerSettings(
                module=worker_module,
                startup_seconds=startup_seconds,
                backoff_seconds=backoff_seconds,
                silence_seconds=silence_seconds,
                oom_kill_count=oom_kills,
                confinement=around,
                tell_layers=self._note_layers,
                spans=spans,
            )
            for slot, around in ((Slot.PROBE, probe_confinement), (Slot.GENERAL, confinement))
        }
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._groups = {
            Slot.PROBE: self._group(Slot.PROBE, 1),
            Slot.GENERAL: self._group(Slot.GENERAL, worker_count),
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

    def _group(self, slot: Slot, size: int) -> WorkerGroup[WorkerThread]:
        def new_worker(group: WorkerGroup[WorkerThread]) -> WorkerThread:
            return WorkerThread(self._settings[slot], group, f"{slot.value}-{next(numbers)}", self._closing)

        numbers = itertools.count()
        return WorkerGroup(size, new_worker)

    def _refusal(self, group: WorkerGroup[WorkerThread]) -> Exception | None:
        if self._closing.is_set():
            return TaskCancelledError("the executor is closed")
        return None if group.usable else no_worker_error()

    def _note_layers(self, layers: tuple[str, ...]) -> None:
        self._layers = layers

    def _forget(self, run: TaskHandle) -> None:
        with self._lock:
            self._open_runs.discard(run)
