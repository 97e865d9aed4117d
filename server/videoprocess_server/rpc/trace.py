"""The trace that a call belongs to: the caller's, or a new one."""

from __future__ import annotations

from collections.abc import Iterable

from videoprocess_server.model.trace_context import TraceContext, new_trace, parse_traceparent

HEADER = "traceparent"


def trace_of(headers: Iterable[tuple[str, str | bytes]] | None) -> TraceContext:
    """Return the place of a call's span. Of several headers none counts, nor does one that says nothing."""
    told = [value for name, value in headers or () if name == HEADER and isinstance(value, str)]
    caller = parse_traceparent(told[0]) if len(told) == 1 else None
    return caller.child() if caller is not None else new_trace()
