"""What a driver makes of a failed task. One table of causes: tries, back-off, and the job's end when they are used up."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from videoprocess_server.blobs.blob_store import BlobStoreFullError, BlobStoreUnavailableError
from videoprocess_server.blobs.shared_directory import RootUnavailableError
from videoprocess_server.engine.delivery_batch import DeliveryRefusedError
from videoprocess_server.engine.sources import SourceChangedError
from videoprocess_server.errors import CATALOGUE, SLIPS
from videoprocess_server.execution.executor import (
    CrashCause,
    TaskFailedError,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import Fault
from videoprocess_server.model.states import BlockReason, Trigger

#: signals that are a worker's own doing; SIGKILL and SIGTERM come from outside
OWN_SIGNALS = frozenset({-4, -6, -7, -8, -11, -24, -25, -31})  # ILL ABRT BUS FPE SEGV XCPU XFSZ SYS
LONGEST_BACKOFF_SECONDS = 30.0
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK_REFUSES = frozenset({errno.EACCES, errno.EROFS})


class Cause(Enum):
    """Why a try of a task failed."""

    #: a signal of its own doing, or an exit code
    CRASH = "crash"
    #: the kernel took the worker for its memory
    OUT_OF_MEMORY = "out_of_memory"
    #: the worker answered that something unforeseen went wrong
    UNFORESEEN = "unforeseen"
    #: SIGKILL or SIGTERM from outside
    FOREIGN_KILL = "foreign_kill"
    #: its heartbeat stopped
    SILENT = "silent"
    #: no progress for the stall time
    STALL = "stall"
    #: the disk is full
    DISK_FULL = "disk_full"
    #: the data directory or a shared root cannot be written to
    DISK_REFUSES = "disk_refuses"
    #: the store of the bytes does not answer, or refuses
    STORE_AWAY = "store_away"
    #: no worker process starts
    NO_WORKER = "no_worker"
    #: planning, or publishing into a shared root, found that the call asked for something impossible
    SLIP = "slip"
    #: the media cannot be produced
    MEDIA = "media"
    #: the source is not the prepared file any more
    SOURCE = "source"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What follows from a cause."""

    #: tries that may fail this way before the job ends; 0 for causes that pass: the job waits, however often
    max_tries: int
    #: of the end; "" where the failure's own reason is told
    reason: str = ""
    message: str = ""
    error_code: ErrorCode = ErrorCode.PROCESS
    trigger: Trigger = Trigger.MEDIA_FAULT
    #: counted in the segment's row, together with the others that are: contract §5, the third crash on one segment
    counts_as_crash: bool = False
    #: the next try has the machine for itself
    runs_alone: bool = False
    #: what the waiting job is blocked by
    blocked_by: BlockReason = BlockReason.RETRY_BACKOFF


_CRASHED = "this video made its workers fail three times"
_OUTLASTED = "a cause outside the video outlasted all tries"

POLICIES: Mapping[Cause, Policy] = {
    Cause.CRASH: Policy(max_tries=3, reason="WORKER_CRASHED", message=_CRASHED, counts_as_crash=True),
    Cause.OUT_OF_MEMORY: Policy(
        max_tries=3, reason="WORKER_CRASHED", message=_CRASHED, counts_as_crash=True, runs_alone=True
    ),
    Cause.UNFORESEEN: Policy(max_tries=3, reason="WORKER_CRASHED", message=_CRASHED, counts_as_crash=True),
    Cause.FOREIGN_KILL: Policy(
        max_tries=11,
        reason="RETRIES_USED_UP",
        message=_OUTLASTED,
        error_code=ErrorCode.ABNORMAL,
        trigger=Trigger.GIVE_UP,
    ),
    Cause.SILENT: Policy(
        max_tries=5,
        reason="RETRIES_USED_UP",
        message=_OUTLASTED,
        error_code=ErrorCode.ABNORMAL,
        trigger=Trigger.GIVE_UP,
    ),
    Cause.STALL: Policy(
        max_tries=1,
        reason="STALLED",
        message="a worker made no progress",
        error_code=ErrorCode.TIMEOUT,
        trigger=Trigger.GIVE_UP,
    ),
    Cause.DISK_FULL: Policy(max_tries=0, blocked_by=BlockReason.SPACE_LIMIT),
    Cause.DISK_REFUSES: Policy(max_tries=0, blocked_by=BlockReason.STORE_UNREACHABLE),
    Cause.STORE_AWAY: Policy(max_tries=0, blocked_by=BlockReason.STORE_UNREACHABLE),
    Cause.NO_WORKER: Policy(max_tries=0),
    Cause.SLIP: Policy(max_tries=1, trigger=Trigger.SLIP),
    Cause.MEDIA: Policy(max_tries=1),
    Cause.SOURCE: Policy(max_tries=1),
}

