"""The states of videos, jobs, segments and uploads, and who moves them on. `docs/states.md` is made from this file."""

from __future__ import annotations

from enum import Enum


class VideoState(Enum):
    """Where a video of a user stands."""

    #: has no result and no accepted work; Prepare or a finished upload puts it here
    PENDING = "pending"
    #: accepted, waits for the scheduler or for what blocks it
    QUEUED = "queued"
    #: a job driver works on it
    RUNNING = "running"
    #: interrupted; the next ProcessVideo goes on from its finished segments
    PAUSED = "paused"
    #: its newest result was published
    COMPLETED = "completed"
    #: a cause outside the media outlasted its retries; may be processed again
    FAILED = "failed"
    #: the media cannot be produced; final until prepared again
    ERROR = "error"
    #: in the trash
    DELETED = "deleted"


class JobState(Enum):
    """Where one accepted ProcessVideo stands. The last three are terminal, each with exactly one event."""

    #: accepted; the scheduler moves it on
    QUEUED = "queued"
    #: a driver thread owns it
    RUNNING = "running"
    #: ended in OnProcessDone
    COMPLETED = "completed"
    #: ended in OnError of another code than ABORT
    FAILED = "failed"
    #: ended in OnError(ABORT)
    ABORTED = "aborted"


class SegmentState(Enum):
    """Where a segment of a plan stands."""

    #: nobody works on it
    WAITING = "waiting"
    #: an attempt with the row's lease token works on it
    LEASED = "leased"
    #: the row names the winning file and its digest
    DONE = "done"


class UploadState(Enum):
    """Where an upload stands."""

    #: may grow
    ACTIVE = "active"
    #: whole, its SHA-256 known; never changes again
    FINISHED = "finished"


class BlockReason(Enum):
    """Why an accepted job is not running though a worker may be free."""

    #: nothing but its turn
    NONE = "none"
    #: the disk's reserve or the user's quota is reached
    SPACE_LIMIT = "space_limit"
    #: the temperature or pressure gate is closed
    OVERHEAT = "overheat"
    #: a HIGH job of the same user has the workers
    PREEMPTED = "preempted"
    #: the service is stopping; goes on at its next start
    DRAINING = "draining"
    #: other users have their share of the workers
    FAIR_SHARE = "fair_share"
    #: the operator's quiet hours
    QUIET_HOURS = "quiet_hours"
    #: the operator closed the manual gate
    MANUAL = "manual"
    #: the database cannot be reached
    STORE_UNREACHABLE = "store_unreachable"
    #: waits before another try
    RETRY_BACKOFF = "retry_backoff"


class Trigger(Enum):
    """What moves a video on."""

    PREPARE = "Prepare, or an upload that names the id finished"
    PREPARE_ANEW = "Prepare of another source; for ERROR any Prepare"
    PROCESS = "ProcessVideo"
    DISPATCH = "scheduler"
    REQUEUE = "gate, preemption, fair share, drain, crash or restart of the service"
    INTERRUPT = "Interrupt"
    RESET = "Reset of its session"
    PUBLISHED = "published"
    MEDIA_FAULT = "media or source fault"
    GIVE_UP = "no progress, blocked too long, or retries used up"
    SLIP = "a caller's slip found while planning"
    REMOVE_RESTORABLE = "RemoveVideo(restorable)"
    RESTORE = "RestoreVideo"


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
    (VideoState.QUEUED, Trigger.GIVE_UP): (VideoState.FAILED,),
    (VideoState.RUNNING, Trigger.SLIP): _IDLE,
    **{
        (state, Trigger.REMOVE_RESTORABLE): (VideoState.DELETED,)
        for state in VideoState
        if state is not VideoState.DELETED
    },
    (VideoState.DELETED, Trigger.RESTORE): (VideoState.COMPLETED, VideoState.PENDING),
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
