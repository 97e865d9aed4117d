"""Exit codes, and which error ends with which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from videoprocess_client.enums import ErrorCode
from videoprocess_client.errors import Busy, ConnectionFailed, JobFailed, NotFound, VideoProcessError

EPILOG = """\b
Exit codes:
  0    done
  1    the job failed, or the result could not be written
  2    wrong use: an option, or a local file that is not there or may not be used
  3    no answer from the server, or it stays busy
  4    the server refused the request
  5    no such video, or it has no result
  6    the work was stopped from elsewhere: interrupt, remove, or a reset of its session
  130  interrupted by Ctrl-C or SIGTERM
"""


class Exit(IntEnum):
    """Exit codes of the command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_SERVER = 3
    REFUSED = 4
    NOT_FOUND = 5
    STOPPED = 6
    INTERRUPTED = 130


_JOB_EXITS: Mapping[int, Exit] = {ErrorCode.ABORT: Exit.STOPPED, ErrorCode.INVALID_ID: Exit.NOT_FOUND}
_WRONG_FILE = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def exit_code(error: VideoProcessError | OSError) -> Exit:
    """The exit code that tells an error."""
    if isinstance(error, OSError):
        return Exit.USAGE if isinstance(error, _WRONG_FILE) else Exit.FAILED
    if isinstance(error, JobFailed):
        return _JOB_EXITS.get(error.error_code, Exit.FAILED)
    if isinstance(error, ConnectionFailed | Busy):
        return Exit.NO_SERVER
    return Exit.NOT_FOUND if isinstance(error, NotFound) else Exit.REFUSED
