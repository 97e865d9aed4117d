"""A first-in-first-out queue that can be polled together with a socket."""

from __future__ import annotations

import os
from collections import deque

from videoprocess_server.execution.task_run import TaskRun


class TaskQueue:
    """Tasks that wait for a worker. The descriptor is readable while there is one; its counter is the queue's length."""

    def __init__(self) -> None:
        self._runs: deque[TaskRun] = deque()
        self._count_fd = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._count_fd

    def put(self, run: TaskRun) -> None:
        """Append a task."""
        self._runs.append(run)
        os.eventfd_write(self._count_fd, 1)

    def take(self) -> TaskRun | None:
        """Return the oldest task; None if another worker was faster."""
        try:
            os.eventfd_read(self._count_fd)
        except BlockingIOError:
            return None
        return self._runs.popleft()

    def close(self) -> None:
        """Give the descriptor back; nobody uses the queue any more."""
        os.close(self._count_fd)
