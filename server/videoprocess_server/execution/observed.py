"""What the service tells of its executor, beside running tasks on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from videoprocess_server.execution.executor import Executor, Slot
from videoprocess_server.execution.worker_group import Usage


class ObservedExecutor(Executor, Protocol):
    """An Executor of the service."""

    @property
    def layers(self) -> Sequence[str]:
        """What confines the workers, see sandbox; empty until the first is ready."""
        ...

    @property
    def memory_bytes(self) -> int | None:
        """What all machines with workers have for tasks; None where that is this machine's."""
        ...

    def examine(self) -> None:
        """Reach what it runs on, and return if that is fit; called before `start`, while nothing is made yet.

        Raises:
            Exception: of the executor's own; the text is one line that says what to do, and nothing is left running.
        """
        ...

    def usage(self) -> Mapping[Slot, Usage]:
        """Return what the workers of each slot have used, and hold."""
        ...
