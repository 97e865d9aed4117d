"""ProcessVideo: what is accepted, what is a slip, what joins or repeats earlier work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from videoprocess_server.engine import endings, fingerprint
from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.requests import answered_before, remember
from videoprocess_server.engine.sessions import Sessions
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.engine.videos import VideoView, view_of
from videoprocess_server.engine.work import Work
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.records import Fault, Job, Priority, QueueClass, Session, Video
from videoprocess_server.model.settings_snapshot import SharedDirectory, Snapshot
from videoprocess_server.model.states import JobState, Trigger, VideoState
from videoprocess_server.model.tasks import BuildInfo
from videoprocess_server.model.trace_context import CURRENT_TRACE
from videoprocess_server.store.repository import Reader, Repository, Transaction

_QUEUE_CLASSES = {VideoState.PAUSED: QueueClass.PAUSED, VideoState.FAILED: QueueClass.FAILED}


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The answer to a ProcessVideo."""

    job: Job
    #: None for an unknown id
    view: VideoView | None


@dataclass(frozen=True, kw_only=True)
class ProcessRequest:
    """What ProcessVideo asks."""

    video_id: str
    timestamp_us: int
    #: None: NORMAL for a new job; one that is joined keeps its own
    priority: Priority | None
    request_id: str


log = structlog.get_logger(__name__)


