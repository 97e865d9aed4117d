"""How many tasks of a slot run at once, and which one is next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Generic, Protocol, TypeVar


class Line(IntEnum):
    """Where a task waits for a place; lower lines come first, in each whoever came first."""

    #: thawed: its own worker stands ready
    STOPPED = 0
    #: thawed before it ever ran: any worker will do
    RETURNING = 1
    QUEUED = 2


#: the lines of tasks that need a worker
_WORKERLESS = (Line.RETURNING, Line.QUEUED)


class Waiting(Protocol):
    """A task in a line."""

    def go_on(self) -> bool:
        """Let its stopped worker run; return False if it does not want the place any more."""
        ...


T = TypeVar("T", bound=Waiting)


class Places(Generic[T]):
    """A count of free places and the lines before them.

    Who takes a place gives it back. A task calls `line_up`, `withdraw` and `give_back` under its own lock, since it
    stands in a line exactly while its state says so. `grant`, which calls tasks, is called without any lock, after each
    of these.

    Args:
        count: how many tasks run at once.
        on_change: called at the end of `grant`: perhaps there is something to take now, perhaps no more.
    """

    def __init__(self, count: int, on_change: Callable[[], None]) -> None:
        self._free = count
        self._on_change = on_change
        self._lines: dict[Line, dict[T, None]] = {line: {} for line in Line}
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """How many places nobody has."""
        return self._free

    def takeable(self) -> int:
        """Return how many calls of `take` would succeed now."""
        with self._lock:
            return min(self._free, sum(len(self._lines[line]) for line in _WORKERLESS))

    def head(self) -> T | None:
        """Return the task that `take` would return now, but for a place."""
        with self._lock:
            return next((task for line in _WORKERLESS for task in self._lines[line]), None)

    def line_up(self, task: T, line: Line) -> None:
        """Append a task to a line, and to no other."""
        with self._lock:
            self._remove(task)
            self._lines[line][task] = None

    def withdraw(self, task: T) -> None:
        """Take a task out of its line, if it stands in one."""
        with self._lock:
            self._remove(task)

    def take(self) -> T | None:
        """Take a place for the next task that needs a worker; None without a place or a task."""
        with self._lock:
            return self._next(*_WORKERLESS)

    def give_back(self) -> None:
        """Give a place back."""
        with self._lock:
            self._free += 1

    def grant(self) -> None:
        """Let stopped tasks go on, as many as there are places."""
        while (task := self._take_stopped()) is not None:
            if not task.go_on():
                self.give_back()
        self._on_change()

    def _take_stopped(self) -> T | None:
        with self._lock:
            return self._next(Line.STOPPED)

    def _next(self, *lines: Line) -> T | None:
        line = next((self._lines[line] for line in lines if self._lines[line]), None)
        if not self._free or line is None:
            return None
        self._free -= 1
        task = next(iter(line))
        del line[task]
        return task

    def _remove(self, task: T) -> None:
        for line in self._lines.values():
            line.pop(task, None)
