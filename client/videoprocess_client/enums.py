"""The HDI's numbers that callers of this library pass or compare. Same names and values as in the protos."""

from __future__ import annotations

from enum import IntEnum


class CamRetCode(IntEnum):
    """What an HDI method returns; every error of this library carries one as `.cam_ret_code`."""

    NO_ERROR = 0
    CAMERA_BUSY = -1
    INSUFFICIENT_RESOURCES = -2
    INVALID_ARGUMENT = -3
    METHOD_NOT_SUPPORTED = -4
    CAMERA_CLOSED = -5
    DEVICE_ERROR = -6
    NO_PERMISSION = -7
    DEVICE_CONFLICT = -8


class ErrorCode(IntEnum):
    """Why OnError ended a job."""

    INVALID_ID = 0
    PROCESS = 1
    TIMEOUT = 2
    HIGH_TEMPERATURE = 3
    ABNORMAL = 4
    ABORT = 5


class SessionStatus(IntEnum):
    """Whether a user's accepted work can run now. None of these ends a job."""

    READY = 0
    READY_SPACE_LIMIT_REACHED = 1
    NOT_READY_TEMPORARILY = 2
    NOT_READY_OVERHEAT = 3
    NOT_READY_PREEMPTED = 4


class ExecutionMode(IntEnum):
    """How hard the machine is driven for a session's jobs; no byte of a result depends on it."""

    HIGH_PERFORMANCE = 0
    BALANCED = 1
    LOW_POWER = 2
    DEFAULT = 3


class StreamIntent(IntEnum):
    """What a stream of a session is for, and so what a job makes for it."""

    PREVIEW = 0
    VIDEO = 1
    STILL_CAPTURE = 2
    POST_VIEW = 3
    ANALYZE = 4
    CUSTOM = 5


class EncodeType(IntEnum):
    """How a stream's output is encoded. NULL is the usual form: the source's codec for VIDEO."""

    NULL = 0
    H264 = 1
    H265 = 2
    JPEG = 3
    HEIC = 4
    DNG_XDRAW = 5


class Priority(IntEnum):
    """How urgent a job is. UNSPECIFIED: NORMAL for a new job, unchanged for one that is joined."""

    UNSPECIFIED = 0
    NORMAL = 1
    HIGH = 2
