"""Transactions of a job driver: the store being away is waited out, since accepted work has nobody to give the error to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import structlog

from videoprocess_server.engine.task_runner import StoppedError
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError, Transaction

log = structlog.get_logger(__name__)
T = TypeVar("T")

RETRY_SECONDS = 1.0


class Durable:
    """Runs a driver's transactions."""

    def __init__(self, repository: Repository, closing: threading.Event) -> None:
        self._repository = repository
        self._closing = closing

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Open a consistent view; it is tried again while the store is away.

        Raises:
            StoppedError: the service closes before the store is back.
        """
        with ExitStack() as stack:
            yield self._open(stack)

    def _open(self, stack: ExitStack) -> Reader:
        while True:
            try:
                return stack.enter_context(self._repository.read())
            except StoreUnavailableError as error:
                self._wait(error)

    def write(self, change: Callable[[Transaction], T]) -> T:
        """Return what `change` returns once it is durable; it is tried again while the store is away.

        Raises:
            StoppedError: the service closes before the store is back; the next start goes on from the rows.
        """
        while True:
            try:
                with self._repository.transaction() as tx:
                    result = change(tx)
            except StoreUnavailableError as error:
                self._wait(error)
            else:
                return result

    def _wait(self, error: StoreUnavailableError) -> None:
        log.warning("store_unavailable", error=str(error))
        if self._closing.wait(RETRY_SECONDS):
            raise StoppedError from error
