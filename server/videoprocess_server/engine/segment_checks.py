"""Has finished segments decoded while the last ones are still made, by workers that would wait for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from videoprocess_server.engine.segment_passes import SegmentPass
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.execution.executor import (
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    TaskStalledError,
    WorkerCrashedError,
)
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.records import SegmentRecord
from videoprocess_server.model.tasks import CheckResult

log = structlog.get_logger(__name__)


class SegmentChecks:
    """The checks of one pass. What they leave, or fail at, is done when the pass is over, where failures are told, too.

    Args:
        plan: whose segments they are.
        segment_pass: makes the tasks.
        runner: has them run.
        path_of: tells where a finished segment's file is.
        changed: called when one has ended.
    """

    def __init__(
        self,
        plan: Plan,
        segment_pass: SegmentPass,
        runner: TaskRunner,
        path_of: Callable[[SegmentRecord], str],
        changed: Callable[[], None],
    ) -> None:
        #: what segments decode to, by index
        self.results: dict[int, CheckResult] = {}
        self.cpu_seconds = 0.0
        self._segments = {segment.index: segment for segment in plan.segments}
        self._make = segment_pass.check
        self._runner = runner
        self._path_of = path_of
        self._changed = changed
        self._open: dict[TaskHandle, int] = {}
        #: segments that have such a task, or had one
        self._begun: set[int] = set()
        self._ending = False

    @property
    def open_count(self) -> int:
        """How many run."""
        return len(self._open)

    def count_waiting(self, done: Mapping[int, SegmentRecord]) -> int:
        """Return how many of the finished segments could be decoded now; from any thread."""
        return 0 if self._make is None else len(done) - len(self._begun)

    def start(self, done: Mapping[int, SegmentRecord], free_workers: int) -> None:
        """Give free workers finished segments, the first ones first."""
        if self._make is None or free_workers <= 0:
            return
        for index in sorted(done.keys() - self._begun)[:free_workers]:
            handle = self._runner.submit(
                self._make(self._segments[index], self._path_of(done[index])), source_fd=None
            )
            self._begun.add(index)
            self._open[handle] = index
            handle.add_done_callback(lambda ended: self._runner.post(lambda: self._end(ended)))

    def begin_to_end(self) -> None:
        """From here on those that run are cancelled."""
        self._ending = True

    def _end(self, ended: TaskHandle) -> None:
        index = self._open.pop(ended)
        self._changed()
        try:
            result = ended.result()
        except TaskCancelledError as error:
            if not self._ending:
                raise StoppedError from error
        except (TaskFailedError, TaskStalledError, WorkerCrashedError) as error:
            log.warning("segment_check_put_off", index=index, error=str(error))
        else:
            assert isinstance(result, CheckResult)
            self.results[index] = result
            self.cpu_seconds += result.cpu_seconds
