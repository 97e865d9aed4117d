"""The session that this command keeps between two runs, so that one terminal can stop what another one started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from videoprocess_client.cli.session_book import Entry, SessionBook
from videoprocess_client.cli.stream_settings import StreamSettings
from videoprocess_client.client import Client
from videoprocess_client.enums import Priority
from videoprocess_client.errors import SessionClosed
from videoprocess_client.jobs import Job
from videoprocess_client.session import Session

_Result = TypeVar("_Result")
# How many sessions are tried when the service closes one after the other.
SESSIONS = 5


class KeptSession:
    """The remembered session, opened when it is first needed; or one whose id was given.

    Attributes:
        book: Where it is remembered.
    """

    def __init__(self, client: Client, book: SessionBook, given_id: str | None = None) -> None:
        """Open nothing yet.

        Args:
            client: The way to the service.
            book: Where the session is remembered.
            given_id: A session to use instead; it is neither replaced nor remembered.
        """
        self._client = client
        self.book = book
        self._given_id = given_id

    async def call(self, work: Callable[[Session], Awaitable[_Result]]) -> _Result:
        """Do `work` in the session; one that the service knows no more is replaced, and the work done anew.

        Raises:
            SessionClosed: The session that was given is not open.
        """
        if self._given_id is not None:
            return await work(self._client.attach_session(self._given_id))
        for _ in range(SESSIONS - 1):
            session_id = await self._session_id()
            try:
                return await work(self._client.attach_session(session_id))
            except SessionClosed:
                self.book.change(partial(_without_session, session_id=session_id))
        return await work(self._client.attach_session(await self._session_id()))

    async def process(
        self, video_id: str, timestamp_us: int, priority: Priority, settings: StreamSettings | None
    ) -> Job:
        """Have work on a video accepted.

        Args:
            video_id: The video.
            timestamp_us: Where enhancement starts, in microseconds from the first frame.
            priority: How urgent it is.
            settings: Committed first. None: what the session has committed, else the defaults.
        """

        async def work(session: Session) -> Job:
            if settings is not None or not self._is_committed():
                await self._commit(session, settings)
            job = await session.process(video_id, timestamp_us, priority=priority)
            if job.accepted.error.reason != "NO_COMMITTED_STREAMS":
                return job
            # Somebody else has reset the session, or it was given and is new.
            await self._commit(session, settings)
            return await session.process(video_id, timestamp_us, priority=priority)

        async with (
            self.book.turn()
        ):  # between two terminals the one's settings must not meet the other's video
            return await self.call(work)

    def settings(self) -> StreamSettings | None:
        """What `process` uses when nothing else is asked for; None: the defaults, or what a given session has."""
        return self.book.read().settings if self._given_id is None else None

    def _is_committed(self) -> bool:
        return self._given_id is not None or self.book.read().committed

    async def _commit(self, session: Session, settings: StreamSettings | None) -> None:
        wanted = settings or self.settings() or StreamSettings()
        if self._given_id is None:  # refused ones are not remembered
            self.book.change(lambda entry: replace(entry, committed=False))
        await wanted.commit(session)
        if self._given_id is None:
            self.book.change(lambda entry: replace(entry, settings=wanted, committed=True))

    async def _session_id(self) -> str:
        known = self.book.read().session_id
        if known:
            return known
        opened = (await self._client.open_session()).session_id
        entry = self.book.change(partial(_with_session, session_id=opened))
        if entry.session_id != opened:  # another terminal was quicker
            await self._client.close_session_quietly(opened)
        return entry.session_id


def _with_session(entry: Entry, session_id: str) -> Entry:
    if entry.session_id:
        return entry
    return replace(entry, session_id=session_id, committed=False)


def _without_session(entry: Entry, session_id: str) -> Entry:
    if entry.session_id != session_id:
        return entry
    return replace(entry, session_id="", committed=False)
