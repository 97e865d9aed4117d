"""W3C Trace Context, as headers and rows carry it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.model.trace_context import new_trace, parse_traceparent
from videoprocess_server.rpc.trace import trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_a_header_is_read(flags: str, sampled: bool) -> None:
    found = parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}")
    assert found is not None
    assert (TRACE, SPAN, sampled) == (found.trace_id, found.span_id, found.sampled)


def test_a_later_versions_header_is_read_as_far_as_it_is_known() -> None:
    found = parse_traceparent(f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like")
    assert found is not None
    assert found.trace_id == TRACE


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01-{'x' * 600}",
    ],
)
def test_what_is_none_is_not(text: str) -> None:
    assert parse_traceparent(text) is None
    made = trace_of([("traceparent", text)])
    assert made.parent_span_id == ""
    assert made.context.trace_id != TRACE
    assert not made.context.sampled  # nobody here keeps it


@given(st.booleans())
def test_what_is_written_is_read_again(sampled: bool) -> None:
    trace = new_trace(sampled=sampled)
    assert parse_traceparent(trace.traceparent) == trace
    assert (trace.trace_id, trace.sampled) == (trace.child().trace_id, trace.child().sampled)
    assert trace.span_id != trace.child().span_id


@given(st.text(max_size=80))
def test_whatever_comes_is_read_or_is_none(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or found.trace_id in text


def test_of_several_headers_none_counts() -> None:
    headers = [("traceparent", f"00-{TRACE}-{SPAN}-01")] * 2
    assert trace_of(headers).context.trace_id != TRACE
    one = trace_of([*headers[:1], ("other", "x"), ("bytes-bin", b"\xff")])
    assert (TRACE, SPAN) == (one.context.trace_id, one.parent_span_id)
