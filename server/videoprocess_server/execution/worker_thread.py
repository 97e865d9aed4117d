"""The thread of one worker: spawns it, gives it tasks, buries it, spawns the next."""

from __future__ import annotations

import select
import threading
from dataclasses import dataclass, field

import structlog

from videoprocess_server.execution.codec import RESULT_OF, CodecError, Failed, Ready
from videoprocess_server.execution.executor import (
    TaskCancelledError,
    TaskFailedError,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.execution.task_queue import TaskQueue
from videoprocess_server.execution.task_run import TaskRun, error_of
from videoprocess_server.execution.worker_process import WorkerProcess, spawn
from videoprocess_server.model.tasks import Progress, SegmentDone, TaskResult

#: start-ups in a row that must fail before a worker counts as broken; it is still tried again
_BROKEN_AFTER = 5

_LONGEST_BACKOFF_SECONDS = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How workers are started."""

    module: str
    niceness: int
    #: a worker that is not ready after this is killed and counts as failed
    startup_seconds: float
    #: after the first failed start-up; doubles with each
    backoff_seconds: float


@dataclass
class WorkerGroup:
    """The workers of one slot share a queue. It is usable while one of them is not broken."""

    size: int
    tasks: TaskQueue = field(default_factory=TaskQueue)
    _broken: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def usable(self) -> bool:
        """Whether a task would find a worker."""
        with self._lock:
            return len(self._broken) < self.size

    def mark(self, name: str, *, broken: bool) -> None:
        """Note the state of one worker."""
        with self._lock:
            (self._broken.add if broken else self._broken.discard)(name)


def no_worker_error() -> TaskFailedError:
    """Return what tasks fail with while no worker starts."""
    return TaskFailedError("NO_WORKER", "no worker starts; the service's log tells more")


class WorkerThread:
    """One worker after the other, as long as the pool is open.

    Args:
        settings: how a worker is started.
        group: where tasks come from.
        name: of the thread.
        closing: set when the pool closes; `kill_worker` must follow.
    """

    def __init__(
        self, settings: WorkerSettings, group: WorkerGroup, name: str, closing: threading.Event
    ) -> None:
        self._settings = settings
        self._group = group
        self._name = name
        self._closing = closing
        self._failures = 0
        self._worker: WorkerProcess | None = None
        self._tried = threading.Event()
        # A thread that outlives the interpreter would keep it from ending; the worker dies with it either way.
        self._thread = threading.Thread(target=self._run, name=f"worker-{name}", daemon=True)

    def start(self) -> None:
        """Start; returns when the first worker is spawned."""
        self._thread.start()
        self._tried.wait()

    def pid(self) -> int | None:
        """Return the worker's process id; None while there is no worker."""
        worker = self._worker
        return worker.pid if worker is not None else None

    def kill_worker(self) -> None:
        """Kill the worker there is."""
        worker = self._worker
        if worker is not None:
            worker.kill()

    def join(self) -> None:
        """Wait until the last worker is gone."""
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                worker = self._worker = spawn(self._settings.module, self._settings.niceness)
            except OSError as error:
                self._tried.set()
                self._start_failed(error=str(error))
                continue
            self._tried.set()
            self._live(worker)
            worker.end()
            self._worker = None

    def _live(self, worker: WorkerProcess) -> None:
        # Whoever closes the pool kills the worker it sees; one that was spawned at that moment is not seen.
        if self._closing.is_set():
            return
        if not self._becomes_ready(worker):
            self._start_failed(exit_code=worker.end())
            return
        self._failures = 0
        self._group.mark(self._name, broken=False)
        while worker.exit_code is None and self._wait_for_task(worker):
            run = self._group.tasks.take()
            if run is not None and run.begin(worker.kill):
                self._do(worker, run)

    def _becomes_ready(self, worker: WorkerProcess) -> bool:
        try:
            return isinstance(worker.channel.receive(timeout_seconds=self._settings.startup_seconds), Ready)
        except EOFError:
            worker.end(let_it_end=True)
        except (TimeoutError, CodecError):
            worker.end()
        return False

    def _start_failed(self, **what: object) -> None:
        if self._closing.is_set():
            return
        self._failures += 1
        _log.error("worker_start_failed", worker=self._name, failures=self._failures, **what)
        self._group.mark(self._name, broken=self._failures >= _BROKEN_AFTER)
        while not self._group.usable and (run := self._group.tasks.take()) is not None:
            if run.settle():
                run.finish(no_worker_error())
        backoff = self._settings.backoff_seconds * 2 ** min(self._failures - 1, 16)
        self._closing.wait(min(backoff, _LONGEST_BACKOFF_SECONDS))

    def _wait_for_task(self, worker: WorkerProcess) -> bool:
        """Wait until there may be a task; return False if the idle worker ended instead."""
        poll = select.poll()
        poll.register(worker.channel.fileno(), select.POLLIN)
        poll.register(self._group.tasks.fileno(), select.POLLIN)
        ready = {fd for fd, _events in poll.poll()}
        if worker.channel.fileno() not in ready:
            return True
        if not self._closing.is_set():
            _log.warning("idle_worker_ended", exit_code=worker.end(let_it_end=True))
            self._closing.wait(self._settings.backoff_seconds)
        return False

    def _do(self, worker: WorkerProcess, run: TaskRun) -> None:
        outcome = self._converse(worker, run)
        if not run.settle():
            worker.end()
            outcome = TaskCancelledError("cancelled while running")
        run.finish(outcome)

    def _converse(self, worker: WorkerProcess, run: TaskRun) -> TaskResult | Exception:
        try:
            worker.channel.send(run.task, fd=run.source_fd, timeout_seconds=run.stall_seconds)
            run.close_source()
            return self._listen(worker, run)
        except EOFError:
            exit_code = worker.end(let_it_end=True)
            if not run.cancelled:
                _log.error("worker_crashed", task=type(run.task).__name__, exit_code=exit_code)
            return WorkerCrashedError(exit_code)
        except TimeoutError:
            worker.end()
            _log.error("worker_stalled", task=type(run.task).__name__, stall_seconds=run.stall_seconds)
            return TaskStalledError(f"no sign of life for {run.stall_seconds} s")
        except Exception:  # noqa: BLE001  CodecError, a bad descriptor, a mistake of ours: the task ends, this thread does not
            worker.end()
            _log.exception("worker_misunderstood", task=type(run.task).__name__)
            return TaskFailedError("INTERNAL", "the service and its worker did not understand each other")

    def _listen(self, worker: WorkerProcess, run: TaskRun) -> TaskResult | Exception:
        while True:
            message = worker.channel.receive(timeout_seconds=run.stall_seconds)
            if isinstance(message, Progress | SegmentDone):
                refusal = run.tell(message)
                if refusal is not None:
                    worker.end()
                    return refusal
            elif isinstance(message, Failed):
                return error_of(run.task, message)
            elif isinstance(message, RESULT_OF[type(run.task)]):
                return message
            else:
                raise CodecError(f"{type(message).__name__} is no answer to {type(run.task).__name__}")
