"""The work of all replicas as the calls of one see it: what callers ask of any is done where the work is, and told everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.scheduler import MAY_GO_ON, Scheduler
from videoprocess_server.engine.work import StopReason
from videoprocess_server.model.records import Driver, Job, JobProgress, Priority
from videoprocess_server.model.states import TERMINAL_JOB_STATES, JobState
from videoprocess_server.store.notices import Notices
from videoprocess_server.store.repository import Repository

_PROGRESS, _EVICT = "progress", "evict"


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """How far a job is, from who drives it."""

    job_id: str
    driver: Driver
    progress: JobProgress


@dataclass(frozen=True, kw_only=True)
class _Evict:
    """A video whose frozen work is of no use any more."""

    replica_id: str
    user_id: int
    video_id: str


class ReplicaWork:
    """Implements `Work` over this replica's scheduler and what the others tell.

    Args:
        repository: what notices are about: they only say where to look.
        notices: between the replicas.
        scheduler: drives the jobs of this one.
        hub: wakes subscribers of this one.
        replica_id: this one.
    """

    def __init__(
        self,
        repository: Repository,
        notices: Notices,
        scheduler: Scheduler,
        hub: EventHub,
        replica_id: str,
    ) -> None:
        self._repository = repository
        self._notices = notices
        self._scheduler = scheduler
        self._hub = hub
        self._replica_id = replica_id
        #: newest progress of jobs that others drive, by job_id
        self._progress: dict[str, _Progress] = {}
        self._topics: Mapping[str, Callable[[str], None]] = {
            _PROGRESS: self._hear_progress,
            _EVICT: self._hear_evict,
        }

    def listen(self) -> Callable[[], None]:
        """Tell and hear the others; they are heard until what is returned is called."""
        self._hub.relay_progress(self._tell_progress)
        return self._notices.listen(
            self._hub.committed, self.look_at, self._look_at_everything, self._hear_announcement
        )

    # -- Work

    @property
    def draining(self) -> bool:
        """See `Work`."""
        return self._scheduler.draining

    def wake(self) -> None:
        """See `Work`. The others hear of the job itself."""
        self._scheduler.wake()

    def stop(self, job_id: str, reason: StopReason) -> bool:
        """See `Work`. Another replica hears of the job's row, which names the reason."""
        return self._scheduler.stop(job_id, reason)

    def evict(self, user_id: int, video_id: str) -> None:
        """See `Work`."""
        self._scheduler.evict(user_id, video_id)
        told = _Evict(replica_id=self._replica_id, user_id=user_id, video_id=video_id)
        self._notices.announce(_EVICT, msgspec.json.encode(told).decode())

    def live(self, job: Job) -> Job:
        """See `Work`."""
        told = self._progress.get(job.job_id)
        if told is not None and job.state is JobState.RUNNING and told.driver == job.driver:
            return replace(job, progress=told.progress)
        return self._scheduler.live(job)

    # -- what is told and heard

    def _tell_progress(self, job: Job) -> None:
        if job.driver is not None:
            told = _Progress(job_id=job.job_id, driver=job.driver, progress=job.progress)
            self._notices.announce(_PROGRESS, msgspec.json.encode(told).decode())

    def look_at(self, job_id: str) -> None:
        """Have done here what a job's row says.

        Who drives is asked before the row is read: so the row is never older than that.
        """
        mine = self._scheduler.driver_of(job_id)
        with self._repository.read() as reader:
            job = reader.get_job(job_id)
        if job is None or job.state is not JobState.RUNNING or job.priority is Priority.HIGH:
            self._scheduler.wake()  # something may run, or a session be preempted or not any more
        if job is None or job.state in TERMINAL_JOB_STATES:
            self._progress.pop(job_id, None)
            self._scheduler.stop(job_id, StopReason.REMOVE)
        elif job.state is JobState.RUNNING:
            self._look_at_running(job, mine)

    def _look_at_running(self, job: Job, mine: Driver | None) -> None:
        if mine is not None and job.driver != mine:
            self._scheduler.stop(job.job_id, StopReason.REMOVE)
        elif mine is not None and job.stop_requested:
            self._scheduler.stop(job.job_id, StopReason[job.stop_requested])
        elif job.driver is None or job.driver.replica_id != self._replica_id:
            self._scheduler.evict(job.user_id, job.video_id)

    def _look_at_everything(self) -> None:
        """Whatever was told before may have been missed."""
        self._hub.look_again()
        self._scheduler.wake()
        for job_id in self._scheduler.driven_ids():
            self.look_at(job_id)
        for user_id, video_id in self._scheduler.parked_videos():
            with self._repository.read() as reader:
                video = reader.get_video(user_id, video_id)
            if video is None or video.state not in MAY_GO_ON:
                self._scheduler.evict(user_id, video_id)

    def _hear_announcement(self, topic: str, payload: str) -> None:
        if (hear := self._topics.get(topic)) is not None:  # a newer build may tell more
            hear(payload)

    def _hear_progress(self, payload: str) -> None:
        told = msgspec.json.decode(payload, type=_Progress)
        if told.driver.replica_id == self._replica_id:
            return
        with self._repository.read() as reader:
            job = reader.get_job(told.job_id)
        if job is not None and job.state is JobState.RUNNING and job.driver == told.driver:
            self._progress[told.job_id] = told
            self._hub.show_progress(replace(job, progress=told.progress))

    def _hear_evict(self, payload: str) -> None:
        told = msgspec.json.decode(payload, type=_Evict)
        if told.replica_id != self._replica_id:
            self._scheduler.evict(told.user_id, told.video_id)
