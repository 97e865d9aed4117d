"""A driver's mailbox and its tasks. Whatever happens to a job's tasks is done by the driver's own thread, one at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from functools import partial

from videoprocess_server.engine.job_spans import JobSpans
from videoprocess_server.engine.work import AT_CHECKPOINT, FREEZES, Stop, StopReason
from videoprocess_server.execution.executor import Executor, TaskHandle
from videoprocess_server.model.tasks import Task, TaskMessage

Action = Callable[[], None]


class StoppedError(Exception):
    """The job was asked to stop, and its driver is to end."""


class TaskRunner:
    """The tasks of one driver. `stop` and its like may come from any thread at any time.

    The driver's thread meets a stop in `check` and `wait`: it freezes or cancels the tasks, or lets them end first (see
    `StopReason`), and calls `pause`, which returns when the work is to go on and raises StoppedError when not. Whoever asks
    is in a transaction, and must not wait there for a worker that stops slowly.

    Args:
        executor: runs the tasks.
        stall_seconds: the least time without progress after which a task is killed.
        pause: called in the driver's thread when all tasks have stopped.
        spans: of the job that the tasks are for.
    """

    def __init__(
        self,
        executor: Executor,
        stall_seconds: float,
        pause: Callable[[Stop], None],
        spans: JobSpans | None = None,
    ) -> None:
        self.niceness = 0
        self.stall_seconds = stall_seconds
        self.spans = spans or JobSpans()
        self._executor = executor
        self._pause = pause
        self._lock = threading.Lock()
        self._request: Stop | None = None
        self._workers = 1
        self._has_machine = False
        self._handles: set[TaskHandle] = set()
        self._inbox: queue.SimpleQueue[Action] = queue.SimpleQueue()

    # -- from any thread

    @property
    def request(self) -> Stop | None:
        """How the job is to stop; None while it is not."""
        with self._lock:
            return self._request

    @property
    def workers(self) -> int:
        """How many tasks the job may have at once; 0 while it is to stop."""
        with self._lock:
            return 0 if self._request is not None else self._workers

    @property
    def has_machine(self) -> bool:
        """Whether nothing of other jobs runs beside it."""
        with self._lock:
            return self._request is None and self._has_machine

    def stop(self, stop: Stop) -> None:
        """Ask the job to stop; a greater reason replaces a smaller one."""
        with self._lock:
            if self._request is not None and self._request.reason >= stop.reason:
                return
            self._request = stop
        self.post(_look_up)

    def allow(self, workers: int, *, alone: bool = False) -> None:
        """Let the job have so many tasks at once; a request to yield that was not met yet is withdrawn.

        Args:
            workers: at least 1.
            alone: nobody else has any until this is called again.
        """
        with self._lock:
            withdrawn = self._request is not None and self._request.reason is StopReason.YIELD
            if withdrawn:
                self._request = None
            before = self._workers, self._has_machine
            self._workers, self._has_machine = workers, alone
            changed = before != (workers, alone)
        if changed or withdrawn:
            self.post(_look_up)

    def forget_request(self) -> None:
        """Begin anew after a pause: another job goes on with these tasks."""
        with self._lock:
            self._request = None

    def post(self, action: Action) -> None:
        """Have something done by the driver's thread."""
        self._inbox.put(action)

    def resident_bytes(self) -> int:
        """Return the memory that the tasks' workers hold."""
        with self._lock:
            handles = list(self._handles)
        return sum(handle.resident_bytes() for handle in handles)

    # -- in the driver's thread

    def check(self) -> bool:
        """Return unless the job is to stop; pause if it is and no task is to end first. True if it has paused.

        Raises:
            StoppedError: the driver is to end.
        """
        paused = False
        while (request := self.request) is not None:
            with self._lock:
                handles = list(self._handles)
            busy = bool(handles) or not self._inbox.empty()  # what tasks finished is to be recorded first
            if request.reason in AT_CHECKPOINT and busy and time.monotonic() < request.deadline:
                return paused
            for handle in handles:
                _halt(handle, request.reason)
            self._pause(request)
            paused = True
        return paused

    def thaw(self) -> None:
        """Let frozen tasks go on, unless there is a new request already."""
        with self._lock:
            handles = list(self._handles)
            stopping = self._request is not None and self._request.reason not in AT_CHECKPOINT
        if not stopping:
            for handle in handles:
                handle.thaw()

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Do the next thing that is to be done; return without one after the time, and after a pause.

        Raises:
            StoppedError: the driver is to end.
        """
        if self.check():
            return  # nothing may be as it was
        request = self.request
        if request is not None:
            left = max(0.0, request.deadline - time.monotonic())
            timeout_seconds = left if timeout_seconds is None else min(left, timeout_seconds)
        try:
            action = self._inbox.get(timeout=timeout_seconds)
        except queue.Empty:
            return
        action()

    def end_all(self, ended: Callable[[], bool]) -> None:
        """Cancel all tasks and do what is to be done until `ended`; no request is looked at."""
        with self._lock:
            handles = list(self._handles)
        for handle in handles:
            handle.cancel()
        while not ended():
            self._inbox.get()()

    def submit(
        self, task: Task, source_fd: int | None, on_message: Callable[[TaskMessage], None] | None = None
    ) -> TaskHandle:
        """Start a task; if the job is to stop by now it is frozen or cancelled at once."""
        with self.spans.submitting(task) as span:
            handle = self._executor.submit(
                task,
                source_fd=source_fd,
                stall_seconds=self.stall_seconds,
                niceness=self.niceness,
                on_message=on_message,
            )
        if span is not None:
            handle.add_done_callback(partial(self.spans.task_ended, span))
        with self._lock:
            self._handles.add(handle)
            request = self._request
        handle.add_done_callback(self._forget)
        if request is not None and request.reason not in AT_CHECKPOINT:
            _halt(handle, request.reason)
        return handle

    def _forget(self, handle: TaskHandle) -> None:
        with self._lock:
            self._handles.discard(handle)


def _halt(handle: TaskHandle, reason: StopReason) -> None:
    if reason in FREEZES:
        handle.freeze()
    else:
        handle.cancel()


def _look_up() -> None:
    """Nothing to do but to look at the request."""
