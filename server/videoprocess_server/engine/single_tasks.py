"""A driver's tasks other than segments: one at a time, tried again where that can help, charged to their phase."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from videoprocess_server.engine import faults
from videoprocess_server.engine.costs import Costs
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.engine.recording import Recorder
from videoprocess_server.engine.task_runner import StoppedError, TaskRunner
from videoprocess_server.execution.executor import (
    TaskCancelledError,
    TaskFailedError,
    WorkerCrashedError,
)
from videoprocess_server.model.records import Phase
from videoprocess_server.model.tasks import Progress, Task, TaskMessage, TaskResult

log = structlog.get_logger(__name__)


class SingleTasks:
    """Runs tasks to their end.

    Args:
        runner: has them run.
        meter: told how far they are.
        costs: told what they cost.
        limits: of retries.
        tell: called when the meter has news.
        demand_changed: called when a task needs the machine for itself, or does not any more.
        recorder: told of tries that fail.
    """

    def __init__(
        self,
        runner: TaskRunner,
        meter: ProgressMeter,
        costs: Costs,
        limits: Limits,
        tell: Callable[[], None],
        demand_changed: Callable[[], None],
        recorder: Recorder,
    ) -> None:
        self._runner = runner
        self._meter = meter
        self._costs = costs
        self._limits = limits
        self._tell = tell
        self._demand_changed = demand_changed
        self._recorder = recorder
        #: the one that runs needs the machine for itself: it ran out of memory
        self.alone = False
        #: since the present job began
        self.finished_count = 0

    def run(
        self,
        phase: Phase,
        make: Callable[[], Task],
        open_file: Callable[[], int],
        *,
        frames_total: int = 0,
        frames_done: int = 0,
    ) -> TaskResult:
        """Run one task, again after a crash, and charge its time to the phase.

        Args:
            phase: what it belongs to.
            make: makes it, for every try anew.
            open_file: opens its source, for every try anew.
            frames_total: of all tasks of the phase.
            frames_done: of those, by earlier tasks.

        Raises:
            StoppedError: the driver is to end.
            TaskFailedError, TaskStalledError, WorkerCrashedError: for good.
        """
        self._meter.enter(phase, frames_total, frames_done)
        self._runner.spans.enter(phase)
        self._tell()
        tries = faults.Tries()
        while True:
            self._wait_for_a_place()
            since = self._costs.now()
            try:
                result = self._runner.run(make(), open_file(), self._on_message)
            except TaskCancelledError as error:
                raise StoppedError from error
            except (TaskFailedError, WorkerCrashedError) as error:
                cause = faults.cause_of(error)
                self._recorder.attempt_failed(phase, cause)
                failed = tries.failed(error)
                self._run_alone(needed=self.alone or faults.POLICIES[cause].runs_alone)
                log.warning("task_attempt_failed", phase=phase.name, error=str(error))
                self._sleep(faults.backoff_seconds(self._limits.retry_backoff_seconds, failed))
            else:
                self._costs.charge(phase, since, getattr(result, "cpu_seconds", 0.0))
                self._run_alone(needed=False)
                self.finished_count += 1
                return result

    def _run_alone(self, *, needed: bool) -> None:
        if self.alone != needed:
            self.alone = needed
            self._demand_changed()

    def _wait_for_a_place(self) -> None:
        self._runner.check()
        while self._runner.workers == 0 or (self.alone and not self._runner.has_machine):
            self._runner.wait()

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._runner.wait(left)

    def _on_message(self, message: TaskMessage) -> None:
        if isinstance(message, Progress):
            self._meter.open_frames("task", message.frames, time.monotonic())
            self._tell()
