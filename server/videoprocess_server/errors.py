"""The catalogue of everything that can go wrong for a caller. `docs/errors.md` is made from this file.

    VideoProcessError            raised by the engine, answered as a gRPC status by one interceptor
    Fault (model.records)        the reason of an OnError, of the same catalogue

A reason never changes its meaning. What is not in the catalogue is a mistake of ours: INTERNAL, without internals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from videoprocess_server.model.hdi import CamRetCode


class Status(Enum):
    """The gRPC status a reason is answered with; values are gRPC's names."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    NOT_FOUND = "NOT_FOUND"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    DATA_LOSS = "DATA_LOSS"
    UNAVAILABLE = "UNAVAILABLE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    ABORTED = "ABORTED"


@dataclass(frozen=True)
class Reason:
    """One row of the catalogue."""

    cam_ret_code: CamRetCode
    status: Status
    #: whether the same call may succeed later without being changed
    retryable: bool
    #: what the caller can do
    remedy: str


_BAD = CamRetCode.INVALID_ARGUMENT
_UNSUPPORTED = CamRetCode.METHOD_NOT_SUPPORTED
_INVALID = Status.INVALID_ARGUMENT

CATALOGUE: Mapping[str, Reason] = {
    # arguments
    "INVALID_FIELD": Reason(_BAD, _INVALID, False, "Correct the field that the violations name."),
    "MISSING_FIELD": Reason(_BAD, _INVALID, False, "Set the field that the violations name."),
    "INVALID_VIDEO_ID": Reason(_BAD, _INVALID, False, "Use 1 to 256 bytes of UTF-8."),
    "INVALID_PAGE_TOKEN": Reason(
        _BAD, _INVALID, False, "Pass the token of the page before, with the same filters."
    ),
    "REQUEST_ID_REUSED": Reason(_BAD, _INVALID, False, "Draw a new request_id for other arguments."),
    "METADATA_MALFORMED": Reason(
        _BAD, _INVALID, False, "Send metadata as OpenHarmony serialises it, or the typed form."
    ),
    "METADATA_TOO_LARGE": Reason(_BAD, _INVALID, False, "Send at most 256 KiB of metadata."),
    "INVALID_SETTING": Reason(_BAD, _INVALID, False, "Correct the setting that the violations name."),
    # order of calls
    "NO_STREAM_CREATED": Reason(
        _BAD, Status.FAILED_PRECONDITION, False, "Call CreateStreams before CommitStreams."
    ),
    "SESSION_CLOSED": Reason(
        CamRetCode.CAMERA_CLOSED,
        Status.FAILED_PRECONDITION,
        False,
        "Open a new session; videos and accepted work stay.",
    ),
    # what Prepare refuses
    "BAD_FD_COUNT": Reason(_BAD, _INVALID, False, "Give no file, one, or three."),
    "NO_FILE": Reason(_BAD, _INVALID, False, "Give a file: the video id has none yet."),
    "UNKNOWN_UPLOAD": Reason(_BAD, _INVALID, False, "Name a finished upload of the same user."),
    "UPLOAD_UNFINISHED": Reason(_BAD, _INVALID, False, "Finish the upload first."),
    "UNKNOWN_FD_TOKEN": Reason(
        _BAD, _INVALID, False, "Pass the descriptor again: a token is for one use within 60 s."
    ),
    "FD_TOKENS_UNAVAILABLE": Reason(
        _UNSUPPORTED, Status.UNIMPLEMENTED, False, "Upload the file, or name a shared path."
    ),
    "FD_TOKEN_LIMIT": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES,
        Status.RESOURCE_EXHAUSTED,
        True,
        "Use the tokens that you have; unused ones end after 60 s.",
    ),
    "FD_SOCKET_BUSY": Reason(
        CamRetCode.CAMERA_BUSY, Status.UNAVAILABLE, True, "Too many pass files; connect again."
    ),
    "PEER_NOT_ALLOWED": Reason(
        CamRetCode.NO_PERMISSION,
        Status.PERMISSION_DENIED,
        False,
        "Run as the service's user, or have yours named by --fd-users.",
    ),
    "MOVIES_DIFFER": Reason(_BAD, _INVALID, False, "Give the movie twice, then the input."),
    "DURATIONS_DIFFER": Reason(_BAD, _INVALID, False, "Give three files of the same recording."),
    "UNKNOWN_ROOT": Reason(_BAD, _INVALID, False, "Name a shared root of GetCapabilities."),
    "NO_SUCH_PATH": Reason(_BAD, _INVALID, False, "Check the path below the root."),
    "PATH_OUTSIDE_ROOT": Reason(_BAD, _INVALID, False, "Use a relative path without a way out of the root."),
    "NOT_A_REGULAR_FILE": Reason(_BAD, _INVALID, False, "Name a regular file."),
    "FILE_UNREADABLE": Reason(_BAD, _INVALID, False, "Let the service's user read the file."),
    "DIRECTORY_NOT_WRITABLE": Reason(
        _BAD, _INVALID, False, "Name a folder of a writable root, and let the service's user write to it."
    ),
    "EMPTY_FILE": Reason(_BAD, _INVALID, False, "Send the whole file: this one has 0 bytes."),
    "NOT_A_VIDEO": Reason(_BAD, _INVALID, False, "Send a whole MP4, MOV, 3GP, MKV or WebM file."),
    "NO_VIDEO_TRACK": Reason(_BAD, _INVALID, False, "Send a file with a video track."),
    "NO_DECODABLE_FRAME": Reason(_BAD, _INVALID, False, "Send the whole file: no frame of this one decodes."),
    "TRUNCATED_FILE": Reason(_BAD, _INVALID, False, "Send the whole file: this one was cut off."),
    "UNSUPPORTED_CODEC": Reason(
        _BAD, _INVALID, False, "See GetCapabilities for the codecs that decode here."
    ),
    "OVER_LIMITS": Reason(_BAD, _INVALID, False, "See GetCapabilities for the limits."),
    "PROBE_FAILED": Reason(
        _BAD, _INVALID, False, "The file makes the prober fail; check that it plays elsewhere."
    ),
    "SOURCE_IN_USE": Reason(
        CamRetCode.DEVICE_CONFLICT,
        Status.ABORTED,
        True,
        "Interrupt the video's work, or wait for it, before another source.",
    ),
    "VIDEO_EXISTS": Reason(
        CamRetCode.DEVICE_CONFLICT,
        Status.ABORTED,
        False,
        "Upload under another video_id, or without one and call Prepare.",
    ),
    # streams and settings
    "ENCODE_TYPE_NOT_SUPPORTED": Reason(
        _UNSUPPORTED, Status.UNIMPLEMENTED, False, "Use an encode type the intent can have."
    ),
    "SETTING_NOT_SUPPORTED": Reason(
        _UNSUPPORTED, Status.UNIMPLEMENTED, False, "See GetCapabilities for the settings."
    ),
    "METHOD_NOT_SUPPORTED": Reason(
        _UNSUPPORTED, Status.UNIMPLEMENTED, False, "This version does not do that."
    ),
    "BAD_WATERMARK": Reason(
        _BAD, _INVALID, False, "Give a PNG, JPEG or WebP picture of at most 512 KiB and 16 megapixels."
    ),
    # transfers
    "UNKNOWN_VIDEO": Reason(_BAD, Status.NOT_FOUND, False, "Check the video id; it may have been removed."),
    "UPLOAD_NOT_FOUND": Reason(_BAD, Status.NOT_FOUND, False, "Start a new upload."),
    "ARTIFACT_NOT_FOUND": Reason(
        _BAD, Status.NOT_FOUND, False, "Take an artifact_id of GetVideo; old results expire."
    ),
    "UPLOAD_OFFSET": Reason(
        _BAD, Status.OUT_OF_RANGE, True, "Go on at the committed size that QueryUpload tells."
    ),
    "UPLOAD_FINISHED": Reason(
        _BAD, Status.FAILED_PRECONDITION, False, "A finished upload never changes; start a new one."
    ),
    "UPLOAD_TAKEN_OVER": Reason(
        CamRetCode.DEVICE_CONFLICT,
        Status.ABORTED,
        True,
        "Another stream went on with this upload; this one ends.",
    ),
    "DOWNLOAD_OFFSET": Reason(_BAD, Status.OUT_OF_RANGE, False, "Use an offset within the artifact."),
    "CHECKSUM_MISMATCH": Reason(
        _BAD, Status.DATA_LOSS, True, "Send the message again from the committed size."
    ),
    "DIGEST_MISMATCH": Reason(
        _BAD, Status.DATA_LOSS, False, "The whole is not what its SHA-256 says; upload it anew."
    ),
    "SIZE_MISMATCH": Reason(
        _BAD, Status.DATA_LOSS, True, "The size is not what was declared; send what is missing."
    ),
    "TRANSFER_TOO_SLOW": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES,
        Status.RESOURCE_EXHAUSTED,
        True,
        "Go on in a new stream from what is committed, with smaller messages.",
    ),
    "SEQUENCE_OUT_OF_RANGE": Reason(
        _BAD, Status.OUT_OF_RANGE, False, "Subscribe from a sequence that is kept."
    ),
    # resources
    "SESSION_LIMIT": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES, Status.RESOURCE_EXHAUSTED, True, "Close a session."
    ),
    "STREAM_LIMIT": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES, Status.RESOURCE_EXHAUSTED, False, "Use at most 16 streams."
    ),
    "QUEUE_LIMIT": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES, Status.RESOURCE_EXHAUSTED, True, "Wait for accepted work."
    ),
    "STORAGE_FULL": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES, Status.RESOURCE_EXHAUSTED, True, "Free disk space."
    ),
    "QUOTA_EXCEEDED": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES,
        Status.RESOURCE_EXHAUSTED,
        True,
        "Remove videos for good, or wait for results to expire.",
    ),
    "SUBSCRIBER_LIMIT": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES, Status.RESOURCE_EXHAUSTED, True, "Close a subscription."
    ),
    "RATE_LIMITED": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES,
        Status.RESOURCE_EXHAUSTED,
        True,
        "Call again after the delay that the answer names.",
    ),
    "HEADERS_TOO_LARGE": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES,
        Status.RESOURCE_EXHAUSTED,
        False,
        "Send at most 16 KiB of headers with a call.",
    ),
    "CALL_LIMIT": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES,
        Status.RESOURCE_EXHAUSTED,
        True,
        "Too many calls run at once: end one, or call again after the delay that the answer names.",
    ),
    "SUBSCRIBER_TOO_SLOW": Reason(
        CamRetCode.INSUFFICIENT_RESOURCES,
        Status.RESOURCE_EXHAUSTED,
        True,
        "Subscribe again after the last number you saw.",
    ),
    "DRAINING": Reason(
        CamRetCode.CAMERA_BUSY, Status.UNAVAILABLE, True, "The service is stopping; try its successor."
    ),
    "STORE_UNAVAILABLE": Reason(
        CamRetCode.CAMERA_BUSY, Status.UNAVAILABLE, True, "Nothing happened; try again."
    ),
    "PROBE_BUSY": Reason(
        CamRetCode.CAMERA_BUSY, Status.UNAVAILABLE, True, "Too many files are being probed; try again."
    ),
    "CALL_TIMEOUT": Reason(
        CamRetCode.CAMERA_BUSY,
        Status.UNAVAILABLE,
        True,
        "It took too long, and may have taken effect: call again, with the same request_id where there is one.",
    ),
    # who may
    "USER_NOT_ALLOWED": Reason(
        CamRetCode.NO_PERMISSION, Status.PERMISSION_DENIED, False, "Use a user_id you may act for."
    ),
    "NO_CREDENTIALS": Reason(CamRetCode.NO_PERMISSION, Status.UNAUTHENTICATED, False, "Send credentials."),
    "BAD_CREDENTIALS": Reason(
        CamRetCode.NO_PERMISSION, Status.UNAUTHENTICATED, False, "Send a token that this service accepts."
    ),
    "CREDENTIALS_EXPIRED": Reason(
        CamRetCode.NO_PERMISSION, Status.UNAUTHENTICATED, False, "Get a new token, and call again with it."
    ),
    # ours
    "INTERNAL": Reason(
        CamRetCode.DEVICE_ERROR, Status.INTERNAL, True, "Report it with its incident; the log tells more."
    ),
    # reasons of OnError only
    "UNKNOWN_VIDEO_ID": Reason(_BAD, Status.NOT_FOUND, False, "Prepare the video first."),
    "NOT_PREPARED": Reason(_BAD, Status.FAILED_PRECONDITION, False, "Call Prepare first."),
    "NEEDS_PREPARE": Reason(
        _BAD, Status.FAILED_PRECONDITION, False, "The video ended in ERROR: call Prepare again."
    ),
    "NO_COMMITTED_STREAMS": Reason(
        _BAD, Status.FAILED_PRECONDITION, False, "Call CreateStreams and CommitStreams in this session first."
    ),
    "STREAM_NOT_SUPPORTED": Reason(
        _UNSUPPORTED, Status.UNIMPLEMENTED, False, "Create streams that GetCapabilities allows."
    ),
    "TIMESTAMP_BEYOND_END": Reason(
        _BAD, Status.OUT_OF_RANGE, False, "Use a time stamp before the last frame's end."
    ),
    "ALREADY_RUNNING": Reason(
        CamRetCode.DEVICE_CONFLICT,
        Status.ABORTED,
        True,
        "The video is processed with other settings; wait or Interrupt.",
    ),
    "FRAME_RATE_RAISE_NOT_SUPPORTED": Reason(
        _UNSUPPORTED,
        Status.UNIMPLEMENTED,
        False,
        "Ask for at most eight times the source's rate and 240 frames per second; pixels must be planes of 8 to 16 bits.",
    ),
    "CROP_OUTSIDE_PICTURE": Reason(_BAD, _INVALID, False, "Keep the zoom crop region inside the picture."),
    "OUTPUT_EXISTS": Reason(
        CamRetCode.DEVICE_CONFLICT,
        Status.ABORTED,
        False,
        "Choose another name, or ask for the file to be replaced.",
    ),
    "BLOCKED_TOO_LONG": Reason(
        CamRetCode.DEVICE_ERROR, Status.UNAVAILABLE, True, "Call ProcessVideo when the cause is gone."
    ),
    "SIZE_NOT_SUPPORTED": Reason(
        _UNSUPPORTED, Status.UNIMPLEMENTED, False, "Ask for a size the encoder can make."
    ),
    "NO_WORKER": Reason(
        CamRetCode.CAMERA_BUSY,
        Status.UNAVAILABLE,
        True,
        "No worker process starts; the service's log tells why.",
    ),
    "INTERRUPTED": Reason(CamRetCode.NO_ERROR, Status.ABORTED, True, "Call ProcessVideo to go on."),
    "RESET": Reason(CamRetCode.NO_ERROR, Status.ABORTED, True, "Call ProcessVideo to start anew."),
    "REMOVED": Reason(CamRetCode.NO_ERROR, Status.ABORTED, False, "The video was removed."),
    "SOURCE_CHANGED": Reason(
        _BAD, Status.FAILED_PRECONDITION, False, "The file changed while it was read; Prepare it again."
    ),
    "SOURCE_GONE": Reason(_BAD, Status.NOT_FOUND, False, "The file is gone; Prepare the video again."),
    "DECODE_FAILED": Reason(
        _BAD, Status.DATA_LOSS, False, "Frames of the source do not decode; check the file."
    ),
    "ENCODE_FAILED": Reason(
        CamRetCode.DEVICE_ERROR, Status.INTERNAL, False, "The encoder refused; report it with the file."
    ),
    "JOIN_FAILED": Reason(
        CamRetCode.DEVICE_ERROR, Status.INTERNAL, False, "The result could not be written; report it."
    ),
    "VERIFY_FAILED": Reason(
        CamRetCode.DEVICE_ERROR,
        Status.INTERNAL,
        False,
        "The result was not what was planned and was thrown away.",
    ),
    "WORKER_CRASHED": Reason(
        CamRetCode.DEVICE_ERROR, Status.INTERNAL, False, "The media made three workers crash; check the file."
    ),
    "STALLED": Reason(
        CamRetCode.DEVICE_ERROR, Status.UNAVAILABLE, True, "No progress; call ProcessVideo to try again."
    ),
    "RETRIES_USED_UP": Reason(
        CamRetCode.DEVICE_ERROR, Status.UNAVAILABLE, True, "Call ProcessVideo to try again."
    ),
}

#: what planning may find to be the caller's slip: ends the job, leaves the video as it was
SLIPS = frozenset(
    {
        "STREAM_NOT_SUPPORTED",
        "TIMESTAMP_BEYOND_END",
        "FRAME_RATE_RAISE_NOT_SUPPORTED",
        "CROP_OUTSIDE_PICTURE",
        "SIZE_NOT_SUPPORTED",
        "BAD_WATERMARK",
    }
)


@dataclass
class VideoProcessError(Exception):
    """An answer a caller is meant to get."""

    reason: str
    message: str
    #: field → what is wrong with it; becomes BadRequest
    violations: Mapping[str, str] = field(default_factory=dict)
    #: more for ErrorInfo.metadata, e.g. {"committed_size": "1048576"}
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: seconds after which a retry makes sense; becomes RetryInfo
    retry_after_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.reason not in CATALOGUE:
            raise ValueError(f"{self.reason} is not in the catalogue")
        super().__init__(f"{self.reason}: {self.message}")

    @property
    def row(self) -> Reason:
        """The catalogue's row."""
        return CATALOGUE[self.reason]
