"""Transactions of a job driver: the store being away is waited out, since accepted work has nobody to give the error to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import structlog

from videoprocess_server.engine.task_runner import StoppedError
from videoprocess_server.store.repository import (
    CommitInDoubtError,
    Reader,
    Repository,
    StoreUnavailableError,
    Transaction,
)

log = structlog.get_logger(__name__)
T = TypeVar("T")
V = TypeVar("V")

RETRY_SECONDS = 1.0


class Durable:
    """Runs a driver's transactions."""

    def __init__(self, repository: Repository, closing: threading.Event) -> None:
        self._repository = repository
        self._closing = closing

    def read(self, look: Callable[[Reader], T]) -> T:
        """Return what `look` returns of a consistent view; it is tried again while the store is away.

        Raises:
            StoppedError: the service closes before the store is back.
        """
        return self._patiently(self._repository.read, look)

    def write(self, change: Callable[[Transaction], T]) -> T:
        """Return what `change` returns once it is durable; it is tried again while the store is away, and done once only.

        Raises:
            StoppedError: the service closes before the store is back; the next start goes on from the rows.
        """
        return self._patiently(self._repository.transaction, change)

    def _patiently(self, open_: Callable[[], AbstractContextManager[V]], use: Callable[[V], T]) -> T:
        while True:
            try:
                with open_() as view:
                    result = use(view)
            except CommitInDoubtError as doubt:
                if self._was_kept(doubt):
                    return result
            except StoreUnavailableError as error:
                self._wait(error)
            else:
                return result

    def _was_kept(self, doubt: CommitInDoubtError) -> bool:
        error: StoreUnavailableError = doubt
        while True:
            self._wait(error)
            try:
                return doubt.was_kept()
            except StoreUnavailableError as still_away:
                error = still_away

    def _wait(self, error: StoreUnavailableError) -> None:
        log.warning("store_unavailable", error=str(error))
        if self._closing.wait(RETRY_SECONDS):
            raise StoppedError from error
