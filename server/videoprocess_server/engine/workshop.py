"""What every driver works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from videoprocess_server.blobs.blob_store import BlobStore
from videoprocess_server.engine.deliveries import Deliveries
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.recording import SILENT, Recorder
from videoprocess_server.engine.sources import Sources
from videoprocess_server.engine.sweeper import Sweeper
from videoprocess_server.execution.executor import Executor
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.spans import NOWHERE, SpanSink
from videoprocess_server.model.tasks import BuildInfo


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What every driver works with."""

    blobs: BlobStore
    sources: Sources
    deliveries: Deliveries
    executor: Executor
    hub: EventHub
    sweeper: Sweeper
    clock: Clock
    limits: Limits
    plan_settings: PlanSettings
    build: Callable[[], BuildInfo]
    recorder: Recorder = SILENT
    spans: SpanSink = NOWHERE
