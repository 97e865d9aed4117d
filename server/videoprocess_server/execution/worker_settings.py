"""How workers are started and watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from videoprocess_server.execution.driven_worker import DrivenWorker
from videoprocess_server.execution.task_run import TaskRun
from videoprocess_server.model.spans import NOWHERE, SpanSink


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The same for all workers of a slot."""

    #: starts a worker, for the task that another did not suit where there is such a one; OSError if it cannot
    spawn: Callable[[TaskRun | None], DrivenWorker]
    #: a worker that is not ready after this is killed and counts as failed
    startup_seconds: float
    #: after the first failed start-up; doubles with each
    backoff_seconds: float
    #: a worker that has a task and is not heard of for longer is killed
    silence_seconds: float
    #: told of each worker that is ready: what confines it
    tell_layers: Callable[[tuple[str, ...]], None]
    #: where workers' spans go
    spans: SpanSink = NOWHERE
