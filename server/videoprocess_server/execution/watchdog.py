"""Whether a worker that has a task still lives, and whether its task gets on."""

from __future__ import annotations

from videoprocess_server.execution.codec import Message
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.model.tasks import Progress, SegmentDone

#: how soon at the latest the watchdog of a frozen task finds that it was thawed
_FROZEN_LOOK_SECONDS = 1.0


class SilentError(TimeoutError):
    """Nothing was heard of the worker for too long, not even a heartbeat."""


class NoProgressError(TimeoutError):
    """The task's counts did not advance for too long."""


class Watchdog:
    """Measures running time: while a task is frozen, or its receiver is at work, its clocks stand still.

    Args:
        run: the task; its stall time is the bound of no progress.
        silence_seconds: the bound of silence.
    """

    def __init__(self, run: TaskRun, silence_seconds: float) -> None:
        self._run = run
        self._silence_seconds = silence_seconds
        self._heard_at = self._advanced_at = run.ran_seconds()
        self._counts = Progress(frames=0, bytes=0)

    def patience(self) -> float:
        """Return the seconds after which to ask again.

        Raises:
            SilentError, NoProgressError: it is over.
        """
        if self._run.frozen:
            return _FROZEN_LOOK_SECONDS
        now = self._run.ran_seconds()
        silence_left = self._heard_at + self._silence_seconds - now
        progress_left = self._advanced_at + self._run.stall_seconds - now
        if silence_left <= 0:
            raise SilentError
        if progress_left <= 0:
            raise NoProgressError
        return min(silence_left, progress_left)

    def hear(self, message: Message) -> None:
        """Note a message that came."""
        self._heard_at = self._run.ran_seconds()
        if isinstance(message, SegmentDone) or (
            isinstance(message, Progress) and _advances(self._counts, message)
        ):
            self._advanced_at = self._heard_at
        if isinstance(message, Progress):
            self._counts = message

    def excuse(self, seconds: float) -> None:
        """Do not count so many seconds since the last message."""
        self._heard_at += seconds
        self._advanced_at += seconds


def _advances(before: Progress, now: Progress) -> bool:
    return now.frames > before.frames or now.bytes > before.bytes
