"""What the calls need of whatever drives jobs."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from videoprocess_server.model.records import Job


class StopReason(IntEnum):
    """Why a running job is stopped; a greater one replaces a smaller one."""

    DRAIN = 1
    INTERRUPT = 2
    RESET = 3
    REMOVE = 4


class Work(Protocol):
    """The scheduler, as the calls see it."""

    def wake(self) -> None:
        """Look for queued jobs."""
        ...

    def stop(self, job_id: str, reason: StopReason) -> bool:
        """Stop a running job's workers; it ends by itself. False where no driver has it."""
        ...

    def live(self, job: Job) -> Job:
        """Return the job with its progress of this moment."""
        ...

    @property
    def draining(self) -> bool:
        """Whether nothing new is admitted."""
        ...
