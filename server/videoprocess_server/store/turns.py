"""The turn of one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from videoprocess_server.store.repository import StoreUnavailableError


class Turns:
    """A lock that is waited for with patience, and not taken twice by one thread.

    Args:
        timeout_seconds: how long a thread waits for its turn.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._owner: int | None = None  # thread that holds the lock

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            RuntimeError: this thread holds it already.
            StoreUnavailableError: another thread kept it too long.
        """
        if self._owner == threading.get_ident():
            raise RuntimeError("this thread is in a transaction already")
        if not self._lock.acquire(timeout=self._timeout_seconds):
            raise StoreUnavailableError("another transaction takes too long")
        self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()
