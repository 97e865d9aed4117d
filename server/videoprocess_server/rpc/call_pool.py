"""Threads that the engine is called on: it is synchronous, the event loop must never wait for it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from videoprocess_server.engine.limits import Limits

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

CALL_THREADS = 32  # calls are short: a read, or a transaction with its fsync
FILE_THREADS = 16  # more streams at once only make a disk seek
SPARE_PREPARE_THREADS = 4  # those that find all probes taken, to say so at once


class CallPool:
    """Runs functions in a bounded number of threads.

    Args:
        name: of the threads.
        threads: at most; they are started as they are needed.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread, with the context (and so the log fields) of this task."""
        context = contextvars.copy_context()
        call = partial(context.run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    @asynccontextmanager
    async def hold(
        self, give_back: Callable[[T], object], take: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[T]:
        """Hold what `take` returns and give it back at the end, also if this task is cancelled while `take` runs."""
        taking = asyncio.ensure_future(self.run(take, *args, **kwargs))
        try:
            held = await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(lambda taken: self._give_back_late(give_back, taken))
            raise
        try:
            yield held
        finally:
            self._threads.submit(_give_back, give_back, held)

    def close(self) -> None:
        """Wait for the calls that run."""
        self._threads.shutdown(wait=True, cancel_futures=False)

    def _give_back_late(self, give_back: Callable[[T], object], taken: asyncio.Future[T]) -> None:
        if not taken.cancelled() and taken.exception() is None:
            self._threads.submit(_give_back, give_back, taken.result())


def _give_back(give_back: Callable[[T], object], held: T) -> None:
    try:
        give_back(held)
    except Exception:
        log.exception("give_back_failed")


@contextmanager
def until_over() -> Iterator[Callable[[], bool]]:
    """Yield what tells a thread whether the task that waits for it still does."""
    over = threading.Event()
    try:
        yield over.is_set
    finally:
        over.set()


@dataclass(frozen=True, kw_only=True)
class CallPools:
    """One pool a kind of waiting, so that slow calls never keep the short ones waiting."""

    calls: CallPool
    #: Prepare waits for a worker
    prepare: CallPool
    #: bytes of uploads and downloads
    files: CallPool

    @classmethod
    def open(cls, limits: Limits) -> CallPools:
        """Make the pools."""
        return cls(
            calls=CallPool("call", CALL_THREADS),
            prepare=CallPool("prepare", limits.max_concurrent_probes + SPARE_PREPARE_THREADS),
            files=CallPool("file", FILE_THREADS),
        )

    def close(self) -> None:
        """Wait for the calls that run; the executor must be closed before, or a Prepare may wait long."""
        for pool in (self.calls, self.prepare, self.files):
            pool.close()
