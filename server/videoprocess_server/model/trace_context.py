"""Where in a trace something belongs: the ids of W3C Trace Context, which log lines and spans carry."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, replace

#: of version 00; a later version may have more parts after these
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_SAMPLED = 1
MAX_CHARACTERS = 512


@dataclass(frozen=True, kw_only=True)
class TraceContext:
    """A span's place."""

    #: 32 lower-case hex digits, not all 0
    trace_id: str
    #: 16 lower-case hex digits, not all 0
    span_id: str
    #: whether anybody keeps the trace
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        """As headers carry it."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    def child(self) -> TraceContext:
        """Return the place of a new span of the same trace."""
        return replace(self, span_id=secrets.token_hex(_SPAN_ID_BYTES))


def new_trace(*, sampled: bool = True) -> TraceContext:
    """Return the place of a first span."""
    return TraceContext(
        trace_id=secrets.token_hex(_TRACE_ID_BYTES),
        span_id=secrets.token_hex(_SPAN_ID_BYTES),
        sampled=sampled,
    )


def parse_traceparent(text: str) -> TraceContext | None:
    """Read what a header carries; None for what is none."""
    found = _TRACEPARENT.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if found is None or (text.startswith("00-") and found[4]):
        return None
    return TraceContext(trace_id=found[1], span_id=found[2], sampled=bool(int(found[3], 16) & _SAMPLED))


#: of whatever this thread or task does
CURRENT_TRACE: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
