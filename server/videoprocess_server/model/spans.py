"""Spans of traces, ended: what took how long, and what it was part of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from videoprocess_server.model.trace_context import TraceContext

#: what a span may say about itself
Value = str | int | float | bool


class SpanKind(Enum):
    """Whose doing the span is."""

    #: a call of somebody else's
    SERVER = "server"
    INTERNAL = "internal"


@dataclass(frozen=True, kw_only=True)
class Span:
    """One thing that was done. Times are nanoseconds since the Unix epoch."""

    name: str
    context: TraceContext
    #: "" of a trace's first span
    parent_span_id: str
    start_ns: int
    end_ns: int
    kind: SpanKind = SpanKind.INTERNAL
    attributes: dict[str, Value] = field(default_factory=dict)
    #: why it failed; "" where it did not
    error: str = ""


class SpanSink(Protocol):
    """Takes spans, from any thread. It never raises and never waits; what it has no room for it drops."""

    def keeps_new_trace(self) -> bool:
        """Return whether the spans of a trace that begins here are to be kept."""
        ...

    def record(self, span: Span) -> None:
        """Keep a span, if its context says so."""
        ...


class Nowhere:
    """A SpanSink that keeps nothing."""

    def keeps_new_trace(self) -> bool:
        """See `SpanSink`."""
        return False

    def record(self, span: Span) -> None:
        """See `SpanSink`."""


#: where nobody traces
NOWHERE: SpanSink = Nowhere()
