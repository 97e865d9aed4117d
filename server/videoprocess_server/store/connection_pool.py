"""A bounded pool of connections, whatever they lead to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from videoprocess_server.store.repository import StoreUnavailableError

C = TypeVar("C")


class ConnectionPool(Generic[C]):
    """At most `size` connections, opened when needed. Threads come and go, connections stay.

    Args:
        open_: opens one; raises StoreUnavailableError.
        close: closes one, broken or not; never raises.
        reset: ends what was open on one that comes back; tells whether it is good for another use.
        size: how many may be lent at once.
        timeout_seconds: how long to wait for one.
    """

    def __init__(
        self,
        open_: Callable[[], C],
        *,
        close: Callable[[C], None],
        reset: Callable[[C], bool],
        size: int,
        timeout_seconds: float,
    ) -> None:
        self._open = open_
        self._close = close
        self._reset = reset
        self._timeout_seconds = timeout_seconds
        self._slots = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[C] = []
        self._closed = False

    @contextmanager
    def lent(self) -> Iterator[C]:
        """Lend a connection.

        Raises:
            StoreUnavailableError: all stayed in use, none can be opened, or the pool is closed.
        """
        if not self._slots.acquire(timeout=self._timeout_seconds):
            raise StoreUnavailableError("too many reads at once")
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()

    def drop_idle(self) -> None:
        """Close the idle connections: the next are opened anew."""
        with self._lock:
            while self._idle:
                self._close(self._idle.pop())

    def close(self) -> None:
        """Close the idle connections; those in use are closed when given back."""
        self._closed = True
        self.drop_idle()

    def _take(self) -> C:
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("the repository is closed")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_back(self, connection: C) -> None:
        if self._reset(connection):
            with self._lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
        self._close(connection)
