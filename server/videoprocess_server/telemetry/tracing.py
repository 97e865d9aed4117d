"""Sends spans to an OpenTelemetry collector. The only place that knows OpenTelemetry; loaded where traces are asked for."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from contextlib import suppress

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import SpanKind as OtelKind

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.job_times import times_of
from videoprocess_server.model.records import Job
from videoprocess_server.model.spans import Span, SpanKind, Value
from videoprocess_server.model.trace_context import parse_traceparent

log = structlog.get_logger(__name__)

SERVICE_NAME = "videoprocess"
#: spans that wait to be sent; what comes beyond is dropped
MAX_WAITING_SPANS = 4096
MAX_BATCH_SPANS = 512
SEND_EVERY_SECONDS = 2.0
#: for a batch; and for what is left when the service stops
SEND_SECONDS = 5.0
CLOSE_SECONDS = 6.0
_MILLISECONDS = 1000
_NANOSECONDS_PER_MICROSECOND = 1000

_KINDS: Mapping[SpanKind, OtelKind] = {
    SpanKind.SERVER: OtelKind.SERVER,
    SpanKind.INTERNAL: OtelKind.INTERNAL,
}


class _GivenIds(IdGenerator):
    """Gives the ids that a span has already."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_span_id(self) -> int:
        """Return that of the span."""
        return self.span_id

    def generate_trace_id(self) -> int:
        """Return that of its trace."""
        return self.trace_id


class Traces:
    """A SpanSink whose spans go to a collector, in batches, from a thread of its own.

    Args:
        endpoint: URL of the collector's OTLP over gRPC; https: with TLS.
        share: of the traces that begin here, how many are kept, 0 to 1. Of a caller's trace the caller decides.
        version: of the service.
    """

    def __init__(self, endpoint: str, share: float, version: str) -> None:
        self._endpoint = endpoint
        self._share = share
        self._version = version
        self._ids = _GivenIds()
        self._lock = threading.Lock()
        self._provider: TracerProvider | None = None

    def open(self) -> None:
        """Begin to send; what was recorded before is dropped. gRPC has threads from here on."""
        exporter = OTLPSpanExporter(
            endpoint=self._endpoint, insecure=not self._endpoint.startswith("https:"), timeout=SEND_SECONDS
        )
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": SERVICE_NAME, "service.version": self._version}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=MAX_WAITING_SPANS,
                schedule_delay_millis=SEND_EVERY_SECONDS * _MILLISECONDS,
                max_export_batch_size=MAX_BATCH_SPANS,
            )
        )
        self._provider = provider

    def keeps_new_trace(self) -> bool:
        """See `SpanSink`."""
        return random.random() < self._share  # noqa: S311 - nothing is guessed from it

    def record(self, span: Span) -> None:
        """See `SpanSink`."""
        if not span.context.sampled:
            return
        try:
            self._send(span)
        except Exception:
            log.exception("span_lost", span=span.name)

    def job_ended(self, job: Job) -> None:
        """Record the span of a job whose end is durable: it began when the job was accepted, whatever died in between."""
        context = parse_traceparent(job.traceparent)
        if context is None or job.end_time_us is None:
            return
        times = times_of(job, job.end_time_us)
        self.record(
            Span(
                name="job",
                context=context,
                parent_span_id=job.caller_span_id,
                start_ns=job.create_time_us * _NANOSECONDS_PER_MICROSECOND,
                end_ns=max(job.create_time_us, job.end_time_us) * _NANOSECONDS_PER_MICROSECOND,
                attributes={
                    "job_id": job.job_id,
                    "state": job.state.value,
                    "waiting_seconds": times.waiting_us / MICROSECONDS_PER_SECOND,
                    "running_seconds": times.running_us / MICROSECONDS_PER_SECOND,
                    "paused_seconds": times.paused_us / MICROSECONDS_PER_SECOND,
                    **_of_result(job),
                },
                error=job.fault.reason if job.fault else "",
            )
        )

    def close(self) -> None:
        """Send what waits, as far as the time allows."""
        closing = threading.Thread(target=self._close, name="traces-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _close(self) -> None:
        with suppress(Exception):
            if self._provider is not None:
                self._provider.shutdown()

    def _send(self, span: Span) -> None:
        if self._provider is None:
            return
        trace_id, span_id = int(span.context.trace_id, 16), int(span.context.span_id, 16)
        around = None
        if span.parent_span_id:
            parent = SpanContext(
                trace_id,
                int(span.parent_span_id, 16),
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
            around = set_span_in_context(NonRecordingSpan(parent))
        with self._lock:
            self._ids.trace_id, self._ids.span_id = trace_id, span_id
            sent = self._provider.get_tracer(SERVICE_NAME, self._version).start_span(
                span.name,
                context=around,
                kind=_KINDS[span.kind],
                attributes=dict(span.attributes),
                start_time=span.start_ns,
            )
        if span.error:
            sent.set_status(Status(StatusCode.ERROR, span.error))
        sent.end(span.end_ns)


def _of_result(job: Job) -> Mapping[str, Value]:
    if job.report is None:
        return {}
    return {
        "segments": job.report.segment_count,
        "reused_segments": job.report.reused_segment_count,
        "frames": job.report.frame_count,
    }
