"""The one interceptor: calls are counted, their errors become statuses, log lines know their call, each is logged once."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.spans import NOWHERE, Span, SpanKind, SpanSink
from videoprocess_server.model.trace_context import CURRENT_TRACE
from videoprocess_server.rpc.admission import Admission, Entry
from videoprocess_server.rpc.auth.guard import Guard
from videoprocess_server.rpc.call_limits import NEVER_LIMITED
from videoprocess_server.rpc.call_recorder import SILENT_CALLS, CallRecorder
from videoprocess_server.rpc.caller import Context
from videoprocess_server.rpc.convert.fields import invalid
from videoprocess_server.rpc.hang_up import hang_up
from videoprocess_server.rpc.refusal_log import RefusalLog
from videoprocess_server.rpc.status import as_catalogued, grpc_status, internal
from videoprocess_server.rpc.trace import CallTrace, trace_of

log = structlog.get_logger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Parse: TypeAlias = Callable[[bytes], Any]
Messages: TypeAlias = AsyncIterator[bytes]

#: fields of requests that log lines carry
LOGGED_FIELDS = ("user_id", "session_id", "video_id", "upload_id", "artifact_id", "request_id")
#: and of answers
ANSWERED_FIELDS = ("job_id",)
MAX_LOGGED_CHARACTERS = 64  # of a caller's text
INCIDENT_BYTES = 8

#: tasks that nobody else keeps
_hanging_up: set[asyncio.Task[bool]] = set()


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of every service.

    Args:
        guard: lets calls in, before anything of their requests is read.
        admission: counts them, and knows how long they may take.
        recorder: told of each.
        spans: gets one of each, but of probes.
    """

    def __init__(
        self,
        guard: Guard,
        admission: Admission,
        recorder: CallRecorder = SILENT_CALLS,
        spans: SpanSink = NOWHERE,
    ) -> None:
        self._guard = guard
        self._admission = admission
        self._refusals = RefusalLog(time.monotonic)
        self._recorder = recorder
        self._spans = spans

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler, wrapped; None where there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        # the stubs know the synchronous shapes only
        behaviour: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        parse: Any = handler.request_deserializer
        method = _Method(
            handler_call_details.method,
            behaviour,
            parse,
            handler.response_serializer,
            bool(handler.request_streaming),
            self._guard,
            self._admission,
            self._refusals,
            self._recorder,
            self._spans,
        )
        # Every request is a stream of bytes here. gRPC would wait for a single message for ever, before anybody is asked;
        # and would answer what does not parse with UNKNOWN, or break the call in its middle.
        wrapped: Handler = (
            grpc.stream_stream_rpc_method_handler(method.stream, None, handler.response_serializer)
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler(method.answer, None, None)
        )
        return wrapped


@dataclass(frozen=True)
class _Method:
    """Serves the calls of one method."""

    name: str
    behaviour: Any
    parse: Parse
    serialize: Any
    streams_requests: bool
    guard: Guard
    admission: Admission
    refusals: RefusalLog
    recorder: CallRecorder
    spans: SpanSink

    async def answer(self, messages: Messages, context: Context) -> bytes:
        """Serve a call with one answer."""
        async with self._entered(context, streams=self.streams_requests) as (entry, caller):
            made = await self.behaviour(await self._request(messages, entry, caller), context)
            _name(made, ANSWERED_FIELDS)
            answer: bytes = self.serialize(made)
        return answer

    async def stream(self, messages: Messages, context: Context) -> None:
        """Serve a call with a stream of answers."""
        async with self._entered(context, streams=True) as (entry, caller):
            answers = self.behaviour(await self._request(messages, entry, caller), context)
            if inspect.isawaitable(answers):
                await answers
                return
            # closed here and now, so that a cancelled call gives back what it holds
            async with aclosing(answers):
                async for answer in answers:
                    await self._write(context, answer)

    @asynccontextmanager
    async def _entered(self, context: Context, *, streams: bool) -> AsyncIterator[tuple[Entry, Caller]]:
        """Let the call in, and end it with a status if it raises or takes too long."""
        limits = self.admission.limits
        try:
            async with _watched(self, context):
                headers = context.invocation_metadata() or ()
                with self.admission.entered(self.name, context.peer(), headers) as entry:
                    seconds = limits.seconds_of(self.name, streams=streams)
                    async with (
                        self.guard.entered(self.name, context) as caller,
                        _in_time(seconds, "the call"),
                    ):
                        yield entry, caller
        finally:
            _bound_last_answer(limits.write_seconds, context.peer())

    async def _request(self, messages: Messages, entry: Entry, caller: Caller) -> Any:  # noqa: ANN401 - any message
        """Return what the behaviour gets: a message, or an iterator of messages."""
        async with _in_time(self.admission.limits.request_seconds, "its request"):
            data = await anext(aiter(messages), None)
        if data is None and not self.streams_requests:
            raise invalid("request", "is not there")
        first = None if data is None else _parsed(self.parse, data)
        if first is not None:
            _name(first)
            await self.admission.admit(entry, self.name, caller, first)
        return self._each_parsed(first, messages) if self.streams_requests else first

    async def _each_parsed(self, first: Any, messages: Messages) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
        if first is not None:
            yield first
            async for data in messages:
                yield _parsed(self.parse, data)

    async def _write(self, context: Context, answer: Any) -> None:  # noqa: ANN401 - any message
        seconds = self.admission.limits.write_seconds
        try:
            async with asyncio.timeout(seconds):
                await context.write(answer)
        except TimeoutError:
            log.warning("reader_dropped", seconds=seconds)
            await hang_up(context.peer())
            # no status reaches who takes no message
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)  # where the cancellation arrives


