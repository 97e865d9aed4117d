"""A worker as whoever drives it sees it, wherever it runs."""

from __future__ import annotations

from typing import Protocol

from videoprocess_server.execution.channel import Patience, endless
from videoprocess_server.execution.codec import Message
from videoprocess_server.execution.task_run import TaskRun, TaskWorker


class WorkerChannel(Protocol):
    """This end of the talk with a worker: see channel.Channel, whose errors it raises."""

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        ...

    def send(self, message: Message, *, fd: int | None = None, patience: Patience = endless) -> None:
        """Send a message, and the source that a task reads."""
        ...

    def receive(self, *, patience: Patience = endless) -> Message:
        """Wait for a whole message."""
        ...


class DrivenWorker(TaskWorker, Protocol):
    """One worker. Its thread talks over the channel and calls `end`; the rest is for any thread."""

    #: once it is gone: as subprocess tells it, negative for a signal
    exit_code: int | None
    #: whether SIGKILL was sent from here
    killed: bool
    #: once it is gone: why it did not start; "" where nothing tells
    failure: str
    #: once it is gone: whether it was not started because others have all there is, which is no failure
    found_no_room: bool

    @property
    def channel(self) -> WorkerChannel:
        """This end of its channel; the first message is its Ready."""
        ...

    @property
    def pid(self) -> int:
        """The process id, of its machine."""
        ...

    def is_far_from(self, run: TaskRun) -> bool:
        """Return whether other workers have at hand what a task reads, and this one has not."""
        ...

    def suits(self, run: TaskRun) -> bool:
        """Make it ready for a task, while it has none; False if that takes another worker. `rest` must follow."""
        ...

    def rest(self) -> None:
        """Note that its task is over, or did not begin; it goes on if it was frozen."""
        ...

    def fetch(self, run: TaskRun) -> None:
        """Bring what a task reads to where it runs.

        Raises:
            EOFError: the worker is gone.
            TaskFailedError: there is no space for it.
        """
        ...

    def kill(self) -> None:
        """Send SIGKILL; nothing happens once it is gone."""
        ...

    def cpu_seconds(self) -> float:
        """Return the processor time it has used; what it had used once it is gone."""
        ...

    def oom_kill_count(self) -> int | None:
        """Return how many processes its control group lost for want of memory; None where nothing tells."""
        ...

    def end(self, *, let_it_end: bool = False) -> int:
        """Kill it, wait until it is gone, give everything back and return its exit code.

        Args:
            let_it_end: it is ending already: wait a little before it is killed.
        """
        ...
