"""Settings → who may ask how the service does. Part of the composition root, like `app`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from videoprocess_server.composition import Machinery
from videoprocess_server.engine.gates import GATES
from videoprocess_server.engine.recording import SILENT, Recorder
from videoprocess_server.model.records import Job
from videoprocess_server.model.spans import NOWHERE, SpanSink
from videoprocess_server.rpc.call_recorder import SILENT_CALLS, CallRecorder
from videoprocess_server.settings import Settings
from videoprocess_server.store.repository import StoreUnavailableError
from videoprocess_server.telemetry.job_log import tell_end
from videoprocess_server.telemetry.metrics_server import serving_metrics

if TYPE_CHECKING:
    from videoprocess_server.telemetry.metrics import Metrics
    from videoprocess_server.telemetry.tracing import Traces

log = structlog.get_logger(__name__)

#: values of a metric's labels → its value
Values = Mapping[Sequence[str], float]
_ALONE = ()


class NoTracingError(Exception):
    """Traces cannot be sent; the text is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Observers:
    """Who hears of what the service does. What nobody asks for is not there, and its library is not loaded."""

    metrics: Metrics | None = None
    traces: Traces | None = None

    @property
    def recorder(self) -> Recorder:
        """Who adds up the engine's work."""
        return self.metrics or SILENT

    @property
    def calls(self) -> CallRecorder:
        """Who adds up calls."""
        return self.metrics or SILENT_CALLS

    @property
    def spans(self) -> SpanSink:
        """Where spans go."""
        return self.traces or NOWHERE

    def job_ended(self, job: Job) -> None:
        """Tell each; one that breaks takes nothing from the others, nor from whoever ended the job."""
        for tell in (tell_end, self.recorder.job_ended, *([self.traces.job_ended] if self.traces else [])):
            try:
                tell(job)
            except Exception:
                log.exception("observer_broke")

    def open(self) -> None:
        """Begin to send traces."""
        if self.traces is not None:
            self.traces.open()

    def close(self) -> None:
        """Send what is left."""
        if self.traces is not None:
            self.traces.close()


def observers(settings: Settings) -> Observers:
    """Make those that the settings ask for.

    Raises:
        NoTracingError: the extra is missing.
    """
    metrics, traces = None, None
    if settings.metrics_listen:
        from videoprocess_server.telemetry.metrics import Metrics

        metrics = Metrics()
    if settings.otlp_endpoint:
        try:
            from videoprocess_server.telemetry.tracing import Traces
        except ImportError as error:
            raise NoTracingError(
                f"--otlp-endpoint needs OpenTelemetry, {error.name} is missing: pip install -e '.[tracing]'"
            ) from error
        traces = Traces(settings.otlp_endpoint, settings.trace_percent / 100, version("videoprocess"))
    return Observers(metrics=metrics, traces=traces)


@asynccontextmanager
async def telling_metrics(
    settings: Settings, metrics: Metrics | None, machinery: Machinery
) -> AsyncIterator[str]:
    """Serve metrics in here, where the settings say so; yield where, "" for nowhere.

    Raises:
        MetricsListenError: it cannot listen there.
    """
    async with AsyncExitStack() as stack:
        if metrics is not None:
            readings = Readings(machinery)
            metrics.watch(readings.of_store, readings.of_work, readings.of_workers, readings.of_disk)
            serving = serving_metrics(settings.metrics_listen, metrics.scrape)
            yield await stack.enter_async_context(serving)
        else:
            yield ""


class Readings:
    """What is so at the moment of a scrape; names are those of `telemetry.metric_table`."""

    def __init__(self, machinery: Machinery) -> None:
        self._machinery = machinery

    def of_store(self) -> Mapping[str, Values]:
        """Read the rows; while they cannot be read, tell that."""
        services = self._machinery.services
        try:
            with services.repository.read() as reader:
                users = reader.list_active_users()
                sessions, stored = reader.count_open_sessions(), reader.stored_bytes()
        except StoreUnavailableError:
            return {"store_up": {_ALONE: 0}, "can_accept_job": {_ALONE: 0}}
        queued, running = (
            sum(user.queued_count for user in users),
            sum(user.running_count for user in users),
        )
        has_room = queued + running < services.facts.limits.max_active_jobs
        return {
            "store_up": {_ALONE: 1},
            "can_accept_job": {_ALONE: has_room and not services.work.draining},
            "jobs": {("queued",): queued, ("running",): running},
            "sessions": {_ALONE: sessions},
            "stored_bytes": {_ALONE: stored},
        }

    def of_work(self) -> Mapping[str, Values]:
        """Ask who orders the work, and who talks to callers."""
        machinery, services = self._machinery, self._machinery.services
        closed = {entry.gate.name for entry in machinery.gates.closed}
        return {
            "info": {(version("videoprocess"),): 1},
            "gate_closed": {(kind.name,): kind.name in closed for kind in GATES},
            "parked_jobs": {_ALONE: machinery.scheduler.parked_count()},
            "parked_bytes": {_ALONE: machinery.scheduler.parked_bytes()},
            "subscriptions": {_ALONE: services.hub.subscription_count()},
            "uploads_open": {_ALONE: services.uploads.writing_count},
        }

    def of_workers(self) -> Mapping[str, Values]:
        """Ask the kernel about the worker processes."""
        used = {slot.value: usage for slot, usage in self._machinery.executor.usage().items()}
        return {
            "workers": {
                (slot, state): count
                for slot, usage in used.items()
                for state, count in (
                    ("running", usage.running),
                    ("frozen", usage.frozen),
                    ("idle", max(0, usage.processes - usage.running - usage.frozen)),
                )
            },
            "worker_resident_bytes": {(slot,): usage.resident_bytes for slot, usage in used.items()},
            "worker_cpu_seconds_total": {(slot,): usage.cpu_seconds for slot, usage in used.items()},
        }

    def of_disk(self) -> Mapping[str, Values]:
        """Ask for the data directory's disk."""
        machine = self._machinery.machine
        return {
            "disk_free_bytes": {_ALONE: machine.disk_free_bytes()},
            "disk_total_bytes": {_ALONE: machine.disk_total_bytes()},
        }
