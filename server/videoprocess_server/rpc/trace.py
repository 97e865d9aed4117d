"""The trace that a call belongs to: the caller's, or a new one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from videoprocess_server.model.spans import NOWHERE, SpanSink
from videoprocess_server.model.trace_context import TraceContext, new_trace, parse_traceparent

HEADER = "traceparent"


@dataclass(frozen=True, kw_only=True)
class CallTrace:
    """Where a call's span belongs."""

    context: TraceContext
    #: of the caller; "" where the trace begins here
    parent_span_id: str = ""


def trace_of(headers: Iterable[tuple[str, str | bytes]] | None, sink: SpanSink = NOWHERE) -> CallTrace:
    """Return the place of a call's span. Of several headers none counts, nor does one that says nothing."""
    told = [value for name, value in headers or () if name == HEADER and isinstance(value, str)]
    caller = parse_traceparent(told[0]) if len(told) == 1 else None
    if caller is None:
        return CallTrace(context=new_trace(sampled=sink.keeps_new_trace()))
    return CallTrace(context=caller.child(), parent_span_id=caller.span_id)
