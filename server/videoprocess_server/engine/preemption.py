"""Tells sessions whose NORMAL work waits for a HIGH job of another session of their user: every replica finds it in the rows."""

from __future__ import annotations

from itertools import chain

from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.queue_view import Seen
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.records import Priority
from videoprocess_server.model.scheduling import Decision
from videoprocess_server.model.states import BlockReason, JobState


class Preemption:
    """Remembers who was told."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        #: session_id → user_id
        self._told: dict[str, int] = {}

    def tell(self, decision: Decision, seen: Seen) -> None:
        """Tell sessions that are preempted by this decision, and those that are not any more."""
        preempted = self._preempted(decision, seen)
        for session_id, user_id in preempted.items() - self._told.items():
            self._hub.session_status_changed(
                user_id,
                session_id,
                SessionStatus.NOT_READY_PREEMPTED,
                BlockReason.PREEMPTED,
                "a HIGH job of another session runs instead",
            )
        for session_id, user_id in self._told.items() - preempted.items():
            self._hub.session_status_changed(user_id, session_id, SessionStatus.READY, BlockReason.NONE, "")
        self._told = preempted

    @staticmethod
    def _preempted(decision: Decision, seen: Seen) -> dict[str, int]:
        high = {
            (job.user_id, job.session_id)
            for job in chain(seen.elsewhere, map(seen.jobs.__getitem__, decision.workers))
            if job.priority is Priority.HIGH
        }
        return {
            job.session_id: job.user_id
            for job in seen.jobs.values()
            if job.state is JobState.QUEUED  # until then only who drives it knows that it is to stop
            and decision.blocked.get(job.job_id) is BlockReason.PREEMPTED
            and any(user == job.user_id and session != job.session_id for user, session in high)
        }
