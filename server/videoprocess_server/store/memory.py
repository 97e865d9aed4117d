"""The repository in memory: what is committed ends with the process. For tests and trials, which need no file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from videoprocess_server.store.memory_reader import MemoryReader
from videoprocess_server.store.memory_tables import Tables
from videoprocess_server.store.memory_transaction import MemoryTransaction
from videoprocess_server.store.repository import Reader, StoreUnavailableError, Transaction
from videoprocess_server.store.turns import Turns


class MemoryRepository:
    """Tables that a commit replaces as a whole, so that whoever reads keeps what was there at the start.

    Args:
        busy_timeout_seconds: how long to wait for a transaction of another thread.
    """

    def __init__(self, *, busy_timeout_seconds: float = 5.0) -> None:
        self._turns = Turns(busy_timeout_seconds)
        self._tables = Tables()
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """See `Repository`."""
        self.ping()
        reader = MemoryReader(self._tables)
        try:
            yield reader
        finally:
            reader.end()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See `Repository`. A second one in the same thread raises RuntimeError."""
        with self._turns.mine():
            self.ping()
            transaction = MemoryTransaction(self._tables.copy())
            try:
                yield transaction
                self._tables = transaction.tables
            finally:
                transaction.end()

    def ping(self) -> None:
        """See `Repository`."""
        if self._closed:
            raise StoreUnavailableError("the repository is closed")

    def close(self) -> None:
        """Refuse all that begins from now on. Closing again does nothing."""
        with self._turns.mine():
            self._closed = True
