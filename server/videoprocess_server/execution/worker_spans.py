"""What a worker tells of the time that its task took. It opens no connection: the service passes its spans on, if they are fit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from videoprocess_server.model.spans import Span, Value
from videoprocess_server.model.tasks import SegmentDone, Task, TaskMessage
from videoprocess_server.model.trace_context import TraceContext

#: of one task; what comes beyond is not told
MAX_SPANS = 1024
_MAX_TEXT_CHARACTERS = 128
_MAX_ATTRIBUTES = 16
#: what OTLP's whole numbers hold
_MOST_WHOLE = 2**63 - 1
#: by which a worker's clock may seem to differ from its service's, which is the same clock
_SLACK_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What comes to a worker before a task whose trace somebody keeps: the place that its spans belong to."""

    traceparent: str


@dataclass(frozen=True, kw_only=True)
class TaskSpans:
    """What comes back before the task's answer."""

    spans: tuple[Span, ...]


class SpanBook:
    """Notes a task's spans in the worker: the task, and each segment that it finishes.

    Args:
        parent: the place of the service's own span of the task.
        task: that begins now.
    """

    def __init__(self, parent: TraceContext, task: Task) -> None:
        self._parent = parent
        self._context = parent.child()
        self._name = f"worker {type(task).__name__}"
        self._start_ns = self._since_ns = time.time_ns()
        self._cpu_seconds = time.process_time()
        self._spans: list[Span] = []

    def told(self, message: TaskMessage) -> None:
        """Note what the task tells: the time up to a finished segment is that segment's."""
        if not isinstance(message, SegmentDone) or len(self._spans) >= MAX_SPANS - 1:
            return
        now_ns = time.time_ns()
        self._spans.append(
            Span(
                name="segment",
                context=self._context.child(),
                parent_span_id=self._context.span_id,
                start_ns=self._since_ns,
                end_ns=now_ns,
                attributes={
                    "index": message.index,
                    "frames": message.frame_count,
                    "bytes": message.size_bytes,
                },
            )
        )
        self._since_ns = now_ns

    def close(self, error: str = "") -> TaskSpans:
        """Return all spans; the task has its answer."""
        attributes: dict[str, Value] = {
            "pid": os.getpid(),
            "cpu_seconds": time.process_time() - self._cpu_seconds,
        }
        whole = Span(
            name=self._name,
            context=self._context,
            parent_span_id=self._parent.span_id,
            start_ns=self._start_ns,
            end_ns=time.time_ns(),
            attributes=attributes,
            error=error,
        )
        return TaskSpans(spans=(whole, *self._spans))


def fit_spans(told: TaskSpans, trace: TraceContext, began_ns: int) -> Iterator[Span]:
    """Give what of a worker's spans may be passed on: it reads media of strangers, and is not believed more than it must be.

    Args:
        told: by the worker.
        trace: of its task.
        began_ns: when that began.
    """
    until_ns = time.time_ns() + _SLACK_NS
    for span in told.spans[:MAX_SPANS]:
        if (
            (span.context.trace_id, span.context.sampled) == (trace.trace_id, True)
            and _is_id(span.context.span_id)
            and _is_id(span.parent_span_id)
            and began_ns - _SLACK_NS <= span.start_ns <= span.end_ns <= until_ns
            and len(span.attributes) <= _MAX_ATTRIBUTES
            and _are_short([span.name, span.error, *span.attributes])
            and _are_short([value for value in span.attributes.values() if isinstance(value, str)])
            and all(abs(value) <= _MOST_WHOLE for value in span.attributes.values() if isinstance(value, int))
        ):
            yield span


def _is_id(text: str) -> bool:
    return len(text) == 16 and set(text) <= set("0123456789abcdef") and text.strip("0") != ""


def _are_short(texts: Sequence[str]) -> bool:
    return all(len(text) <= _MAX_TEXT_CHARACTERS and text.isprintable() for text in texts)
