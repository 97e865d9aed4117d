"""What a driver makes of a failed task: another try, a slip, or the end. One table of causes."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from videoprocess_server.blobs.blob_store import BlobStoreFullError
from videoprocess_server.engine.sources import SourceChangedError
from videoprocess_server.errors import CATALOGUE, SLIPS
from videoprocess_server.execution.executor import TaskFailedError, TaskStalledError, WorkerCrashedError
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import Fault
from videoprocess_server.model.states import Trigger

#: signals that are a worker's own doing; SIGKILL and SIGTERM come from outside
OWN_SIGNALS = frozenset({-4, -6, -7, -8, -11, -24, -25, -31})  # ILL ABRT BUS FPE SEGV XCPU XFSZ SYS
#: tries of one task that end from outside before the job gives up
MAX_FOREIGN_KILLS = 10

#: a worker's answers that may be different the next time, and count against the task
_TRANSIENT = frozenset({"INTERNAL"})
#: causes outside the video that pass: the job waits and is tried again, however often
_PASSING = frozenset({"STORAGE_FULL", "NO_WORKER"})
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a job ends."""

    fault: Fault
    trigger: Trigger


def is_own_crash(error: BaseException) -> bool:
    """Return whether a try ended by the task's own doing: it counts against the task."""
    if isinstance(error, WorkerCrashedError):
        return error.exit_code is None or error.exit_code > 0 or error.exit_code in OWN_SIGNALS
    return isinstance(error, TaskFailedError) and error.reason in _TRANSIENT


def is_passing(error: BaseException) -> bool:
    """Return whether the job is to wait until the cause has passed."""
    if isinstance(error, TaskFailedError):
        return error.reason in _PASSING
    return isinstance(error, BlobStoreFullError) or (isinstance(error, OSError) and error.errno in _DISK_FULL)


def may_retry(error: BaseException) -> bool:
    """Return whether the same task may be tried again."""
    return isinstance(error, WorkerCrashedError) or is_own_crash(error)


def verdict(error: BaseException) -> Verdict:
    """Return how a job ends whose task failed for good."""
    if isinstance(error, TaskFailedError) and error.reason in SLIPS:
        return _end(ErrorCode.PROCESS, error.reason, error.message, Trigger.SLIP)
    if isinstance(error, TaskFailedError) and error.reason in CATALOGUE and error.reason not in _TRANSIENT:
        return _end(ErrorCode.PROCESS, error.reason, error.message, Trigger.MEDIA_FAULT)
    if isinstance(error, SourceChangedError):
        return _end(ErrorCode.PROCESS, error.reason, error.message, Trigger.MEDIA_FAULT)
    if isinstance(error, TaskStalledError):
        return _end(ErrorCode.TIMEOUT, "STALLED", "a worker made no progress", Trigger.GIVE_UP)
    if is_own_crash(error):
        return _end(
            ErrorCode.PROCESS,
            "WORKER_CRASHED",
            "this video made its workers fail three times",
            Trigger.MEDIA_FAULT,
        )
    return _end(
        ErrorCode.ABNORMAL,
        "RETRIES_USED_UP",
        "a cause outside the video outlasted all tries",
        Trigger.GIVE_UP,
    )


def broken() -> Verdict:
    """Return how a job ends whose driver breaks again and again."""
    return _end(
        ErrorCode.ABNORMAL, "RETRIES_USED_UP", "the service failed at it again and again", Trigger.GIVE_UP
    )


def _end(code: ErrorCode, reason: str, message: str, trigger: Trigger) -> Verdict:
    return Verdict(fault=Fault(error_code=code, reason=reason, message=message), trigger=trigger)
