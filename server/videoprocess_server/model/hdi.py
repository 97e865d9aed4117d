"""OpenHarmony's camera HDI enums, with the HDI's numeric values (camera v1_0 to v1_5)."""

from __future__ import annotations

from enum import IntEnum


class CamRetCode(IntEnum):
    """What an HDI call returns."""

    NO_ERROR = 0
    CAMERA_BUSY = -1
    INSUFFICIENT_RESOURCES = -2
    INVALID_ARGUMENT = -3
    METHOD_NOT_SUPPORTED = -4
    CAMERA_CLOSED = -5
    DEVICE_ERROR = -6
    NO_PERMISSION = -7
    DEVICE_CONFLICT = -8


class MediaStreamType(IntEnum):
    """What a stream described by Prepare carries."""

    VIDEO = 0
    METADATA = 1
    MAKER = 2


class StreamIntent(IntEnum):
    """What a created stream is for."""

    PREVIEW = 0
    VIDEO = 1
    STILL_CAPTURE = 2
    POST_VIEW = 3
    ANALYZE = 4
    CUSTOM = 5


class EncodeType(IntEnum):
    """How a created stream is encoded; NULL keeps the source's codec."""

    NULL = 0
    H264 = 1
    H265 = 2
    JPEG = 3
    HEIC = 4
    DNG_XDRAW = 5


class SessionStatus(IntEnum):
    """What OnStatusChanged tells."""

    READY = 0
    READY_SPACE_LIMIT_REACHED = 1
    NOT_READY_TEMPORARILY = 2
    NOT_READY_OVERHEAT = 3
    NOT_READY_PREEMPTED = 4


class ErrorCode(IntEnum):
    """What OnError tells."""

    INVALID_ID = 0
    PROCESS = 1
    TIMEOUT = 2
    HIGH_TEMPERATURE = 3
    ABNORMAL = 4
    ABORT = 5


class ExecutionMode(IntEnum):
    """How hard a session may work the machine."""

    HIGH_PERFORMANCE = 0
    BALANCED = 1
    LOW_POWER = 2
    DEFAULT = 3


class OperationMode(IntEnum):
    """What kind of capture the video was."""

    NORMAL = 0
    CAPTURE = 1
    VIDEO = 2
    PORTRAIT = 3
    NIGHT = 4
    PROFESSIONAL = 5
    SLOW_MOTION = 6
    SCAN_CODE = 7
    CAPTURE_MACRO = 8
    VIDEO_MACRO = 9
    SUPER_STAB = 10
    PROFESSIONAL_PHOTO = 11
    PROFESSIONAL_VIDEO = 12
    HIGH_FRAME_RATE = 13
    HIGH_RESOLUTION_PHOTO = 14
    SECURE = 15
    QUICK_SHOT_PHOTO = 16
    LIGHT_PAINTING = 17
    PANORAMA_PHOTO = 18
    TIMELAPSE_PHOTO = 19
    APERTURE_VIDEO = 20
    FLUORESCENCE_PHOTO = 21
    SUN_BLOCK = 22
    STITCHING_PHOTO = 23
    CINEMATIC_VIDEO = 24


class VideoStabilisation(IntEnum):
    """How much a shaking camera is to be held still; the HDI spells it with a z."""

    OFF = 0
    LOW = 1
    MIDDLE = 2
    HIGH = 3
    AUTO = 4


class PixelFormat(IntEnum):
    """The display HDI's pixel formats that a stream may name."""

    UNSPECIFIED = 0
    RGBA_8888 = 12
    YCBCR_420_SP = 24
    YCRCB_420_SP = 25
    YCBCR_420_P = 28
    YCBCR_P010 = 35


class ExtendedStreamInfoType(IntEnum):
    """What an extended stream of a StreamInfoV11 carries."""

    QUICK_THUMBNAIL = 0
    SKETCH = 1
    RAW = 2
    DEPTH = 3
    META = 4
    SECURE = 5
    MAKER_INFO = 6
    EXIF = 7
    GAINMAP = 8
    UNREFOCUS = 9
    LINEAR = 10
    FRAGMENT = 11
    UV = 12
    PHOTO_STITCHING = 13
    PRE_Y = 14
    COMPOSITION = 15
    ENHANCED_GAINMAP = 19
