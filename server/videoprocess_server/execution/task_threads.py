"""Runs each task in a thread of its own, as many at once as there are places."""

from __future__ import annotations

import threading
from collections.abc import Callable

from videoprocess_server.execution.executor import TaskCancelledError
from videoprocess_server.execution.places import Places
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.model.tasks import TaskResult


class TaskThread:
    """The TaskWorker of a task in a thread, which nobody can stop: it looks here whether it may go on."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    def stop(self) -> None:
        """Tell it to end."""
        self.stopped.set()
        self._may_go_on.set()

    def freeze(self) -> bool:
        """Hold it at its next `hold`."""
        self._may_go_on.clear()
        return True

    def thaw(self) -> None:
        """Let it go on."""
        self._may_go_on.set()

    def resident_bytes(self) -> int:
        """Return 0: what it holds is the service's own."""
        return 0

    def hold(self) -> None:
        """Wait while it is frozen and nobody stops it; called by its thread."""
        self._may_go_on.wait()


class TaskThreads:
    """The threads of one slot.

    Args:
        count: how many tasks run at once. The thread of a frozen one comes on top.
        do: does a task and returns what becomes of it.
        name: of the threads.
    """

    def __init__(
        self, count: int, do: Callable[[TaskRun, TaskThread], TaskResult | Exception], name: str
    ) -> None:
        self.places: Places[TaskRun] = Places(count, self._start_threads)
        self._do = do
        self._name = name
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def join(self) -> None:
        """Wait until no thread is left; whoever calls has cancelled their tasks."""
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return
            thread.join()

    def _start_threads(self) -> None:
        while (run := self.places.take()) is not None:
            thread = threading.Thread(target=self._run, args=(run,), name=self._name, daemon=True)
            with self._lock:
                self._threads.add(thread)
                thread.start()

    def _run(self, run: TaskRun) -> None:
        self._live(run)
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _live(self, run: TaskRun) -> None:
        worker = TaskThread()
        began = run.begin(worker)
        outcome = self._do(run, worker) if began else None
        worker.hold()
        cancelled = began and not run.settle()
        if not began or run.holds_place:
            self.places.give_back()
        self.places.grant()
        if outcome is not None:
            run.finish(TaskCancelledError("cancelled while running") if cancelled else outcome)
