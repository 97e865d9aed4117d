"""Rows that several services may share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from videoprocess_server.store.notices import Notices
from videoprocess_server.store.repository import Repository


@runtime_checkable
class SharedRepository(Repository, Notices, Protocol):
    """A repository with notices, and a clock that is the same for all who share it."""

    def server_now_us(self) -> int:
        """Return the common clock's time, microseconds since 1970.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        ...
