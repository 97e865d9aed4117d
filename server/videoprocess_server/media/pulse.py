"""How a task tells what it has done so far."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import BinaryIO, Final

from videoprocess_server.model.tasks import Progress, TaskMessage

#: between two messages
PULSE_SECONDS: Final = 0.5

_PART_BYTES: Final = 1 << 20


class Pulse:
    """Counts frames and bytes and tells them about twice a second; a worker whose counts stand for long is killed.

    Args:
        emit: gets the counts; None where nobody listens.
        clock: seconds that never go back.
    """

    def __init__(
        self, emit: Callable[[TaskMessage], None] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._frames = 0
        self._bytes = 0
        self._told_at = clock()

    def beat(self, *, frames: int | None = None, size: int = 0) -> None:
        """Say how many frames are done, and how many bytes more."""
        if frames is not None:
            self._frames = frames
        self._bytes += size
        now = self._clock()
        if self._emit is not None and now - self._told_at >= PULSE_SECONDS:
            self._told_at = now
            self._emit(Progress(frames=self._frames, bytes=self._bytes))


def sha256_of(file: BinaryIO, pulse: Pulse) -> str:
    """Return the SHA-256 of a file from its position to its end."""
    digest = hashlib.sha256()
    while part := file.read(_PART_BYTES):
        digest.update(part)
        pulse.beat(size=len(part))
    return digest.hexdigest()
