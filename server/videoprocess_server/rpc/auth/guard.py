"""Lets a call begin when it is known who calls, and ends it when that is no longer so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from structlog.contextvars import bind_contextvars

from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.auth.authentication import Authentication
from videoprocess_server.rpc.caller import Context, calling
from videoprocess_server.rpc.status import as_catalogued

#: so long a stream may outlive credentials that were taken back; what expires by itself ends it at once
RECHECK_SECONDS = 10.0
#: after the end of credentials, so that a look finds them ended
SLACK_SECONDS = 0.05
MAX_LOGGED_CHARACTERS = 64


class Guard:
    """Stands before every call of every service.

    Args:
        authentication: tells who calls.
        wall_seconds: seconds since the epoch.
        recheck_seconds: time between two looks at the credentials of a call that goes on.
    """

    def __init__(
        self,
        authentication: Authentication,
        wall_seconds: Callable[[], float],
        recheck_seconds: float = RECHECK_SECONDS,
    ) -> None:
        self._authentication = authentication
        self._wall_seconds = wall_seconds
        self._recheck_seconds = recheck_seconds

    @asynccontextmanager
    async def entered(self, method: str, context: Context) -> AsyncIterator[Caller]:
        """Do a call's work in here; it is cancelled when its credentials end.

        Raises:
            VideoProcessError: NO_CREDENTIALS, BAD_CREDENTIALS, CREDENTIALS_EXPIRED.
        """
        try:
            caller = self._authentication.caller(method, context)
        except VideoProcessError:
            bind_contextvars(peer=context.peer())
            raise
        if caller.identity:
            bind_contextvars(identity=caller.identity[:MAX_LOGGED_CHARACTERS])
        watch = _Watch(lambda: self._look(caller, method, context))
        try:
            async with asyncio.timeout(None) as patience:
                watch.start(patience, self._until_next_look(caller))
                with calling(caller):
                    yield caller
        except TimeoutError:
            if watch.problem is None:
                raise
            raise watch.problem from None
        finally:
            watch.stop()

    def _look(self, caller: Caller, method: str, context: Context) -> float | None:
        """Return after how many seconds to look again.

        Raises:
            VideoProcessError: the credentials have ended.
        """
        again = self._authentication.caller(method, context)
        if (again.identity, again.users) != (caller.identity, caller.users):
            raise VideoProcessError("CREDENTIALS_EXPIRED", "the credentials have other rights by now")
        return self._until_next_look(again)

    def _until_next_look(self, caller: Caller) -> float | None:
        if not caller.identity:
            return None  # nothing to look at
        if caller.expire_time is None:
            return self._recheck_seconds
        return min(max(caller.expire_time - self._wall_seconds(), 0.0) + SLACK_SECONDS, self._recheck_seconds)


class _Watch:
    """Looks again and again, and ends the call when a look raises."""

    def __init__(self, look: Callable[[], float | None]) -> None:
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self.problem: VideoProcessError | None = None

    def start(self, patience: asyncio.Timeout, seconds: float | None) -> None:
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._ring, patience)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self, patience: asyncio.Timeout) -> None:
        try:
            self.start(patience, self._look())
        except Exception as error:  # noqa: BLE001 - whatever it is, a call that nobody vouches for ends
            self.problem = as_catalogued(error)
            patience.reschedule(asyncio.get_running_loop().time())
