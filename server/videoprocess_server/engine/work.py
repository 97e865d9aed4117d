"""What the calls need of whatever drives jobs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from videoprocess_server.model.records import Job
from videoprocess_server.model.states import BlockReason


class StopReason(IntEnum):
    """Why a running job is stopped; a greater one replaces a smaller one."""

    #: others have its workers for now: at a checkpoint it goes back to the queue
    YIELD = 1
    #: the service stops: at a checkpoint it goes back to the queue
    DRAIN = 2
    INTERRUPT = 3
    RESET = 4
    #: the job has ended with its video already
    REMOVE = 5


#: those that wait for open segments to end, as long as the stop allows
AT_CHECKPOINT = frozenset({StopReason.YIELD, StopReason.DRAIN})
#: those after which frozen workers may be of use again
FREEZES = frozenset({StopReason.YIELD, StopReason.INTERRUPT})


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A request to stop."""

    reason: StopReason
    #: of a job that goes back to the queue
    blocked_by: BlockReason = BlockReason.NONE
    #: monotonic seconds until which open segments may end
    deadline: float = 0.0


class Work(Protocol):
    """The scheduler, as the calls see it."""

    def wake(self) -> None:
        """Look for queued jobs."""
        ...

    def stop(self, job_id: str, reason: StopReason) -> bool:
        """Stop a running job's workers; it ends by itself. False where no driver has it."""
        ...

    def evict(self, user_id: int, video_id: str) -> None:
        """Drop the frozen workers of a video's interrupted work; nothing happens where there are none."""
        ...

    def live(self, job: Job) -> Job:
        """Return the job with its progress of this moment, or with what it waits for."""
        ...

    @property
    def draining(self) -> bool:
        """Whether nothing new is admitted."""
        ...
