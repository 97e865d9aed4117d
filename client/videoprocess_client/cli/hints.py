"""What to type about an error, by its reason."""

from __future__ import annotations

from collections.abc import Mapping

HINTS: Mapping[str, str] = {
    "ALREADY_RUNNING": "Wait for it (videoprocess watch), or stop it first: videoprocess interrupt VIDEO_ID",
    "ARTIFACT_NOT_FOUND": "Results expire: videoprocess process VIDEO_ID makes them anew.",
    "BAD_CREDENTIALS": "Get a token that this server accepts: --token-file, or VIDEOPROCESS_TOKEN.",
    "BLOCKED_TOO_LONG": "Try again when the cause is gone: videoprocess process VIDEO_ID",
    "CREDENTIALS_EXPIRED": "Get a new token: --token-file, or VIDEOPROCESS_TOKEN.",
    "NEEDS_PREPARE": "Give its file again: videoprocess prepare VIDEO_ID FILE",
    "NO_CREDENTIALS": "Say who you are: --token-file, VIDEOPROCESS_TOKEN, or --cert and --key.",
    "NO_FILE": "Give one: videoprocess prepare VIDEO_ID FILE",
    "NOT_PREPARED": "Do that first: videoprocess prepare VIDEO_ID FILE",
    "OUTPUT_EXISTS": "Choose another name with --publish-as, or add --publish-over: nothing is encoded again.",
    "QUEUE_LIMIT": "Try again when accepted work has ended: videoprocess status",
    "RETRIES_USED_UP": "Try again: videoprocess process VIDEO_ID",
    "SEQUENCE_OUT_OF_RANGE": "Pass --after 0 for all events that are kept, or leave --after out for new ones.",
    "SESSION_CLOSED": "Leave --session out: a new one is opened then. Videos and accepted work are kept.",
    "SOURCE_CHANGED": "Give the file as it is now: videoprocess prepare VIDEO_ID FILE",
    "SOURCE_GONE": "Give the file again: videoprocess prepare VIDEO_ID FILE",
    "SOURCE_IN_USE": "Stop the work first: videoprocess interrupt VIDEO_ID. For the trash: videoprocess restore VIDEO_ID",
    "STALLED": "Try again: videoprocess process VIDEO_ID",
    "STORAGE_FULL": "Remove what is not needed: videoprocess status, then videoprocess remove VIDEO_ID",
    "UNKNOWN_ROOT": "See which roots there are: videoprocess capabilities",
    "UNKNOWN_UPLOAD": "Uploads expire: videoprocess upload FILE",
    "UNKNOWN_VIDEO": "See which videos there are: videoprocess status",
    "UNKNOWN_VIDEO_ID": "See which videos there are: videoprocess status. In the trash: videoprocess restore VIDEO_ID",
    "UPLOAD_FINISHED": "Leave --upload-id out.",
    "UPLOAD_TAKEN_OVER": "Another terminal sends this upload: leave it to that one.",
    "UPLOAD_UNFINISHED": "Finish it: videoprocess upload FILE --upload-id ID",
    "USER_NOT_ALLOWED": "Say whose videos you mean: --user N",
    "VIDEO_EXISTS": "Choose another --video-id, or: videoprocess prepare VIDEO_ID FILE",
}
