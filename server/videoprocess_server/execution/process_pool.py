"""Runs tasks in worker processes of this machine: some for whatever comes, one kept for probes."""

from __future__ import annotations

from collections.abc import Callable

from videoprocess_server.execution import worker_process
from videoprocess_server.execution.cgroup import oom_kill_count
from videoprocess_server.execution.executor import Slot
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.execution.worker_pool import WorkerPool
from videoprocess_server.execution.worker_settings import WorkerSettings
from videoprocess_server.model.spans import NOWHERE, SpanSink

#: nothing may be written, and only the machine bounds memory and time
UNBOUNDED = Confinement()


class ProcessPoolExecutor(WorkerPool):
    """An Executor over worker processes.

    Args:
        worker_count: how many GENERAL tasks run at once; one PROBE worker comes on top.
        worker_module: the worker program.
        startup_seconds: a worker that is not ready after this is killed.
        backoff_seconds: pause after a first failed start.
        silence_seconds: a worker that has a task and is not heard of for longer is killed.
        probe_confinement: what is around the worker that probes; it writes nothing.
        confinement: what is around the others.
        oom_kills: how many processes of the service's control group were killed for want of memory; None where nothing
            tells.
        spans: where workers' spans go.
    """

    def __init__(
        self,
        worker_count: int,
        *,
        worker_module: str = "videoprocess_server.execution.worker_main",
        startup_seconds: float = 30.0,
        backoff_seconds: float = 0.1,
        silence_seconds: float = 60.0,
        probe_confinement: Confinement = UNBOUNDED,
        confinement: Confinement = UNBOUNDED,
        oom_kills: Callable[[], int | None] = oom_kill_count,
        spans: SpanSink = NOWHERE,
    ) -> None:
        def settings(around: Confinement) -> WorkerSettings:
            return WorkerSettings(
                spawn=lambda _wanted: worker_process.spawn(worker_module, around, oom_kills),
                startup_seconds=startup_seconds,
                backoff_seconds=backoff_seconds,
                silence_seconds=silence_seconds,
                tell_layers=self.note_layers,
                spans=spans,
            )

        super().__init__(
            {
                Slot.PROBE: (1, settings(probe_confinement)),
                Slot.GENERAL: (worker_count, settings(confinement)),
            }
        )

    def examine(self) -> None:
        """Return: this machine is there."""
