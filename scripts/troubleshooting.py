"""What to do about each reason: the catalogue's rows joined with advice written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from videoprocess_server.errors import CATALOGUE

#: what a caller was doing → reason → why it usually happens and where to look
ADVICE: Final[Mapping[str, Mapping[str, str]]] = {
    "Any call": {
        "INVALID_FIELD": "The status's `BadRequest` names the field and what is wrong with it; grpcurl shows it.",
        "MISSING_FIELD": "Fields whose zero means something are `optional`: set them even where they are 0, "
        "`user_id` above all.",
        "INVALID_VIDEO_ID": "The id counts in bytes of UTF-8, not in characters. Use a digest where names are longer.",
        "INVALID_PAGE_TOKEN": "A token holds for one list, one user and one set of filters. Begin with the first page.",
        "REQUEST_ID_REUSED": "A retry must send the same arguments as the first try. A new wish needs a new UUID.",
        "SESSION_CLOSED": "Sessions close after `--session-idle-seconds` without calls, subscribers or work. "
        "CreateVideoProcessSession, then CreateStreams and CommitStreams again; videos, jobs and events are still there.",
        "RATE_LIMITED": "Behind a proxy all callers have one address: see `--max-calls-per-second-per-peer`. A loop that "
        "polls GetVideo should Subscribe instead.",
        "CALL_LIMIT": "Streams that nobody reads or ends any more count too: end Subscribe, Upload and Download. "
        "The table in [operations](operations.md#limits-of-clients) has the numbers.",
        "HEADERS_TOO_LARGE": "Usually a token or a cookie of a proxy that grew. Headers are at most 16 KiB together.",
        "CALL_TIMEOUT": "The machine or its disk is overloaded, or the caller sent no first message within 30 s. "
        "Look at the load, at `iowait`, and at the log around that time.",
        "DRAINING": "The service got SIGTERM. The client library waits for the next start by itself; others reconnect.",
        "STORE_UNAVAILABLE": "The database does not answer: the disk is full, slow or gone, or another program holds "
        "`videoprocess.sqlite3`; or [PostgreSQL](postgresql.md) is away. `df`, `dmesg` and the log line `store_unavailable` tell. Accepted work waits and goes on by itself.",
        "INTERNAL": "A fault of ours. The answer has an `incident`; the log has a line `rpc_broke` with the same one. "
        "Report both.",
        "METHOD_NOT_SUPPORTED": "A field asks for what this version does not do. GetCapabilities tells what it does.",
    },
    "Who may": {
        "NO_CREDENTIALS": "The service asks for a token or a certificate: `--token-file` or `--cert` of the command, "
        "`authorization: Bearer TOKEN` of others ([who gets in](access.md)).",
        "BAD_CREDENTIALS": "The token's SHA-256 is not in the service's token file, or the JSON web token is of another "
        "issuer, audience or key. `access_files_not_used` in the log: a new file has a mistake, the old one is in force.",
        "CREDENTIALS_EXPIRED": "Renew the token or the certificate. If it is new, a clock is wrong by more than 30 s.",
        "USER_NOT_ALLOWED": "The identity in the token file, or the claim of the web token, does not list this user. "
        "Without credentials, callers from other machines may act for nobody.",
        "PEER_NOT_ALLOWED": "`--fd-users` names system users by name or number; in a container the numbers count.",
    },
    "Sending and fetching files": {
        "UPLOAD_NOT_FOUND": "It expired (`--keep-unfinished-uploads-seconds`, `--keep-unused-uploads-seconds`), or is of "
        "another user.",
        "UPLOAD_OFFSET": "The error's metadata has `committed_size`: go on there. What came later was not kept.",
        "UPLOAD_FINISHED": "A retry after the answer was lost is fine: QueryUpload tells that it is finished.",
        "UPLOAD_TAKEN_OVER": "Two programs send one upload. If nobody else does, an earlier connection of yours lived on; "
        "the newest one wins.",
        "CHECKSUM_MISMATCH": "Bytes changed on their way or in the sender's memory. Once may be chance; often is a fault of "
        "memory or of the CRC32C code (Castagnoli, not zlib's CRC-32): of `123456789` it is 0xe3069283.",
        "DIGEST_MISMATCH": "The file changed while it was sent, or a piece went to the wrong place. The bytes are thrown "
        "away.",
        "SIZE_MISMATCH": "The file grew or shrank while it was sent, or the end came too early.",
        "TRANSFER_TOO_SLOW": "No whole message came within `--transfer-stall-seconds`. Send smaller ones over slow lines.",
        "DOWNLOAD_OFFSET": "The offset lies behind the end: the local part is of another artifact. Start at 0.",
        "ARTIFACT_NOT_FOUND": "Results live for `--keep-results-seconds`, then ProcessVideo makes them anew with the same "
        "bytes. Artifact ids of an earlier job do not come back.",
        "VIDEO_EXISTS": "An upload with a video_id makes a new video only. For another file under an id: upload without it, "
        "then Prepare.",
        "STORAGE_FULL": "The data directory's disk is down to `--disk-reserve-bytes`, or has less than was announced. "
        "`df`; delete, or move the data directory ([backup](backup-and-upgrade.md)).",
        "QUOTA_EXCEEDED": "`--user-quota-bytes` counts the trash, results and unfinished uploads too. RemoveVideo without "
        "`restorable` frees at once.",
    },
    "Events": {
        "SEQUENCE_OUT_OF_RANGE": "Events are kept for `--keep-events-seconds`; the error names the numbers that are there. "
        "A number beyond the newest is of another service or user: has the data directory been restored?",
        "SUBSCRIBER_LIMIT": "256 streams of one user: one program opens them and does not end them.",
        "SUBSCRIBER_TOO_SLOW": "The reader did not keep up, often because it works between two events: read in one task, "
        "work in another. Nothing is lost.",
    },
    "Prepare": {
        "BAD_FD_COUNT": "Three files are the movie, the movie again, and the input with sound and metadata.",
        "NO_FILE": "Prepare without files needs an id that was prepared, or uploaded with that video_id.",
        "UNKNOWN_UPLOAD": "The upload is of another user, has expired, or was never begun.",
        "UPLOAD_UNFINISHED": "The last message, with size and SHA-256, has not come. QueryUpload tells how far it is.",
        "UNKNOWN_FD_TOKEN": "Tokens are for one use, by the user who passed the file, within 60 s, and do not live through "
        "a restart.",
        "FD_TOKENS_UNAVAILABLE": "`--fd-socket off`, or the socket could not be made: see the log at the start.",
        "FD_TOKEN_LIMIT": "A program passes files and never calls Prepare.",
        "FD_SOCKET_BUSY": "Too many programs are connected to the socket at once; the client library comes back.",
        "MOVIES_DIFFER": "The first two of three must be the same upload, path or bytes.",
        "DURATIONS_DIFFER": "They may differ by one frame. Usually files of two recordings were mixed up.",
        "UNKNOWN_ROOT": "Roots are named at the start (`--shared-root`), some for certain users only. "
        "`videoprocess capabilities` lists yours.",
        "NO_SUCH_PATH": "The path is relative to the root, as the service sees it: in a container the mount decides.",
        "PATH_OUTSIDE_ROOT": "`..`, a leading `/`, or a link that leads out. Links inside the root are fine.",
        "NOT_A_REGULAR_FILE": "A directory, a device, a pipe or a socket.",
        "FILE_UNREADABLE": "Run `ls -l` as the service's system user; every folder above needs `x`.",
        "EMPTY_FILE": "The recorder had not written it yet, or the copy failed.",
        "NOT_A_VIDEO": "Look with `ffprobe`. Streams such as MPEG-TS, AVI and playlists are not taken on purpose.",
        "NO_VIDEO_TRACK": "Sound alone, or pictures that are cover art.",
        "NO_DECODABLE_FRAME": "The header is there and the media is not: cut off at the start, encrypted, or damaged.",
        "TRUNCATED_FILE": "Often a recording that was not ended: its `moov` box is missing or points behind the end. "
        "Copy it again.",
        "UNSUPPORTED_CODEC": "GetCapabilities lists `decoders`. Encrypted (DRM) tracks have no decoder either.",
        "OVER_LIMITS": "`--max-pixels`, `--max-duration-seconds`, `--max-tracks`, `--max-packets`, `--max-index-bytes` …: "
        "the message names which.",
        "PROBE_FAILED": "The reader crashed or took too long: the file is damaged or made to do so. The service itself is "
        "not touched. Keep the file for a report.",
        "PROBE_BUSY": "Files are read one at a time; many Prepares at once wait. Retry after the delay in RetryInfo.",
        "SOURCE_IN_USE": "Interrupt the video and wait for its event, or restore it from the trash, before another file.",
        "UNKNOWN_VIDEO": "Removed, in the trash (`status --trash`), or of another user.",
    },
    "Streams and settings": {
        "NO_STREAM_CREATED": "The order is CreateStreams, CommitStreams, ProcessVideo; Reset takes streams away.",
        "STREAM_LIMIT": "Streams stay until ReleaseStreams: callers release them after each terminal event.",
        "ENCODE_TYPE_NOT_SUPPORTED": "Videos are H264 or H265, stills JPEG; NULL chooses ([streams](streams.md)).",
        "STREAM_NOT_SUPPORTED": "HEIC and DNG cannot be made here; a pixel format or dataspace may ask for a conversion that "
        "is not done. The message tells which stream.",
        "SETTING_NOT_SUPPORTED": "Stabilisation needs the extra where the service runs: `.venv/bin/pip install -e '.[stabilise]'`, or an image "
        "built with `STABILISE=1`. Else see "
        "`settings` of GetCapabilities.",
        "INVALID_SETTING": "Out of range, or a known tag with another type or count ([settings](settings.md)).",
        "METADATA_MALFORMED": "Compare with the example in [settings](settings.md#the-serialised-form): little-endian, not "
        "padded.",
        "METADATA_TOO_LARGE": "Leave vendor tags out: those that are not used here are ignored anyway.",
        "BAD_WATERMARK": "No PNG, JPEG or WebP, too large, or it would lie outside of the picture.",
        "DIRECTORY_NOT_WRITABLE": "The root lacks `rw`, or the service's system user may not write to the folder "
        "([shared roots](shared-roots.md)).",
        "CROP_OUTSIDE_PICTURE": "The region counts in pixels of the coded picture, before it is rotated for display.",
        "SIZE_NOT_SUPPORTED": "Encoders have smallest and largest sides; sides of videos are even.",
        "FRAME_RATE_RAISE_NOT_SUPPORTED": "At most eight times the source's rate, and 240 frames per second.",
    },
    "ProcessVideo": {
        "UNKNOWN_VIDEO_ID": "Another user's, misspelt, removed, or in the trash.",
        "NOT_PREPARED": "An upload alone prepares nothing unless its header names the video_id.",
        "NEEDS_PREPARE": "It failed because of its source: `last_error` of GetVideo tells. Send a better file, or the same "
        "again.",
        "NO_COMMITTED_STREAMS": "Streams belong to the session: another session's do not count, and Reset takes them away.",
        "TIMESTAMP_BEYOND_END": "Microseconds from the first frame, not milliseconds, not wall time.",
        "ALREADY_RUNNING": "The same settings would join the running job. Interrupt first to change them.",
        "QUEUE_LIMIT": "`--max-queued-jobs`. Nothing is lost; call again when a job has ended.",
        "SESSION_LIMIT": "A program opens sessions and does not close them; they end after `--session-idle-seconds`.",
        "OUTPUT_EXISTS": "A file of that name is in the shared root already: another name, or `--publish-over`.",
    },
    "How jobs end (`OnError`)": {
        "INTERRUPTED": "Somebody called Interrupt: you, or another session of the user. All that is done is kept.",
        "RESET": "The session was reset; its checkpoints are gone.",
        "REMOVED": "RemoveVideo came while it ran.",
        "BLOCKED_TOO_LONG": "A gate was closed for `--max-blocked-seconds`: `blocked_by` of the job told which "
        "([gates](operations.md#gates)).",
        "SOURCE_CHANGED": "Somebody writes to the file in the shared root. Copy it elsewhere, or upload it.",
        "SOURCE_GONE": "The file in the shared root was moved or deleted.",
        "DECODE_FAILED": "Damaged in the middle, or cut off. With the setting `damage` CONCEAL frames that do not decode are concealed and "
        "named.",
        "ENCODE_FAILED": "Report it with the file and the log: encoders take whatever was planned for them.",
        "JOIN_FAILED": "The message names the box or track. Report it with the file: the pictures were made.",
        "VERIFY_FAILED": "The last check found a result that is not its source but for the picture, and nothing was "
        "published. Report it with the file; if other videos fail too, test the machine's memory.",
        "WORKER_CRASHED": "FFmpeg dies of this file, three times at the same place. `worker_crashed` in the log has the signal. "
        "Out of memory: see `--memory-budget-bytes`, and the kernel's log.",
        "STALLED": "No frame for `--stall-seconds`: an overloaded machine, or a disk that hangs.",
        "NO_WORKER": "Workers cannot start: no memory, no processes (`ulimit -u`), or the installation changed under a "
        "running service. Restart it after an upgrade.",
        "RETRIES_USED_UP": "Several tries failed for reasons outside of the file: [causes](causes.md). The log tells each.",
    },
}  # fmt: skip

_INTRODUCTION = """\
Every error carries a `reason`: in `google.rpc.ErrorInfo` of a call, in `OnError`, in `last_error` of GetVideo, as `reason` of
the command's `--json`. Find it below. The first column says whether the same call may succeed later without being changed.

