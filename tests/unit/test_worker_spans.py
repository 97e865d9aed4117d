"""What a worker tells of its time is passed on where it can be true, and only then."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from videoprocess_server.execution.codec import decode, encode
from videoprocess_server.execution.worker_spans import MAX_SPANS, SpanBook, TaskSpans, Traced, fit_spans
from videoprocess_server.model.spans import Span
from videoprocess_server.model.tasks import DescribeTask, Progress, SegmentDone
from videoprocess_server.model.trace_context import TraceContext, new_trace

TRACE = new_trace()


def _done(index: int) -> SegmentDone:
    return SegmentDone(
        index=index,
        path="p",
        size_bytes=7,
        sha256="",
        frame_count=3,
        input_sha256="",
        parameter_sets_sha256="",
    )


def _told(error: str = "") -> TaskSpans:
    book = SpanBook(TRACE, DescribeTask())
    for message in (Progress(frames=1, bytes=1), _done(4), Progress(frames=1, bytes=1), _done(5)):
        book.told(message)
    return book.close(error)


def _began_ns() -> int:
    return time.time_ns()


def test_a_task_and_its_segments_come_back_as_they_were() -> None:
    began = _began_ns()
    told = _told("NOT_A_VIDEO")
    assert decode(encode(told)) == told
    assert decode(encode(Traced(traceparent=TRACE.traceparent))) == Traced(traceparent=TRACE.traceparent)
    task, *segments = fit_spans(told, TRACE, began)
    assert ("worker DescribeTask", TRACE.span_id, "NOT_A_VIDEO") == (
        task.name,
        task.parent_span_id,
        task.error,
    )
    assert [4, 5] == [one.attributes["index"] for one in segments]
    assert {task.context.span_id} == {one.parent_span_id for one in segments}
    assert segments[0].end_ns == segments[1].start_ns


def _other(context: TraceContext, **changes: Any) -> TraceContext:
    return replace(context, **changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, context=_other(one.context, trace_id="1" * 32)),
        lambda one: replace(one, context=_other(one.context, span_id="0" * 16)),
        lambda one: replace(one, context=_other(one.context, span_id="x" * 16)),
        lambda one: replace(one, context=_other(one.context, sampled=False)),
        lambda one: replace(one, parent_span_id=""),
        lambda one: replace(one, start_ns=one.end_ns + 1),
        lambda one: replace(one, start_ns=0),
        lambda one: replace(one, end_ns=one.end_ns + 10**12),
        lambda one: replace(one, name="n" * 129),
        lambda one: replace(one, name="\x1b[2J"),
        lambda one: replace(one, error="e" * 129),
        lambda one: replace(one, attributes={"a": "v" * 129}),
        lambda one: replace(one, attributes={"k" * 129: 1}),
        lambda one: replace(one, attributes={str(number): 1 for number in range(17)}),
    ],
)
def test_what_cannot_be_true_is_dropped(change: Any) -> None:
    began = _began_ns()
    told = _told()
    assert len(told.spans) == len(list(fit_spans(told, TRACE, began)))
    forged: Span = change(told.spans[0])
    kept = list(fit_spans(TaskSpans(spans=(forged, *told.spans[1:])), TRACE, began))
    assert list(told.spans[1:]) == kept


def test_there_is_an_end_of_them() -> None:
    began = _began_ns()
    book = SpanBook(TRACE, DescribeTask())
    for index in range(2 * MAX_SPANS):
        book.told(_done(index))
    told = book.close()
    assert MAX_SPANS == len(told.spans)
    assert MAX_SPANS == len(list(fit_spans(TaskSpans(spans=told.spans * 2), TRACE, began)))
