"""Ends jobs that were blocked for longer than the operator allows; by default there is no such time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from videoprocess_server.engine import endings
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import Fault, Job
from videoprocess_server.model.states import BlockReason, JobState, Trigger
from videoprocess_server.store.repository import Transaction

#: how often within the bound the queue is looked at, and the longest pause between two looks
LOOKS = 10
LONGEST_SECONDS = 30.0
_CODES = {BlockReason.OVERHEAT: ErrorCode.HIGH_TEMPERATURE}


class BlockedTime:
    """Measures by the monotonic clock; the wall clock counts only for what was blocked before this start.

    Args:
        max_seconds: None for no bound.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self._max_seconds = max_seconds
        self._next_look = 0.0
        #: job_id → monotonic seconds
        self._since: dict[str, float] = {}

    def is_due(self, now: float) -> bool:
        """Return whether to look at all queued jobs now: never without a bound, else some times within it."""
        if self._max_seconds is None or now < self._next_look:
            return False
        self._next_look = now + min(self._max_seconds / LOOKS, LONGEST_SECONDS)
        return True

    def over(
        self, queued: Sequence[Job], reasons: Mapping[str, BlockReason], now: float, now_us: int
    ) -> list[Job]:
        """Return the queued jobs that are blocked for too long. All queued jobs must be given each time."""
        blocked = [job for job in queued if reasons[job.job_id] is not BlockReason.NONE]
        before = self._since
        self._since = {
            job.job_id: before.get(job.job_id, now - _seconds_before(job, now_us)) for job in blocked
        }
        limit = self._max_seconds
        return [job for job in blocked if limit is not None and now - self._since[job.job_id] >= limit]

    @staticmethod
    def end(tx: Transaction, job: Job, reason: BlockReason, now_us: int) -> None:
        """End such a job, unless it has ended or begun meanwhile."""
        current = tx.get_job(job.job_id)
        video = tx.get_video(job.user_id, job.video_id)
        if current is None or current.state is not JobState.QUEUED or video is None:
            return
        fault = Fault(
            error_code=_CODES.get(reason, ErrorCode.ABNORMAL),
            reason="BLOCKED_TOO_LONG",
            message=f"blocked by {reason.value} for longer than this service allows",
        )
        endings.fail(tx, current, fault, now_us)
        endings.move(tx, video, Trigger.GIVE_UP, now_us, fault=fault)


def _seconds_before(job: Job, now_us: int) -> float:
    if job.blocked_since_us is None:
        return 0.0
    return max(0, now_us - job.blocked_since_us) / MICROSECONDS_PER_SECOND
