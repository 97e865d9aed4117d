"""What each call may be refused for, whatever it is given: the contract's answers, and no others."""

from __future__ import annotations

_NO_SESSION = frozenset({"SESSION_CLOSED"})
_ON_A_VIDEO = _NO_SESSION | {"INVALID_VIDEO_ID"}
_OF_A_USER = frozenset({"MISSING_FIELD"})

#: by method: reasons of the catalogue; a reason has one gRPC status and one CamRetCode there
REFUSALS: dict[str, frozenset[str]] = {
    "CreateVideoProcessSession": _OF_A_USER | {"INVALID_FIELD", "REQUEST_ID_REUSED", "SESSION_LIMIT"},
    "CloseVideoProcessSession": _NO_SESSION,
    "GetCapabilities": _OF_A_USER,
    "GetPendingVideos": _NO_SESSION | {"INVALID_FIELD", "INVALID_PAGE_TOKEN"},
    "Prepare": _ON_A_VIDEO
    | {"BAD_FD_COUNT", "MISSING_FIELD", "METHOD_NOT_SUPPORTED", "NO_FILE", "SOURCE_IN_USE"}
    | {"UNKNOWN_UPLOAD", "UPLOAD_UNFINISHED", "UNKNOWN_FD_TOKEN"}
    | {"UNKNOWN_ROOT", "NO_SUCH_PATH", "PATH_OUTSIDE_ROOT"}
    | {"NOT_A_REGULAR_FILE", "EMPTY_FILE", "NOT_A_VIDEO", "TRUNCATED_FILE"}
    | {"MOVIES_DIFFER", "DURATIONS_DIFFER"},
    "CreateStreams": _NO_SESSION
    | {"INVALID_FIELD", "MISSING_FIELD", "ENCODE_TYPE_NOT_SUPPORTED", "METHOD_NOT_SUPPORTED", "STREAM_LIMIT"},
    "CommitStreams": _NO_SESSION
    | {"NO_STREAM_CREATED", "METADATA_MALFORMED", "INVALID_SETTING", "SETTING_NOT_SUPPORTED"}
    | {"MISSING_FIELD", "BAD_WATERMARK", "UNKNOWN_UPLOAD", "UNKNOWN_FD_TOKEN"},
    "ReleaseStreams": _NO_SESSION | {"MISSING_FIELD"},
    "ProcessVideo": _ON_A_VIDEO | {"INVALID_FIELD", "REQUEST_ID_REUSED"},
    "RemoveVideo": _ON_A_VIDEO,
    "Interrupt": _ON_A_VIDEO | {"INVALID_FIELD"},
    "Reset": _NO_SESSION,
    "Subscribe": _OF_A_USER | {"SEQUENCE_OUT_OF_RANGE"},
    "Upload": _OF_A_USER
    | {"INVALID_FIELD", "INVALID_VIDEO_ID", "VIDEO_EXISTS", "UPLOAD_NOT_FOUND", "UPLOAD_OFFSET"}
    | {"UPLOAD_FINISHED", "UPLOAD_TAKEN_OVER", "CHECKSUM_MISMATCH", "DIGEST_MISMATCH", "SIZE_MISMATCH"},
    "QueryUpload": _OF_A_USER | {"UPLOAD_NOT_FOUND"},
    "Download": _OF_A_USER | {"INVALID_FIELD", "ARTIFACT_NOT_FOUND", "DOWNLOAD_OFFSET"},
    "GetDownloadUrl": _OF_A_USER | {"METHOD_NOT_SUPPORTED"},
    "GetUploadUrls": _OF_A_USER | {"INVALID_FIELD", "METHOD_NOT_SUPPORTED"},
    "GetVideo": _OF_A_USER | {"UNKNOWN_VIDEO"},
    "ListVideos": _OF_A_USER | {"INVALID_FIELD", "INVALID_PAGE_TOKEN"},
    "RestoreVideo": _OF_A_USER | {"UNKNOWN_VIDEO"},
}

#: how accepted work on sound clips may end, besides OnProcessDone: the caller's slips, and what the caller asked for
ERRORS = frozenset(
    {"UNKNOWN_VIDEO_ID", "NOT_PREPARED", "NEEDS_PREPARE", "NO_COMMITTED_STREAMS", "STREAM_NOT_SUPPORTED"}
    | {"SIZE_NOT_SUPPORTED", "TIMESTAMP_BEYOND_END", "CROP_OUTSIDE_PICTURE", "FRAME_RATE_RAISE_NOT_SUPPORTED"}
    | {"ALREADY_RUNNING", "INTERRUPTED", "RESET", "REMOVED"}
)
