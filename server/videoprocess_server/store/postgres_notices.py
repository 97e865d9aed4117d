"""Notices by PostgreSQL's LISTEN and NOTIFY."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from psycopg import sql

from videoprocess_server.store.notices import MOST_NOTICE_BYTES
from videoprocess_server.store.postgres_connections import Connection, Opener, close_quietly, database_errors
from videoprocess_server.store.postgres_text import escape, unescape
from videoprocess_server.store.repository import StoreUnavailableError, UnfitDatabaseError
from videoprocess_server.store.sql.postgres import QUERIES

log = structlog.get_logger(__name__)

_EVENTS, _JOBS, _ANNOUNCEMENTS = "events", "jobs", "announcements"
#: how long nothing may be heard before the server is asked whether it is still there
_SILENCE_SECONDS = 15.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
_SILENT_SECONDS = 1.0
#: that a beginning waits until it hears: where the server is away, it hears later
_FIRST_SECONDS = 2.0
_BETWEEN = "\n"


class PostgresNotices:
    """See `Notices`. Channels are named after the schema; tables' own triggers tell of events and jobs."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._sending = threading.Lock()
        self._sender: Connection | None = None
        self._silent_until = 0.0  # monotonic: nobody waits for a server that was away just now
        self._listening: list[_Listening] = []

    def listen(
        self,
        on_event: Callable[[int], None],
        on_job: Callable[[str], None],
        on_reconnect: Callable[[], None],
        on_announcement: Callable[[str, str], None] = lambda _topic, _payload: None,
    ) -> Callable[[], None]:
        """See `Notices`."""
        listening = _Listening(
            self._opener,
            {
                _EVENTS: lambda payload: on_event(int(payload)),
                _JOBS: lambda payload: on_job(unescape(payload)),
                _ANNOUNCEMENTS: lambda payload: on_announcement(*unescape(payload).split(_BETWEEN, 1)),
            },
            on_reconnect,
        )
        self._listening.append(listening)  # what is told from here on is heard, unless the server is away
        return listening.close

    def announce(self, topic: str, payload: str) -> None:
        """See `Notices`."""
        if _BETWEEN in topic:
            raise ValueError(f"a topic with a line feed: {topic!r}")
        text = f"{topic}{_BETWEEN}{payload}"
        if (size_bytes := len(escape(text).encode())) > MOST_NOTICE_BYTES:
            raise ValueError(f"a notice of {size_bytes} bytes; {MOST_NOTICE_BYTES} are the most")
        channel = _channel(self._opener.schema, _ANNOUNCEMENTS)
        with self._sending, suppress(StoreUnavailableError, UnfitDatabaseError):
            self._send(channel, text)

    def close_notices(self) -> None:
        """Stop listening, and close what announcements went over."""
        for listening in self._listening:
            listening.close()
        with self._sending:
            self._drop_sender()

    def _send(self, channel: str, text: str) -> None:
        if time.monotonic() < self._silent_until:
            return
        if self._sender is None:
            self._silent_until = time.monotonic() + _SILENT_SECONDS
            self._sender = self._opener.open()
            self._silent_until = 0.0
        try:
            with database_errors():
                self._sender.execute(QUERIES["notify"], {"channel": channel, "payload": text})
        except StoreUnavailableError:
            self._drop_sender()  # the next one goes over another
            raise

    def _drop_sender(self) -> None:
        if self._sender is not None:
            close_quietly(self._sender)
            self._sender = None


def _channel(schema: str, kind: str) -> str:
    return f"{schema}.{kind}"


class _Listening:
    """A thread with a connection of its own, which it replaces when it is lost."""

    def __init__(
        self, opener: Opener, heard: dict[str, Callable[[str], None]], on_reconnect: Callable[[], None]
    ) -> None:
        self._opener = opener
        self._heard = {_channel(opener.schema, kind): tell for kind, tell in heard.items()}
        self._on_reconnect = on_reconnect
        self._closing = threading.Event()
        self._woken, self._waker = os.pipe()
        self._hears = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()
        self._hears.wait(_FIRST_SECONDS)

    def close(self) -> None:
        """End the thread. Closing again does nothing."""
        if not self._closing.is_set():
            self._closing.set()
            os.close(self._waker)
            self._thread.join()
            os.close(self._woken)

    def _run(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            try:
                connection = self._connected()
                pause_seconds = _FIRST_PAUSE_SECONDS
                try:
                    self._hear(connection)
                finally:
                    close_quietly(connection)
            except (StoreUnavailableError, UnfitDatabaseError) as error:
                log.warning("notices_lost", error=str(error))
            self._closing.wait(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _connected(self) -> Connection:
        connection = self._opener.open()
        try:
            with database_errors():
                for channel in self._heard:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except BaseException:
            close_quietly(connection)
            raise
        return connection

    def _hear(self, connection: Connection) -> None:
        self._told(self._on_reconnect)
        self._hears.set()
        while True:
            with database_errors():
                notices = list(connection.notifies(timeout=0))
            for notice in notices:
                self._told(self._heard[notice.channel], notice.payload)
            is_silent = not self._wait(connection)
            if self._closing.is_set():
                return
            if is_silent:
                with database_errors():
                    connection.execute("SELECT 1")

    def _wait(self, connection: Connection) -> bool:
        """Return whether something has come before the silence is too long."""
        with selectors.DefaultSelector() as selector:
            for source in (connection.fileno(), self._woken):
                selector.register(source, selectors.EVENT_READ)
            return bool(selector.select(_SILENCE_SECONDS))

    def _told(self, tell: Callable[..., None], *what: str) -> None:
        try:
            tell(*what)
        except Exception:
            log.exception("notice_not_taken")
