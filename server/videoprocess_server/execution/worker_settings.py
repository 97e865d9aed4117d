"""How workers are started and watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.model.spans import NOWHERE, SpanSink


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The same for all workers of a slot."""

    module: str
    #: a worker that is not ready after this is killed and counts as failed
    startup_seconds: float
    #: after the first failed start-up; doubles with each
    backoff_seconds: float
    #: a worker that has a task and is not heard of for longer is killed
    silence_seconds: float
    #: of the service's control group; None where nothing tells
    oom_kill_count: Callable[[], int | None]
    #: what is around each worker
    confinement: Confinement
    #: told of each worker that is ready: what confines it
    tell_layers: Callable[[tuple[str, ...]], None]
    #: where workers' spans go
    spans: SpanSink = NOWHERE
