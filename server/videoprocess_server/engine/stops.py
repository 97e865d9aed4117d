"""Interrupt and Reset: what stops work, and what becomes of the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from videoprocess_server.engine import endings
from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.jobs import active_jobs
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.sweeper import Sweeper
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.engine.work import StopReason, Work
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import Job
from videoprocess_server.model.states import JobState, Trigger, VideoState
from videoprocess_server.store.repository import Repository, Transaction

PAUSED_PER_RESET = 10_000


class Stops:
    """Stops work."""

    def __init__(
        self,
        repository: Repository,
        sweeper: Sweeper,
        sessions: Sessions,
        hub: EventHub,
        work: Work,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._repository = repository
        self._sweeper = sweeper
        self._sessions = sessions
        self._hub = hub
        self._work = work
        self._clock = clock
        self._limits = limits

    def interrupt(self, caller: Caller, session_id: str, video_ids: Sequence[str]) -> list[str]:
        """Pause the session's work, or that of the named videos of the user; return the ids of the jobs. Idle is fine.

        Raises:
            VideoProcessError: SESSION_CLOSED, INVALID_VIDEO_ID.
        """
        session = self._sessions.use(caller, session_id)
        for video_id in video_ids:
            check_video_id(video_id, self._limits)
        with self._repository.transaction() as tx:
            jobs = active_jobs(tx, session, tuple(video_ids))
            for job in jobs:
                self._stop(tx, job, StopReason.INTERRUPT)
        self._hub.committed(session.user_id)
        return [job.job_id for job in jobs]

    def reset(self, caller: Caller, session_id: str) -> list[str]:
        """Interrupt; then the session is as new, and the checkpoints of its unfinished work are gone.

        Returns:
            The ids of the jobs that were stopped.

        Raises:
            VideoProcessError: SESSION_CLOSED.
        """
        session = self._sessions.use(caller, session_id)
        with self._repository.transaction() as tx:
            fresh = self._sessions.open_session(tx, session_id)
            tx.put_session(replace(fresh, streams=(), committed=None))
            paused = self._restart_paused(tx, session.user_id, session_id)
            jobs = active_jobs(tx, session, ())
            for job in jobs:
                self._stop(tx, job, StopReason.RESET)
        for video_id in [*paused, *(job.video_id for job in jobs if job.state is JobState.QUEUED)]:
            self._work.evict(session.user_id, video_id)
        self._hub.committed(session.user_id)
        self._sweeper.sweep()
        return [job.job_id for job in jobs]

    def _restart_paused(self, tx: Transaction, user_id: int, session_id: str) -> list[str]:
        restarted: list[str] = []
        for video in tx.list_videos(user_id, states={VideoState.PAUSED}, limit=PAUSED_PER_RESET):
            job = tx.get_job(video.last_job_id)
            if job is not None and job.session_id == session_id:
                endings.move(tx, video, Trigger.RESET, self._clock.now_us())
                discard_plans(tx, user_id, video.video_id, self._clock.now_us())
                restarted.append(video.video_id)
        return restarted

    def _stop(self, tx: Transaction, job: Job, reason: StopReason) -> None:
        """Abort a queued job, or tell a running one's driver.

        Within the transaction: a driver ends its job in one too, so it either sees the reason or has ended before.
        """
        if job.state is JobState.RUNNING:
            before = StopReason[job.stop_requested] if job.stop_requested else reason
            # A service that dies before the driver has stopped does not go on with the job.
            tx.put_job(replace(job, stop_requested=max(reason, before).name))
            self._work.stop(job.job_id, reason)
            return
        video = tx.get_video(job.user_id, job.video_id)
        assert video is not None
        endings.stop(tx, job, video, reason, self._clock.now_us())
