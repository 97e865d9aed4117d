"""A bounded pool of connections, whatever they lead to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from videoprocess_server.store.repository import StoreUnavailableError

C = TypeVar("C")


class ConnectionPool(Generic[C]):
    """At most `size` connections, opened when needed. Threads come and go, connections stay.

    Args:
        open_: opens one; raises StoreUnavailableError.
        begin: makes one ready for a use; raises StoreUnavailableError. An idle one that fails is replaced: its server may have
            been restarted since.
        close: closes one, broken or not; never raises.
        reset: ends what was open on one that comes back; tells whether it is good for another use.
        size: how many may be lent at once.
        timeout_seconds: how long to wait for one.
    """

    def __init__(
        self,
        open_: Callable[[], C],
        *,
        begin: Callable[[C], None],
        close: Callable[[C], None],
        reset: Callable[[C], bool],
        size: int,
        timeout_seconds: float,
    ) -> None:
        self._open = open_
        self._begin = begin
        self._close = close
        self._reset = reset
        self._timeout_seconds = timeout_seconds
        self._slots = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[C] = []
        self._closed = False

    @contextmanager
    def lent(self) -> Iterator[C]:
        """Lend a connection that is ready.

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

    def close(self) -> None:
        """Close the idle connections; those in use are closed when given back."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._close(self._idle.pop())

    def _take(self) -> C:
        while (idle := self._pop_idle()) is not None:
            with suppress(StoreUnavailableError):
                return self._begun(idle)
        return self._begun(self._open())

    def _pop_idle(self) -> C | None:
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("the repository is closed")
            return self._idle.pop() if self._idle else None

    def _begun(self, connection: C) -> C:
        try:
            self._begin(connection)
        except BaseException:
            self._close(connection)
            raise
        return connection

    def _give_back(self, connection: C) -> None:
        if self._reset(connection):
            with self._lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
        self._close(connection)
