"""The workers of one slot: as many as its tasks need, a few more to spare."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from videoprocess_server.execution.places import Places
from videoprocess_server.execution.task_run import TaskRun

#: idle workers kept beyond the free places, after frozen tasks came back; each holds some 60 MiB
_SPARE_WORKERS = 1


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What workers have used, and what they hold."""

    #: there are now
    processes: int = 0
    #: of these, those whose task stands still
    frozen: int = 0
    #: tasks that run
    running: int = 0
    #: of all there ever were
    cpu_seconds: float = 0.0
    resident_bytes: int = 0


class GroupWorker(Protocol):
    """A thread that drives one worker after the other."""

    def start(self) -> None:
        """Start the thread."""
        ...

    def pid(self) -> int | None:
        """Return the process id of its worker; None while there is none."""
        ...

    def usage(self) -> Usage:
        """Return what its workers have used, and what the one there is holds."""
        ...

    def kill_worker(self) -> None:
        """Kill the worker there is."""
        ...

    def join(self) -> None:
        """Wait until thread and worker are gone."""
        ...


W = TypeVar("W", bound=GroupWorker)


class WorkerGroup(Generic[W]):
    """Starts a worker when a task finds a place but nobody idle, as after a freeze; lets one go where too many are idle.

    The descriptor is readable while there is something for an idle worker to do: to `take` a task, or to `leave`.

    Args:
        size: how many of its tasks run at once.
        new_worker: makes a worker, not started, for this group.
    """

    def __init__(self, size: int, new_worker: Callable[[WorkerGroup[W]], W]) -> None:
        self.size = size
        self.places: Places[TaskRun] = Places(size, self._balance)
        self._new_worker = new_worker
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._readable = False
        self._open = False
        #: those that may still have a process
        self._workers: set[W] = set()
        self._broken: set[W] = set()
        self._gone_cpu_seconds = 0.0
        #: those that do not leave
        self._staying = 0
        #: of these, those that have a task, running or frozen
        self._busy = 0

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._fd

    def open(self) -> list[W]:
        """Start as many workers as there are places and return them."""
        with self._lock:
            self._open = True
            self._show()
            return [self._add_worker() for _ in range(self.size)]

    def close(self) -> None:
        """Kill all workers and wait until they are gone; their pool is closing."""
        with self._lock:
            self._open = False
            workers = list(self._workers)
        for worker in workers:
            worker.kill_worker()
        for worker in workers:
            worker.join()
        os.close(self._fd)

    def pids(self) -> list[int]:
        """Return the process ids of the workers there are."""
        with self._lock:
            return [pid for worker in self._workers if (pid := worker.pid()) is not None]

    def usage(self) -> Usage:
        """Return what all workers have used, those that have left included."""
        with self._lock:
            workers, gone = list(self._workers), self._gone_cpu_seconds
            busy, running = self._busy, min(self._busy, self.size - self.places.free)
        used = [worker.usage() for worker in workers]
        return Usage(
            processes=sum(one.processes for one in used),
            frozen=busy - running,
            running=running,
            cpu_seconds=gone + sum(one.cpu_seconds for one in used),
            resident_bytes=sum(one.resident_bytes for one in used),
        )

    @property
    def usable(self) -> bool:
        """Whether a task would find a worker."""
        with self._lock:
            running = self.size - self.places.free
            return not self._broken or len(self._broken) < self._staying - (self._busy - running)

    def mark(self, worker: W, *, broken: bool) -> None:
        """Note that a worker starts or does not."""
        with self._lock:
            (self._broken.add if broken else self._broken.discard)(worker)

    def take(self) -> TaskRun | None:
        """Take the next task and its place; None if there is none. `release` must follow."""
        with self._lock:
            run = self.places.take()
            self._busy += run is not None
            self._show()
            return run

    def release(self, *, holds_place: bool) -> None:
        """Be idle again and give the place back, unless a freeze has done so."""
        with self._lock:
            self._busy -= 1
            if holds_place:
                self.places.give_back()
        self.places.grant()

    def leave(self, worker: W, *, has_process: bool) -> bool:
        """Return whether an idle worker has to go; if so it must, and then call `gone`. None is started only to spare."""
        with self._lock:
            leaves = self._open and self._surplus(_SPARE_WORKERS if has_process else 0) > 0
            if leaves:
                self._staying -= 1
                self._broken.discard(worker)
            self._show()
            return leaves

    def gone(self, worker: W) -> None:
        """Forget a worker that has left."""
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)
                self._gone_cpu_seconds += worker.usage().cpu_seconds

    def _balance(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._show()
            for _ in range(self.places.takeable() - self._idle()):
                self._add_worker()

    def _add_worker(self) -> W:
        worker = self._new_worker(self)
        self._workers.add(worker)
        self._staying += 1
        worker.start()
        return worker

    def _idle(self) -> int:
        return self._staying - self._busy

    def _surplus(self, spare: int) -> int:
        return self._idle() - self.places.free - spare

    def _show(self) -> None:
        """Make the descriptor readable, or not."""
        readable = self.places.takeable() > 0 or self._surplus(_SPARE_WORKERS) > 0
        if readable == self._readable or not self._open:
            return
        self._readable = readable
        if readable:
            os.eventfd_write(self._fd, 1)
        else:
            os.eventfd_read(self._fd)
