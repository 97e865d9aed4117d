"""How a job ends: its state, its one terminal event and its video change in one transaction (G1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from videoprocess_server.engine.checkpoints import discard_plans
from videoprocess_server.engine.deliveries import bury_deliveries
from videoprocess_server.engine.work import StopReason
from videoprocess_server.model import job_times
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import Artifact, Event, EventKind, Fault, Job, Report, Video
from videoprocess_server.model.states import JobState, Trigger, VideoState, next_state
from videoprocess_server.store.repository import Transaction

#: stops that end a job: what it is told, and what becomes of its video
STOPS: Mapping[StopReason, tuple[str, Trigger]] = {
    StopReason.INTERRUPT: ("INTERRUPTED", Trigger.INTERRUPT),
    StopReason.RESET: ("RESET", Trigger.RESET),
}
#: what a stop is told as
STOP_MESSAGES = {
    "INTERRUPTED": "interrupted; ProcessVideo goes on from the finished segments",
    "RESET": "the session was reset; ProcessVideo starts anew",
    "REMOVED": "the video was removed",
}


def complete(tx: Transaction, job: Job, report: Report, artifacts: Sequence[Artifact], now_us: int) -> Job:
    """End a job in OnProcessDone."""
    ended = replace(_ended(job, JobState.COMPLETED, now_us), report=report, fault=None)
    tx.put_job(ended)
    tx.append_event(_event(ended, EventKind.PROCESS_DONE, now_us, report=report, artifacts=tuple(artifacts)))
    return ended


def fail(tx: Transaction, job: Job, fault: Fault, now_us: int) -> Job:
    """End a job in OnError: ABORTED for ABORT, FAILED otherwise."""
    bury_deliveries(tx, job, now_us)
    state = JobState.ABORTED if fault.error_code is ErrorCode.ABORT else JobState.FAILED
    ended = replace(_ended(job, state, now_us), fault=fault)
    tx.put_job(ended)
    tx.append_event(_event(ended, EventKind.ERROR, now_us, fault=fault))
    return ended


def abort(tx: Transaction, job: Job, reason: str, now_us: int) -> Job:
    """End a job in OnError(ABORT); the video is the caller's to move on."""
    return fail(
        tx, job, Fault(error_code=ErrorCode.ABORT, reason=reason, message=STOP_MESSAGES[reason]), now_us
    )


def stop(tx: Transaction, job: Job, video: Video, reason: StopReason, now_us: int) -> None:
    """End a job as Interrupt or Reset asked; of a reset one the checkpoints go, and the caller calls the sweeper."""
    name, trigger = STOPS[reason]
    abort(tx, job, name, now_us)
    move(tx, video, trigger, now_us)
    if reason is StopReason.RESET:
        discard_plans(tx, video.user_id, video.video_id, now_us)


def move(
    tx: Transaction,
    video: Video,
    trigger: Trigger,
    now_us: int,
    *,
    to: VideoState | None = None,
    fault: Fault | None = None,
) -> Video:
    """Move a video on by the state table."""
    moved = replace(
        video,
        state=next_state(video.state, trigger, to),
        update_time_us=now_us,
        last_fault=fault or video.last_fault,
    )
    tx.put_video(moved)
    return moved


def _ended(job: Job, state: JobState, now_us: int) -> Job:
    snapshot = job.snapshot.without_picture() if job.snapshot else None
    ceased = job_times.ceased(job, now_us)
    return replace(ceased, state=state, driver=None, end_time_us=now_us, snapshot=snapshot, deliveries=())


def _event(
    job: Job,
    kind: EventKind,
    now_us: int,
    *,
    fault: Fault | None = None,
    report: Report | None = None,
    artifacts: tuple[Artifact, ...] = (),
) -> Event:
    return Event(
        sequence=0,
        user_id=job.user_id,
        session_id=job.session_id,
        video_id=job.video_id,
        job_id=job.job_id,
        create_time_us=now_us,
        kind=kind,
        fault=fault,
        report=report,
        artifacts=artifacts,
    )
