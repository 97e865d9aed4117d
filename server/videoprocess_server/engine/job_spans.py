"""The spans of a driver's work: a turn, its stages, and their tasks. They are the job's that the driver works for just then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from videoprocess_server.execution.executor import TaskHandle
from videoprocess_server.model.records import Job, Phase
from videoprocess_server.model.spans import NOWHERE, Span, SpanSink, Value
from videoprocess_server.model.tasks import Task
from videoprocess_server.model.trace_context import CURRENT_TRACE, TraceContext, parse_traceparent


@dataclass(frozen=True, kw_only=True)
class OpenSpan:
    """A span that has begun."""

    name: str
    context: TraceContext
    parent_span_id: str
    start_ns: int
    attributes: dict[str, Value]

    def ended(self, error: str = "") -> Span:
        """Return it as it is when it ends now."""
        return Span(
            name=self.name,
            context=self.context,
            parent_span_id=self.parent_span_id,
            start_ns=self.start_ns,
            end_ns=time.time_ns(),
            attributes=self.attributes,
            error=error,
        )


def _begin(name: str, parent: TraceContext, **attributes: Value) -> OpenSpan:
    return OpenSpan(
        name=name,
        context=parent.child(),
        parent_span_id=parent.span_id,
        start_ns=time.time_ns(),
        attributes=attributes,
    )


class JobSpans:
    """Called by the driver's thread; the ends of tasks come from any.

    Args:
        sink: where they go.
    """

    def __init__(self, sink: SpanSink = NOWHERE) -> None:
        self._sink = sink
        self._turn: OpenSpan | None = None
        self._stage: OpenSpan | None = None
        self._phase = Phase.NONE

    def begin(self, job: Job) -> None:
        """A turn of a job begins; in the stage that an earlier job's turn ended in, if there was one."""
        trace = parse_traceparent(job.traceparent)
        if self._sink is NOWHERE or trace is None or not trace.sampled:
            return
        self._turn = _begin("job turn", trace, job_id=job.job_id)
        if self._phase is not Phase.NONE:
            self.enter(self._phase)

    def enter(self, phase: Phase) -> None:
        """A stage begins, and the one before ends; nothing happens within the same one."""
        if self._stage is not None and self._phase is phase:
            return
        self._phase = phase
        self._close_stage()
        if self._turn is not None:
            self._stage = _begin(f"stage {phase.value}", self._turn.context)

    def end(self, error: str = "") -> None:
        """The turn ends, for good or until another job goes on."""
        self._close_stage(error)
        if self._turn is not None:
            self._sink.record(self._turn.ended(error))
            self._turn = None

    @contextmanager
    def submitting(self, task: Task) -> Iterator[OpenSpan | None]:
        """Submit a task in here, which so becomes part of the stage; `task_ended` follows."""
        around = self._stage or self._turn
        if around is None:
            yield None
            return
        span = _begin(f"task {type(task).__name__}", around.context)
        token = CURRENT_TRACE.set(span.context)
        try:
            yield span
        finally:
            CURRENT_TRACE.reset(token)

    def task_ended(self, span: OpenSpan, ended: TaskHandle) -> None:
        """A task has ended, one way or another."""
        try:
            ended.result()
        except Exception as error:  # noqa: BLE001 - whatever became of it is told
            self._sink.record(span.ended(f"{type(error).__name__}: {error}"))
        else:
            self._sink.record(span.ended())

    def _close_stage(self, error: str = "") -> None:
        if self._stage is not None:
            self._sink.record(self._stage.ended(error))
            self._stage = None
