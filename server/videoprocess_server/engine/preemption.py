"""Tells sessions whose NORMAL work waits for a HIGH job of another session of their user."""

from __future__ import annotations

from collections.abc import Mapping

from videoprocess_server.engine.events import EventHub
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.records import Job, Priority
from videoprocess_server.model.scheduling import Decision
from videoprocess_server.model.states import BlockReason


class Preemption:
    """Remembers who was told."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        #: session_id → user_id
        self._told: dict[str, int] = {}

    def tell(self, decision: Decision, jobs: Mapping[str, Job]) -> None:
        """Tell sessions that are preempted by this decision, and those that are not any more."""
        preempted = self._preempted(decision, jobs)
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
    def _preempted(decision: Decision, jobs: Mapping[str, Job]) -> dict[str, int]:
        high = {
            (job.user_id, job.session_id)
            for job_id, job in jobs.items()
            if job_id in decision.workers and job.priority is Priority.HIGH
        }
        return {
            job.session_id: job.user_id
            for job_id, job in jobs.items()
            if decision.blocked.get(job_id) is BlockReason.PREEMPTED
            and any(user == job.user_id and session != job.session_id for user, session in high)
        }