def _bound_last_answer(seconds: float, peer: str) -> None:
    """Hang up on the peer if it does not take what ends this call, which gRPC sends from now on."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def begin() -> None:
        log.warning("reader_dropped", seconds=seconds)
        hanging_up = loop.create_task(hang_up(peer))
        _hanging_up.add(hanging_up)
        hanging_up.add_done_callback(_hanging_up.discard)

    timer = loop.call_later(seconds, begin)
    task.add_done_callback(lambda _: timer.cancel())


@asynccontextmanager
async def _in_time(seconds: float | None, what: str) -> AsyncIterator[None]:
    """Bound what is done in here."""
    try:
        async with asyncio.timeout(seconds) as bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        raise VideoProcessError("CALL_TIMEOUT", f"{what} took longer than {seconds:g} s") from None


def _parsed(parse: Parse, message: bytes) -> Any:  # noqa: ANN401 - any message
    try:
        return parse(message)
    except DecodeError as error:
        raise invalid("request", "does not parse, or has text that is not UTF-8") from error


@asynccontextmanager
async def _watched(method: _Method, context: Context) -> AsyncIterator[None]:
    """Log, count and trace the call, and end it with a status if it raises."""
    trace = trace_of(context.invocation_metadata(), method.spans)
    CURRENT_TRACE.set(trace.context)
    structlog.contextvars.bind_contextvars(method=method.name, trace_id=trace.context.trace_id)
    began, began_ns = time.monotonic(), time.time_ns()
    method.recorder.call_began(method.name)

    def ended(code: str, reason: str = "") -> float:
        seconds = time.monotonic() - began
        method.recorder.call_ended(method.name, code, reason, seconds)
        if method.name not in NEVER_LIMITED:
            method.spans.record(_span(method.name, trace, began_ns, code, reason))
        return round(seconds, 6)

    try:
        try:
            yield
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            # not this call, but something that it waited for: gRPC would leave the client without an answer
            raise RuntimeError("what the call waited for was cancelled") from error
    except asyncio.CancelledError:
        log.debug("rpc", code="CANCELLED", seconds=ended("CANCELLED"))
        raise
    except grpc.aio.BaseError as error:
        # somebody aborted already, or the peer is gone
        log.info("rpc", code="ENDED", error=type(error).__name__, seconds=ended("ENDED"))
        raise
    except Exception as error:
        known = as_catalogued(error)
        if known.reason == "INTERNAL":
            # a number is all that the caller learns
            incident = secrets.token_hex(INCIDENT_BYTES)
            log.exception("rpc_broke", incident=incident)
            known = internal(incident)
        code = known.row.status.name
        method.refusals.tell(
            code=code, reason=known.reason, message=known.message[:200], seconds=ended(code, known.reason)
        )
        await context.abort_with_status(grpc_status(known))
    else:
        log.debug("rpc", code="OK", seconds=ended("OK"))


def _span(method: str, trace: CallTrace, began_ns: int, code: str, reason: str) -> Span:
    names = structlog.contextvars.get_contextvars()
    return Span(
        name=method.lstrip("/"),
        context=trace.context,
        parent_span_id=trace.parent_span_id,
        start_ns=began_ns,
        end_ns=time.time_ns(),
        kind=SpanKind.SERVER,
        attributes={
            "rpc.system": "grpc",
            "rpc.code": code,
            **{name: str(names[name]) for name in ("session_id", "job_id", "upload_id") if name in names},
        },
        error=reason,
    )


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _name(message: Any, fields: tuple[str, ...] = LOGGED_FIELDS) -> None:  # noqa: ANN401 - any message
    """Name what a request or an answer is about in the call's log lines."""
    found = {name: getattr(message, name, "") for name in fields}
    structlog.contextvars.bind_contextvars(
        **{
            name: value[:MAX_LOGGED_CHARACTERS] if isinstance(value, str) else value
            for name, value in found.items()
            if value != "" and isinstance(value, (str, int))
        }
    )
