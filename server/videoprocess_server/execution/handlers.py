"""What a worker does with a task: one handler a kind of task, and one way to tell what went wrong."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from videoprocess_server.execution.codec import Failed
from videoprocess_server.execution.executor import TaskCancelledError, TaskFailedError
from videoprocess_server.model.tasks import ProbeTask, Task, TaskMessage, TaskResult

Emit = Callable[[TaskMessage], None]

#: called with the task, the source's descriptor (-1 where the task has none) and how to send messages;
#: raises TaskFailedError for what it foresaw. The task's type is the key it stands under.
Handler = Callable[[Any, int, Emit], TaskResult]

Handlers = Mapping[type[Task], Handler]

#: reasons of failures nobody foresaw: a file that a prober stumbles over is the caller's, the rest is ours
_UNFORESEEN: Mapping[type[Task], str] = {ProbeTask: "PROBE_FAILED"}

#: what a task is answered that would take more memory than it may: what the file declares is the caller's
_OUT_OF_MEMORY: Mapping[type[Task], tuple[str, str]] = {
    ProbeTask: ("OVER_LIMITS", "The file takes more memory than a worker may have.")
}
_TOO_MUCH_MEMORY = ("INTERNAL", "the task takes more memory than a worker may have")

#: what a write is answered with where there is no space; FFmpeg's errors are OSErrors with their number, too
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: and where it must not write; sources come as descriptors, so no file of a stranger's is meant
_DISK_REFUSES = frozenset({errno.EACCES, errno.EROFS})

#: of the traceback's end
_DETAIL_CHARACTERS = 8192


def answer(handlers: Handlers, task: Task, fd: int, emit: Emit) -> TaskResult | Failed:
    """Do a task; whatever goes wrong is an answer, too."""
    try:
        return handlers[type(task)](task, fd, emit)
    except TaskFailedError as failure:
        return Failed(reason=failure.reason, message=failure.message)
    except TaskCancelledError:
        raise
    except MemoryError:
        reason, message = _OUT_OF_MEMORY.get(type(task), _TOO_MUCH_MEMORY)
        return Failed(reason=reason, message=message)
    except Exception as error:  # noqa: BLE001  whatever a stranger's file provokes
        refusal = disk_refusal(error)
        if refusal is not None:
            return Failed(reason=refusal.reason, message=refusal.message)
        reason = _UNFORESEEN.get(type(task), "INTERNAL")
        detail = "".join(traceback.format_exception(error))[-_DETAIL_CHARACTERS:]
        return Failed(
            reason=reason, message="an unforeseen failure; the service's log tells more", detail=detail
        )


def disk_refusal(error: Exception) -> TaskFailedError | None:
    """Return what a write that the disk refuses is told as; None for any other error."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return TaskFailedError("STORAGE_FULL", "there is no space left")
    if isinstance(error, OSError) and error.errno in _DISK_REFUSES:
        return TaskFailedError("STORE_UNAVAILABLE", "the data directory cannot be written to")
    return None
