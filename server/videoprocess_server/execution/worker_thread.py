"""The thread of one worker: spawns it, gives it tasks, buries it, spawns the next."""

from __future__ import annotations

import select
import threading

import structlog

from videoprocess_server.execution.channel import within
from videoprocess_server.execution.codec import CodecError, Ready
from videoprocess_server.execution.conversation import Conversation
from videoprocess_server.execution.driven_worker import DrivenWorker
from videoprocess_server.execution.executor import TaskCancelledError, TaskFailedError
from videoprocess_server.execution.places import Line
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.execution.worker_group import Usage, WorkerGroup
from videoprocess_server.execution.worker_settings import WorkerSettings

#: start-ups in a row that must fail before a worker counts as broken; it is still tried again
_BROKEN_AFTER = 5

_LONGEST_BACKOFF_SECONDS = 10.0

#: before a worker takes a task that others are nearer to: an idle one of these has taken it by then
_HESITATION_SECONDS = 0.03

_log = structlog.get_logger(__name__)


def no_worker_error() -> TaskFailedError:
    """Return what tasks fail with while no worker starts."""
    return TaskFailedError("NO_WORKER", "no worker starts; the service's log tells more")


class WorkerThread:
    """One worker after the other, as long as the pool is open and its group wants them.

    Args:
        settings: how workers are started and watched.
        group: where tasks come from.
        name: of the thread.
        closing: set when the pool closes; `kill_worker` must follow.
    """

    def __init__(
        self, settings: WorkerSettings, group: WorkerGroup[WorkerThread], name: str, closing: threading.Event
    ) -> None:
        self._settings = settings
        self._group = group
        self._name = name
        self._closing = closing
        self._failures = 0
        self._left = False
        self._worker: DrivenWorker | None = None
        #: a task that takes another worker than the last one
        self._unsuited: TaskRun | None = None
        #: of all workers before that one
        self._cpu_seconds = 0.0
        self._tried = threading.Event()
        self._counting = threading.Lock()
        # A thread that outlives the interpreter would keep it from ending; the worker dies with it either way.
        self._thread = threading.Thread(target=self._run, name=f"worker-{name}", daemon=True)

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until the first worker is spawned, or could not be."""
        self._tried.wait()

    def pid(self) -> int | None:
        """Return the worker's process id; None while there is no worker, or it is only asked for."""
        worker = self._worker
        return (worker.pid or None) if worker is not None else None

    def usage(self) -> Usage:
        """Return what its workers have used, and what the one there is holds."""
        with self._counting:
            worker = self._worker
            now = worker.cpu_seconds() if worker is not None else 0.0
            return Usage(
                processes=int(worker is not None),
                cpu_seconds=self._cpu_seconds + now,
                resident_bytes=worker.resident_bytes() if worker is not None else 0,
            )

    def kill_worker(self) -> None:
        """Kill the worker there is."""
        worker = self._worker
        if worker is not None:
            worker.kill()

    def join(self) -> None:
        """Wait until the last worker is gone."""
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set() and not self._leaves(has_process=False):
            try:
                wanted, self._unsuited = self._unsuited, None
                worker = self._worker = self._settings.spawn(wanted)
            except OSError as error:
                self._tried.set()
                self._start_failed(error=str(error))
                continue
            self._tried.set()
            self._live(worker)
            worker.end()
            with self._counting:
                self._cpu_seconds += worker.cpu_seconds()
                self._worker = None
        self._tried.set()
        self._group.gone(self)

    def _live(self, worker: DrivenWorker) -> None:
        # Whoever closes the pool kills the worker it sees; one that was spawned at that moment is not seen.
        if self._closing.is_set():
            return
        if not self._becomes_ready(worker):
            exit_code = worker.end()
            if not worker.found_no_room:
                self._start_failed(exit_code=exit_code, error=worker.failure)
            return
        self._failures = 0
        self._group.mark(self, broken=False)
        while worker.exit_code is None and self._wait_for_work(worker) and not self._leaves(has_process=True):
            self._let_nearer_ones_come_first(worker)
            run = self._group.take()
            if run is not None and not self._take_on(worker, run):
                return

    def _let_nearer_ones_come_first(self, worker: DrivenWorker) -> None:
        head = self._group.places.head()
        if head is not None and worker.is_far_from(head):
            self._closing.wait(_HESITATION_SECONDS)

    def _leaves(self, *, has_process: bool) -> bool:
        self._left = self._left or self._group.leave(self, has_process=has_process)
        return self._left

    def _becomes_ready(self, worker: DrivenWorker) -> bool:
        try:
            patience = within(self._settings.startup_seconds)
            message = worker.channel.receive(patience=patience)
            if isinstance(message, Ready):
                self._settings.tell_layers(message.layers)
                return True
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
        self._group.mark(self, broken=self._failures >= _BROKEN_AFTER)
        while not self._group.usable and (run := self._group.take()) is not None:
            self._group.release(holds_place=True)
            run.refuse(no_worker_error())
        backoff = self._settings.backoff_seconds * 2 ** min(self._failures - 1, 16)
        self._closing.wait(min(backoff, _LONGEST_BACKOFF_SECONDS))

    def _wait_for_work(self, worker: DrivenWorker) -> bool:
        """Wait until there may be something to do; return False if the idle worker ended instead."""
        poll = select.poll()
        poll.register(worker.channel.fileno(), select.POLLIN)
        poll.register(self._group.fileno(), select.POLLIN)
        ready = {fd for fd, _events in poll.poll()}
        if worker.channel.fileno() not in ready:
            return True
        if not self._closing.is_set():
            _log.warning("idle_worker_ended", exit_code=worker.end(let_it_end=True))
            self._closing.wait(self._settings.backoff_seconds)
        return False

    def _take_on(self, worker: DrivenWorker, run: TaskRun) -> bool:
        """Do a task, if it still wants to; return False if it takes a fresh worker."""
        if not worker.suits(run):
            self._unsuited = run
            run.queue(Line.RETURNING)
            self._group.release(holds_place=True)
            return False
        if run.begin(worker):
            self._do(worker, run)
        else:
            worker.rest()
            self._group.release(holds_place=True)
        return True

    def _do(self, worker: DrivenWorker, run: TaskRun) -> None:
        outcome = Conversation(worker, run, self._settings).outcome()
        if not run.settle():
            worker.end(let_it_end=True)
            outcome = TaskCancelledError("cancelled while running")
        worker.rest()
        self._group.release(holds_place=run.holds_place)
        run.finish(outcome)
