"""A driver's tasks other than segments: side by side where a phase has several, tried again where that can help."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
    TaskHandle,
    WorkerCrashedError,
)
from videoprocess_server.model.records import Phase
from videoprocess_server.model.tasks import Progress, Task, TaskMessage, TaskResult

log = structlog.get_logger(__name__)

Make = Callable[[], Task]


@dataclass(eq=False)
class _Part:
    """One of the tasks that run side by side."""

    number: int
    #: makes it, for every try anew
    make: Make
    tries: faults.Tries = field(default_factory=faults.Tries)
    #: monotonic seconds before which it is not tried again
    not_before: float = 0.0
    #: it ran out of memory, and needs the machine for itself
    alone: bool = False


class SingleTasks:
    """Runs tasks to their end.

    Args:
        runner: has them run.
        meter: told how far they are.
        costs: told what they cost.
        limits: of retries.
        tell: called when the meter has news.
        demand_changed: called when more workers could do something, or fewer, or one that needs the machine for itself.
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
        self._waiting: list[_Part] = []
        self._open: set[_Part] = set()
        #: what workers are through with, one way or another
        self._ended: list[tuple[_Part, TaskHandle]] = []
        self._told: tuple[int, bool] = (1, False)
        #: since the present job began
        self.finished_count = 0

    @property
    def alone(self) -> bool:
        """Whether one of them needs the machine for itself."""
        return self._told[1]

    @property
    def demand(self) -> int:
        """How many workers could do something now, at least 1."""
        return self._told[0]

    def run(
        self,
        phase: Phase,
        make: Make,
        open_file: Callable[[], int],
        *,
        frames_total: int = 0,
        frames_done: int = 0,
    ) -> TaskResult:
        """Run one task; see `run_all`."""
        return self.run_all(phase, [make], open_file, frames_total=frames_total, frames_done=frames_done)[0]

    def run_all(
        self,
        phase: Phase,
        makes: Sequence[Make],
        open_file: Callable[[], int],
        *,
        frames_total: int = 0,
        frames_done: int = 0,
    ) -> list[TaskResult]:
        """Run tasks side by side, as many as the job may have; again after a crash. Their time is charged to the phase.

        Args:
            phase: what they belong to.
            makes: make them, for every try anew.
            open_file: opens their source, for every try anew.
            frames_total: of all tasks of the phase.
            frames_done: of those, by earlier tasks.

        Returns:
            their answers, in order.

        Raises:
            StoppedError: the driver is to end; the tasks have.
            TaskFailedError, TaskStalledError, WorkerCrashedError: for good; the other tasks have ended.
        """
        self._meter.enter(phase, frames_total, frames_done)
        self._runner.spans.enter(phase)
        self._tell()
        self._waiting = [_Part(number, make) for number, make in enumerate(makes)]
        results: dict[int, TaskResult] = {}
        wall_seconds = cpu_seconds = since = 0.0
        try:
            self._runner.check()
            while self._waiting or self._open:
                self._note_demand()
                if not self._open:
                    since = self._costs.now()
                self._runner.wait(self._start(open_file))
                while self._ended:
                    part, handle = self._ended.pop()
                    result = self._result(phase, part, handle)
                    if result is None:
                        continue
                    results[part.number] = result
                    self.finished_count += 1
                    cpu_seconds += getattr(result, "cpu_seconds", 0.0)
                    wall_seconds, since = wall_seconds + self._costs.now() - since, self._costs.now()
        except BaseException:
            self._runner.end_all(lambda: not self._open)
            raise
        finally:
            self._waiting.clear()
            self._ended.clear()
            self._note_demand()
        self._costs.charge(phase, self._costs.now() - wall_seconds, cpu_seconds)
        return [results[number] for number in range(len(makes))]

    def _note_demand(self) -> None:
        parts = (*self._waiting, *self._open)
        alone = any(part.alone for part in parts)
        told = (1 if alone else max(1, len(parts)), alone)
        if told != self._told:
            self._told = told
            self._demand_changed()

    def _start(self, open_file: Callable[[], int]) -> float | None:
        """Give free workers something to do; return the seconds until a task may be tried again, None for no such."""
        now = time.monotonic()
        workers = int(self._runner.has_machine) if self.alone else self._runner.workers
        ready = [part for part in self._waiting if part.not_before <= now]
        ready.sort(key=lambda part: not part.alone)
        for part in ready[: max(0, workers - len(self._open))]:
            self._waiting.remove(part)
            self._submit(part, open_file)
        return min((part.not_before - now for part in self._waiting if part.not_before > now), default=None)

    def _submit(self, part: _Part, open_file: Callable[[], int]) -> None:
        def on_message(message: TaskMessage) -> None:
            if isinstance(message, Progress):
                self._meter.open_frames(part.number, message.frames, time.monotonic())
                self._tell()

        def ended(handle: TaskHandle) -> None:
            self._open.discard(part)
            self._ended.append((part, handle))

        handle = self._runner.submit(part.make(), open_file(), on_message)
        self._open.add(part)
        handle.add_done_callback(lambda done: self._runner.post(lambda: ended(done)))

    def _result(self, phase: Phase, part: _Part, handle: TaskHandle) -> TaskResult | None:
        """Return a task's answer; None where it is to be tried again."""
        try:
            return handle.result()
        except TaskCancelledError as error:
            raise StoppedError from error
        except (TaskFailedError, WorkerCrashedError) as error:
            self._meter.close_task(part.number)
            cause = faults.cause_of(error)
            self._recorder.attempt_failed(phase, cause)
            failed = part.tries.failed(error)
            part.alone = part.alone or faults.POLICIES[cause].runs_alone
            part.not_before = time.monotonic() + faults.backoff_seconds(
                self._limits.retry_backoff_seconds, failed
            )
            self._waiting.append(part)
            log.warning("task_attempt_failed", phase=phase.name, error=str(error))
            return None
