"""The states of videos, jobs, segments and uploads, and who moves them on. `docs/states.md` is made from this file."""

from __future__ import annotations

from enum import Enum


class VideoState(Enum):
    """Where a video of a user stands."""

    PENDING = "pending"  #: has no result and no accepted work; Prepare or a finished upload puts it here
    QUEUED = "queued"  #: accepted, waits for the scheduler or for what blocks it
    RUNNING = "running"  #: a job driver works on it
    PAUSED = "paused"  #: interrupted; the next ProcessVideo goes on from its finished segments
    COMPLETED = "completed"  #: its newest result was published
    FAILED = "failed"  #: a cause outside the media outlasted its retries; may be processed again
    ERROR = "error"  #: the media cannot be produced; final until prepared again
    DELETED = "deleted"  #: in the trash


class JobState(Enum):
    """Where one accepted ProcessVideo stands. The last three are terminal, each with exactly one event."""

    QUEUED = "queued"  #: accepted; the scheduler moves it on
    RUNNING = "running"  #: a driver thread owns it
    COMPLETED = "completed"  #: ended in OnProcessDone
    FAILED = "failed"  #: ended in OnError of another code than ABORT
    ABORTED = "aborted"  #: ended in OnError(ABORT)


class SegmentState(Enum):
    """Where a segment of a plan stands."""

    WAITING = "waiting"  #: nobody works on it
    LEASED = "leased"  #: an attempt with the row's lease token works on it
    DONE = "done"  #: the row names the winning file and its digest


class UploadState(Enum):
    """Where an upload stands."""

    ACTIVE = "active"  #: may grow
    FINISHED = "finished"  #: whole, its SHA-256 known; never changes again


class BlockReason(Enum):
    """Why an accepted job is not running though a worker may be free."""

    NONE = "none"
    DRAINING = "draining"  #: the service is stopping; goes on at its next start
    RETRY_BACKOFF = "retry_backoff"  #: waits before another try


class Trigger(Enum):
    """What moves a video on."""

    PREPARE = "Prepare, or an upload that names the id finished"
    PREPARE_ANEW = "Prepare of another source; for ERROR any Prepare"
    PROCESS = "ProcessVideo"
    DISPATCH = "scheduler"
    REQUEUE = "drain, crash or restart of the service"
    INTERRUPT = "Interrupt"
    RESET = "Reset of its session"
    PUBLISHED = "published"
    MEDIA_FAULT = "media or source fault"
    GIVE_UP = "no progress, or retries used up"
    SLIP = "a caller's slip found while planning"


_IDLE = (VideoState.PENDING, VideoState.PAUSED, VideoState.FAILED, VideoState.COMPLETED)

#: (state, trigger) → the states it may lead to. A pair that is not here is illegal.
VIDEO_TRANSITIONS: dict[tuple[VideoState, Trigger], tuple[VideoState, ...]] = {
    **{(state, Trigger.PROCESS): (VideoState.QUEUED,) for state in _IDLE},
    **{(state, Trigger.PREPARE_ANEW): (VideoState.PENDING,) for state in (*_IDLE, VideoState.ERROR)},
    (VideoState.QUEUED, Trigger.DISPATCH): (VideoState.RUNNING,),
    (VideoState.RUNNING, Trigger.REQUEUE): (VideoState.QUEUED,),
    (VideoState.RUNNING, Trigger.INTERRUPT): (VideoState.PAUSED,),
    (VideoState.QUEUED, Trigger.INTERRUPT): (VideoState.PAUSED,),
    (VideoState.RUNNING, Trigger.RESET): (VideoState.PENDING,),
    (VideoState.QUEUED, Trigger.RESET): (VideoState.PENDING,),
    (VideoState.PAUSED, Trigger.RESET): (VideoState.PENDING,),
    (VideoState.RUNNING, Trigger.PUBLISHED): (VideoState.COMPLETED,),
    (VideoState.RUNNING, Trigger.MEDIA_FAULT): (VideoState.ERROR,),
    (VideoState.RUNNING, Trigger.GIVE_UP): (VideoState.FAILED,),
    (VideoState.RUNNING, Trigger.SLIP): _IDLE,
}

TERMINAL_JOB_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.ABORTED})
ACTIVE_VIDEO_STATES = frozenset({VideoState.QUEUED, VideoState.RUNNING})
#: what GetPendingVideos lists: the user's videos without a result
UNFINISHED_VIDEO_STATES = frozenset(
    {
        VideoState.PENDING,
        VideoState.QUEUED,
        VideoState.RUNNING,
        VideoState.PAUSED,
        VideoState.FAILED,
        VideoState.ERROR,
    }
)


class IllegalTransitionError(Exception):
    """A trigger met a state it has no row for: a mistake of ours, never of a caller."""


def next_state(state: VideoState, trigger: Trigger, to: VideoState | None = None) -> VideoState:
    """Return where `trigger` leads from `state`; `to` picks one where the table allows several.

    Raises:
        IllegalTransitionError: the table has no such row.
    """
    allowed = VIDEO_TRANSITIONS.get((state, trigger), ())
    target = to if to is not None else (allowed[0] if len(allowed) == 1 else None)
    if target is None or target not in allowed:
        raise IllegalTransitionError(
            f"{state.name} --{trigger.name}--> {to.name if to else '?'} is not in the state table"
        )
    return target
