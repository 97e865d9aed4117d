"""Adds up what the engine and the calls tell, and reads the rest when a scrape asks. The only place that knows Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from videoprocess_server.engine.faults import Cause
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.job_times import times_of
from videoprocess_server.model.records import Job, Phase
from videoprocess_server.telemetry.metric_table import COUNTED, READ, Kind

log = structlog.get_logger(__name__)

#: values of a metric's labels, in its order → its value
Values = Mapping[Sequence[str], float]
#: reads the values of several metrics, by name, in one go; a metric that cannot be told is left out
Reading = Callable[[], Mapping[str, Values]]

_MAKERS: Mapping[Kind, Any] = {Kind.COUNTER: Counter, Kind.GAUGE: Gauge, Kind.HISTOGRAM: Histogram}
_FAMILIES: Mapping[Kind, Any] = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily}


class Metrics:
    """All metrics of this service, in a registry of its own. Implements the engine's `Recorder` and the calls' `CallRecorder`."""

    def __init__(self) -> None:
        # they would be a metric more for each
        disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types
        self._registry = CollectorRegistry()
        self._scraping = threading.Lock()
        self._readings: tuple[Reading, ...] = ()
        self._counted: dict[str, Any] = {}
        for row in COUNTED:
            more = {"buckets": row.buckets} if row.buckets else {}
            self._counted[row.name] = _MAKERS[row.kind](
                row.full_name, row.help, row.labels, registry=self._registry, **more
            )
        self._registry.register(_OnDemand(self._read))
        ProcessCollector(registry=self._registry)

    def watch(self, *readings: Reading) -> None:
        """Read these at each scrape from now on."""
        self._readings = readings

    def scrape(self) -> bytes:
        """Return all metrics in Prometheus' text format; one scrape at a time."""
        with self._scraping:
            return generate_latest(self._registry)

    # -- what the engine tells

    def job_ended(self, job: Job) -> None:
        """See `Recorder`."""
        self._add("jobs_ended_total", job.state.value, job.fault.reason if job.fault else "")
        times = times_of(job, job.end_time_us or job.create_time_us)
        for name, spent_us in (
            ("job_waiting_seconds", times.waiting_us),
            ("job_running_seconds", times.running_us),
            ("job_paused_seconds", times.paused_us),
        ):
            self._counted[name].observe(spent_us / MICROSECONDS_PER_SECOND)

    def stage_ended(self, phase: Phase, wall_seconds: float, cpu_seconds: float) -> None:
        """See `Recorder`."""
        self._add("stage_seconds_total", phase.value, amount=wall_seconds)
        self._add("stage_cpu_seconds_total", phase.value, amount=cpu_seconds)

    def segment_finished(self, phase: Phase, size_bytes: int, frame_count: int) -> None:
        """See `Recorder`."""
        self._add("segments_finished_total", phase.value)
        self._add("segment_bytes_total", phase.value, amount=size_bytes)
        self._add("segment_frames_total", phase.value, amount=frame_count)

    def segments_reused(self, phase: Phase, count: int) -> None:
        """See `Recorder`."""
        self._add("segments_reused_total", phase.value, amount=count)

    def segments_redone(self, phase: Phase, count: int) -> None:
        """See `Recorder`."""
        self._add("segments_redone_total", phase.value, amount=count)

    def attempt_failed(self, phase: Phase, cause: Cause) -> None:
        """See `Recorder`."""
        self._add("attempts_failed_total", phase.value, cause.value)

    def work_parked(self) -> None:
        """See `Recorder`."""
        self._add("parkings_total")

    def work_resumed(self) -> None:
        """See `Recorder`."""
        self._add("parkings_resumed_total")

    def work_given_up(self) -> None:
        """See `Recorder`."""
        self._add("parkings_given_up_total")

    def bytes_received(self, count: int) -> None:
        """See `Recorder`."""
        self._add("received_bytes_total", amount=count)

    # -- what the calls tell

    def call_began(self, method: str) -> None:
        """See `CallRecorder`."""
        self._counted["rpc_in_flight"].labels(method.lstrip("/")).inc()

    def call_ended(self, method: str, code: str, reason: str, seconds: float) -> None:
        """See `CallRecorder`."""
        name = method.lstrip("/")
        self._counted["rpc_in_flight"].labels(name).dec()
        self._add("rpc_calls_total", name, code, reason)
        self._counted["rpc_seconds"].labels(name).observe(seconds)

    def bytes_sent(self, count: int) -> None:
        """See `CallRecorder`."""
        self._add("sent_bytes_total", amount=count)

    def _add(self, name: str, *labels: str, amount: float = 1.0) -> None:
        metric = self._counted[name]
        (metric.labels(*labels) if labels else metric).inc(max(0.0, amount))

    def _read(self) -> Mapping[str, Values]:
        found: dict[str, Values] = {}
        for reading in self._readings:
            try:
                found |= reading()
            except Exception:
                log.exception("metrics_not_read")
        return found


class _OnDemand(Collector):
    """The metrics that are read when they are asked for."""

    def __init__(self, read: Callable[[], Mapping[str, Values]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        """Give each metric with the values it has now."""
        found = self._read()
        for row in READ:
            family = _FAMILIES[row.kind](row.full_name, row.help, labels=row.labels)
            for labels, value in found.get(row.name, {}).items():
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterator[Family]:
        """Give no values: at the registration there is nothing to read."""
        return iter(())
