"""How slowly the messages of an upload may come: one within a time, and over minutes so many bytes a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from videoprocess.v1 import file_transfer_pb2 as pb
from videoprocess_server.errors import VideoProcessError

#: of file bytes, over each window
LEAST_BYTES_PER_SECOND = 1024
#: a window in stall times: five minutes by default
WINDOW_STALLS = 5


@dataclass
class Pace:
    """Adds up what came and how long that was waited for; how long the service itself took does not count.

    Args:
        window_seconds: of waiting, after which the rate is looked at.
    """

    window_seconds: float
    _waited_seconds: float = 0.0
    #: where the window began
    _begin: int | None = None

    def note(self, waited_seconds: float, position: int) -> None:
        """Take in how long a message was waited for, and how many bytes the upload had before it.

        Raises:
            VideoProcessError: TRANSFER_TOO_SLOW.
        """
        if self._begin is None:
            self._begin = position
        self._waited_seconds += waited_seconds
        if self._waited_seconds < self.window_seconds:
            return
        came_bytes = position - self._begin
        if came_bytes < LEAST_BYTES_PER_SECOND * self._waited_seconds:
            raise too_slow(f"{came_bytes} bytes came in {self._waited_seconds:.0f} s")
        self._waited_seconds, self._begin = 0.0, position


class PacedMessages:
    """The messages of an upload, which ends where they come too slowly.

    Args:
        messages: as they come.
        stall_seconds: within which each one comes whole.
    """

    def __init__(self, messages: AsyncIterator[pb.UploadRequest], stall_seconds: float) -> None:
        self._messages = messages
        self._stall_seconds = stall_seconds
        self._pace = Pace(stall_seconds * WINDOW_STALLS)

    async def next(self, position: int = 0) -> pb.UploadRequest | None:
        """Return the next message; None at the end.

        Args:
            position: how many bytes the upload has.

        Raises:
            VideoProcessError: TRANSFER_TOO_SLOW.
        """
        now = asyncio.get_running_loop().time
        begin = now()
        try:
            async with asyncio.timeout(self._stall_seconds) as bound:
                message = await anext(self._messages, None)
        except TimeoutError:
            if not bound.expired():
                raise
            raise too_slow(f"no whole message came for {self._stall_seconds:g} s") from None
        if message is not None:
            self._pace.note(now() - begin, position)
        return message


def too_slow(message: str) -> VideoProcessError:
    """Return what ends a transfer whose other side is too slow."""
    return VideoProcessError("TRANSFER_TOO_SLOW", message)