_CAUSE_OF_CRASH = {CrashCause.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY, CrashCause.SILENT: Cause.SILENT}
_CAUSE_OF_REASON = {
    "INTERNAL": Cause.UNFORESEEN,
    "STORAGE_FULL": Cause.DISK_FULL,
    "STORE_UNAVAILABLE": Cause.DISK_REFUSES,
    "NO_WORKER": Cause.NO_WORKER,
    **dict.fromkeys(SLIPS, Cause.SLIP),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a job ends."""

    fault: Fault
    trigger: Trigger


def cause_of(error: BaseException) -> Cause:
    """Return why a try failed.

    Raises:
        TypeError: it is no failure of a task, of the disk or of the source.
    """
    if isinstance(error, WorkerCrashedError):
        code = error.exit_code
        own = code is None or code > 0 or code in OWN_SIGNALS
        return _CAUSE_OF_CRASH.get(error.cause, Cause.CRASH if own else Cause.FOREIGN_KILL)
    if isinstance(error, TaskFailedError):
        unknown = Cause.MEDIA if error.reason in CATALOGUE else Cause.UNFORESEEN
        return _CAUSE_OF_REASON.get(error.reason, unknown)
    if isinstance(error, TaskStalledError):
        return Cause.STALL
    if isinstance(error, SourceChangedError):
        return Cause.SOURCE
    if isinstance(error, DeliveryRefusedError):
        return Cause.SLIP
    if isinstance(error, BlobStoreUnavailableError):
        return Cause.STORE_AWAY
    if isinstance(error, RootUnavailableError):
        return Cause.DISK_REFUSES
    if is_disk_full(error):
        return Cause.DISK_FULL
    if isinstance(error, OSError) and error.errno in _DISK_REFUSES:
        return Cause.DISK_REFUSES
    raise TypeError(f"{type(error).__name__} is no failure of a task") from error


def is_disk_full(error: BaseException) -> bool:
    """Return whether the service itself found no space left."""
    return isinstance(error, BlobStoreFullError) or (isinstance(error, OSError) and error.errno in _DISK_FULL)


def tries_so_far(tries: Mapping[Cause, int], cause: Cause) -> int:
    """Return how many of the tries count for this cause: all that count as crashes count together."""
    if not POLICIES[cause].counts_as_crash:
        return tries.get(cause, 0)
    return sum(count for other, count in tries.items() if POLICIES[other].counts_as_crash)


def backoff_seconds(first_seconds: float, tries: int) -> float:
    """Return how long to wait after so many failed tries: four times as long each."""
    return min(first_seconds * 4.0 ** max(0, min(tries, 10) - 1), LONGEST_BACKOFF_SECONDS)


def verdict(error: BaseException) -> Verdict:
    """Return how a job ends whose task failed for good."""
    policy = POLICIES[cause_of(error)]
    reason, message = policy.reason, policy.message
    if isinstance(error, TaskFailedError | SourceChangedError | DeliveryRefusedError) and not reason:
        reason, message = error.reason, error.message
    return Verdict(
        fault=Fault(error_code=policy.error_code, reason=reason, message=message), trigger=policy.trigger
    )


def broken() -> Verdict:
    """Return how a job ends whose driver breaks again and again."""
    fault = Fault(
        error_code=ErrorCode.ABNORMAL,
        reason="RETRIES_USED_UP",
        message="the service failed at it again and again",
    )
    return Verdict(fault=fault, trigger=Trigger.GIVE_UP)


class Tries:
    """The failed tries of one task.

    Args:
        crashes: that its row tells already.
    """

    def __init__(self, crashes: int = 0) -> None:
        self._counts: Counter[Cause] = Counter({Cause.CRASH: crashes})

    def failed(self, error: BaseException) -> int:
        """Count a failure and return how many count for its cause.

        Raises:
            BaseException: `error`, where no try is left.
        """
        cause = cause_of(error)
        self._counts[cause] += 1
        tries = tries_so_far(self._counts, cause)
        if tries >= POLICIES[cause].max_tries:
            raise error
        return tries