class SlipError(Exception):
    """A fault of the caller that is accepted and answered by OnError; the video is left as it was."""

    def __init__(self, error_code: ErrorCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(error_code=error_code, reason=reason, message=message)


class Jobs:
    """Accepts work."""

    def __init__(
        self,
        repository: Repository,
        sessions: Sessions,
        hub: EventHub,
        work: Work,
        clock: Clock,
        limits: Limits,
        plan_settings: PlanSettings,
        build: Callable[[], BuildInfo],
    ) -> None:
        self._repository = repository
        self._sessions = sessions
        self._hub = hub
        self._work = work
        self._clock = clock
        self._limits = limits
        self._plan_settings = plan_settings
        self._build = build

    def process(self, caller: Caller, session_id: str, request: ProcessRequest) -> Accepted:
        """Accept work and return at once.

        Raises:
            VideoProcessError: SESSION_CLOSED, INVALID_VIDEO_ID, QUEUE_LIMIT, DRAINING, REQUEST_ID_REUSED.
        """
        session = self._sessions.use(caller, session_id)
        check_video_id(request.video_id, self._limits)
        if self._work.draining:
            raise VideoProcessError("DRAINING", "the service is stopping", retry_after_seconds=2)
        with self._repository.transaction() as tx:
            accepted = self._accept(tx, session.session_id, request)
        log.info("job_accepted", job_id=accepted.job.job_id, state=accepted.job.state.value)
        self._hub.committed(session.user_id)
        self._work.wake()
        return accepted

    def _accept(self, tx: Transaction, session_id: str, request: ProcessRequest) -> Accepted:
        session = self._sessions.open_session(tx, session_id)
        arguments = fingerprint.of(session_id, request.video_id, request.timestamp_us, request.priority)
        before = answered_before(tx, session.user_id, "ProcessVideo", request.request_id, arguments)
        job = tx.get_job(before) if before else None
        if job is None:
            job = self._admit(tx, session, request)
            now = self._clock.now_us()
            remember(tx, session.user_id, "ProcessVideo", request.request_id, arguments, job.job_id, now)
        video = tx.get_video(session.user_id, request.video_id)
        return Accepted(job=job, view=view_of(tx, video) if video else None)

    def _admit(self, tx: Transaction, session: Session, request: ProcessRequest) -> Job:
        trace = CURRENT_TRACE.get()
        job = Job(
            job_id=new_id(),
            user_id=session.user_id,
            video_id=request.video_id,
            session_id=session.session_id,
            state=JobState.QUEUED,
            priority=request.priority or Priority.NORMAL,
            execution_mode=session.execution_mode,
            accept_number=tx.next_accept_number(),
            create_time_us=self._clock.now_us(),
            event_sequence=tx.event_bounds(session.user_id)[1],
            traceparent=trace.child().traceparent if trace is not None else "",
            caller_span_id=trace.span_id if trace is not None else "",
            timestamp_us=request.timestamp_us,
        )
        try:
            return self._place(tx, session, job, request.priority)
        except SlipError as slip:
            return endings.fail(tx, job, slip.fault, job.create_time_us)

    def _place(self, tx: Transaction, session: Session, job: Job, priority: Priority | None) -> Job:
        """Join running work, repeat a result, or queue the job."""
        video, snapshot = _processable(tx.get_video(job.user_id, job.video_id), session.committed)
        settings = fingerprint.of_settings(video, snapshot, self._plan_settings, self._build())
        job = replace(
            job,
            snapshot=snapshot,
            settings_fingerprint=settings,
            previous_video_state=video.state,
            queue_class=_QUEUE_CLASSES.get(video.state, QueueClass.FRESH),
        )
        active = tx.get_active_job(job.user_id, job.video_id)
        if active is not None:
            # Not by its fingerprint, which an earlier build of the service may have made.
            if active.snapshot == snapshot:
                return _reprioritised(tx, active, priority)
            raise SlipError(
                ErrorCode.PROCESS, "ALREADY_RUNNING", "the video is processed with other settings"
            )
        if video.state is VideoState.COMPLETED:
            repeated = self._repeat(tx, video, job)
            if repeated is not None:
                return repeated
        if tx.find_resume_point(job.user_id, job.video_id, settings) is None:
            _check_timestamp(video, job.timestamp_us)
        self._check_queue(tx, job.user_id)
        tx.put_job(job)
        moved = endings.move(tx, video, Trigger.PROCESS, job.create_time_us)
        tx.put_video(replace(moved, last_job_id=job.job_id))
        return job

    def _check_queue(self, tx: Transaction, user_id: int) -> None:
        limits = self._limits
        if (
            tx.count_active_jobs() >= limits.max_active_jobs
            or tx.count_active_jobs(user_id) >= limits.max_active_jobs_per_user
        ):
            raise VideoProcessError(
                "QUEUE_LIMIT", "the queue is full: wait for accepted work", retry_after_seconds=10
            )

    def _repeat(self, tx: Transaction, video: Video, job: Job) -> Job | None:
        """End the job with the kept result of the same fingerprint, if there is one."""
        if video.result_fingerprint != fingerprint.of_result(job.settings_fingerprint, job.timestamp_us):
            return None
        artifacts = tx.list_artifacts_of_job(video.result_job_id)
        result = tx.get_job(video.result_job_id)
        if not artifacts or result is None or result.report is None:
            return None
        if _directories(result.snapshot) != _directories(job.snapshot):
            return None  # made anew, and written there
        ended = endings.complete(tx, job, result.report, artifacts, job.create_time_us)
        tx.put_video(replace(video, last_job_id=job.job_id, update_time_us=job.create_time_us))
        return ended


def _directories(snapshot: Snapshot | None) -> Mapping[int, SharedDirectory]:
    return snapshot.directories if snapshot else {}


def _reprioritised(tx: Transaction, active: Job, priority: Priority | None) -> Job:
    """Give a joined job the priority that was asked for. The newest HIGH job comes first, so that one counts as accepted now."""
    if priority is None or (priority is active.priority is Priority.NORMAL):
        return active
    number = tx.next_accept_number() if priority is Priority.HIGH else active.accept_number
    joined = replace(active, priority=priority, accept_number=number)
    tx.put_job(joined)
    return joined


def _processable(video: Video | None, committed: Snapshot | None) -> tuple[Video, Snapshot]:
    if video is None or video.state is VideoState.DELETED:
        raise SlipError(
            ErrorCode.INVALID_ID, "UNKNOWN_VIDEO_ID", "there is no such video: call Prepare first"
        )
    if video.state is VideoState.ERROR:
        raise SlipError(ErrorCode.PROCESS, "NEEDS_PREPARE", "the video ended in ERROR: call Prepare again")
    if video.media is None or video.source is None:
        raise SlipError(ErrorCode.PROCESS, "NOT_PREPARED", "call Prepare for this video first")
    if committed is None or not committed.streams:
        raise SlipError(ErrorCode.PROCESS, "NO_COMMITTED_STREAMS", "the session has no committed streams")
    return video, committed


def _check_timestamp(video: Video, timestamp_us: int) -> None:
    duration_us = video.media.duration_us if video.media else None
    if duration_us is not None and timestamp_us > duration_us:
        raise SlipError(
            ErrorCode.PROCESS,
            "TIMESTAMP_BEYOND_END",
            f"{timestamp_us} us is beyond the end at {duration_us} us",
        )


def active_jobs(reader: Reader, session: Session, video_ids: tuple[str, ...]) -> list[Job]:
    """Return what Interrupt means: the session's queued and running jobs, or those of the named videos of the user."""
    if not video_ids:
        return list(reader.list_active_jobs(session_id=session.session_id))
    found = (reader.get_active_job(session.user_id, video_id) for video_id in dict.fromkeys(video_ids))
    return [job for job in found if job is not None]