## Without a reason

| what you see | look at |
|---|---|
| the service does not start | its last line, which begins with `videoprocess-server:`, and [exit codes](operations.md#exit-codes) |
| the command ends with 3, no answer | is the service there (`grpc.health.v1.Health/Check`), the same port, TLS on both sides or none (`grpcs://`)? |
| health says NOT_SERVING | it starts or stops. While its database or disk is away it stays SERVING and refuses calls: the log, `store_unavailable` |
| a job is QUEUED and nothing happens | `blocked_by` in `videoprocess status VIDEO_ID`: [what it waits for](states.md), [gates](operations.md#gates) |
| a job is RUNNING and slow | [what a frame costs](operations.md#what-a-frame-costs); `workers` and `--memory-budget-bytes` in [sizing](operations.md#sizing) |
| processes in state `T` | workers of interrupted work, kept for a while: [interrupted work](operations.md#interrupted-work) |
| the disk fills | [retention](operations.md#retention-and-trash), `--user-quota-bytes`; `du -sh data/*` |
| a setting has no effect | flags win over variables, these over the file; a `VIDEOPROCESS_` variable with a misspelt name is not seen |
| something of the source is missing in the result | `not_kept` of the report, and [the whole list](limits.md) |
| events are missing | `Subscribe(after_sequence)` with the last number you saw; older than 7 days: OUT_OF_RANGE |
"""


class AdviceError(Exception):
    """The advice and the catalogue have not the same reasons."""


def troubleshooting(notice: str) -> str:
    """Return the page.

    Args:
        notice: says where it comes from.

    Raises:
        AdviceError: a reason has no advice, or advice no reason.
    """
    check(ADVICE)
    parts = [f"# Troubleshooting\n\n{notice}\n{_INTRODUCTION}"]
    for title, rows in ADVICE.items():
        lines = [
            f'| <a id="{name.lower()}"></a>`{name}` | {"yes" if CATALOGUE[name].retryable else "no"} |'
            f" {CATALOGUE[name].remedy} | {advice} |"
            for name, advice in rows.items()
        ]
        table = "| reason | a retry can help | what to do | why, and where to look |\n|---|---|---|---|\n"
        parts.append(f"## {title}\n\n{table}" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def check(advice: Mapping[str, Mapping[str, str]]) -> None:
    """Return if each reason of the catalogue has advice, once, and nothing else has.

    Raises:
        AdviceError: so it is not.
    """
    names = [name for rows in advice.values() for name in rows]
    wrong = {name for name in names if names.count(name) > 1} | (set(names) ^ set(CATALOGUE))
    if wrong:
        raise AdviceError(f"no advice, advice without a reason, or twice: {', '.join(sorted(wrong))}")
