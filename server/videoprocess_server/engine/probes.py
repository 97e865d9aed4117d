"""Short looks of an isolated worker at what a caller hands over, while the caller waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from videoprocess_server.engine.limits import Limits
from videoprocess_server.errors import CATALOGUE, Status, VideoProcessError
from videoprocess_server.execution.executor import (
    Executor,
    Slot,
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.model.tasks import Task, TaskResult


class Probes:
    """Runs them, not too many at a time, and makes answers for callers of what goes wrong.

    Args:
        executor: keeps a worker for them.
        limits: how many, and how long.
    """

    def __init__(self, executor: Executor, limits: Limits) -> None:
        self._executor = executor
        self._limits = limits
        self._places = threading.BoundedSemaphore(limits.max_concurrent_probes)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places: who wants to run something takes one first, so that few wait.

        Raises:
            VideoProcessError: PROBE_BUSY.
        """
        if not self._places.acquire(blocking=False):
            raise VideoProcessError("PROBE_BUSY", "too many files are being probed", retry_after_seconds=1)
        try:
            yield
        finally:
            self._places.release()

    def run(self, task: Task, source_fd: int | None) -> TaskResult:
        """Return the worker's answer; the caller holds a place.

        Args:
            task: what it is to look at.
            source_fd: of the file, which is taken; None where the task brings all it needs.

        Raises:
            VideoProcessError: PROBE_BUSY, PROBE_FAILED, DRAINING, or what the worker refuses the file for.
        """
        handle = self._executor.submit(
            task,
            source_fd=source_fd,
            slot=Slot.PROBE,
            stall_seconds=self._limits.probe_stall_seconds,
        )
        try:
            return self._wait_for(handle)
        except TaskFailedError as error:
            raise _refused(error) from error
        except (WorkerCrashedError, TaskStalledError) as error:
            raise VideoProcessError(
                "PROBE_FAILED", "the prober did not survive this file, or took too long"
            ) from error
        except TaskCancelledError as error:
            raise VideoProcessError("DRAINING", "the service is stopping", retry_after_seconds=2) from error

    def _wait_for(self, handle: TaskHandle) -> TaskResult:
        """Return a probe's answer; one that waits too long behind others is given up."""
        ended = threading.Event()
        handle.add_done_callback(lambda _: ended.set())
        if not ended.wait(self._limits.prepare_seconds):
            handle.cancel()
            raise VideoProcessError("PROBE_BUSY", "other files are being probed", retry_after_seconds=5)
        return handle.result()


def _refused(error: TaskFailedError) -> VideoProcessError:
    row = CATALOGUE.get(error.reason)
    if row is not None and row.retryable:
        return VideoProcessError("PROBE_BUSY", error.message, retry_after_seconds=5)
    if row is None or row.status is not Status.INVALID_ARGUMENT:
        return VideoProcessError("PROBE_FAILED", "the prober failed on this file")
    return VideoProcessError(error.reason, error.message)
