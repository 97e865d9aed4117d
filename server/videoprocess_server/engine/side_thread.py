"""Runs what may never return: a read from a file whose file system is a stranger's program.

The thread that it hangs in is given up; nobody waits for it, not even the end of the process.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 0.1


class StalledError(Exception):
    """There was no sign of life for too long."""


class OverError(Exception):
    """Nobody wants the result any more."""


class SideThread(Generic[T]):
    """One piece of work on a thread of its own.

    Args:
        work: called with a function that it calls now and then, with whatever number; that is its sign of life, and raises
            OverError once nobody waits.
        give_back: called with the result, on that thread, where nobody waits for it any more.
    """

    def __init__(self, work: Callable[[Callable[[int], None]], T], give_back: Callable[[T], object]) -> None:
        self._work = work
        self._give_back = give_back
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._given_up = False
        self._alive_at = time.monotonic()
        self._results: list[T] = []
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin the work. RuntimeError where the machine has no thread for it."""
        context = contextvars.copy_context()
        self._alive_at = time.monotonic()
        threading.Thread(target=context.run, args=(self._run,), name="side", daemon=True).start()

    def result(self, is_over: Callable[[], bool], stall_seconds: float) -> T:
        """Wait for the end of the work and return what it returned, or raise what it raised.

        Args:
            is_over: asked several times a second whether the result is of no use any more.
            stall_seconds: without a sign of life, after which the work is given up.

        Raises:
            StalledError: it was.
            OverError: the result is of no use any more.
        """
        while not self._ended.wait(LOOK_SECONDS):
            if is_over():
                self._give_up(OverError())
            elif time.monotonic() - self._alive_at > stall_seconds:
                self._give_up(StalledError())
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _give_up(self, error: Exception) -> None:
        """Leave the thread to itself, unless it ended just now."""
        with self._lock:
            if not self._ended.is_set():
                self._given_up = True
                raise error

    def _sign(self, _number: int) -> None:
        if self._given_up:
            raise OverError
        self._alive_at = time.monotonic()

    def _run(self) -> None:
        try:
            result = self._work(self._sign)
        except Exception as error:  # noqa: BLE001  whoever waits gets it
            with self._lock:
                self._error = error
                self._ended.set()
            return
        with self._lock:
            self._results.append(result)
            self._ended.set()
            given_up = self._given_up
        if given_up:
            self._drop(result)

    def _drop(self, result: T) -> None:
        try:
            self._give_back(result)
        except Exception:
            log.exception("give_back_failed")
