"""Every wait of a call ends, and nothing internal leaves the service: a server of toy methods, its limits short."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf import wrappers_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from raw_http2 import DATA, HEADERS, RawConnection, begin, call, count
from service_harness import refused
from videoprocess_server.engine.authorisation import Caller, TrustLocalCallers
from videoprocess_server.errors import CATALOGUE, VideoProcessError
from videoprocess_server.rpc.admission import Admission
from videoprocess_server.rpc.call_limits import CallLimits
from videoprocess_server.rpc.caller import calling
from videoprocess_server.rpc.hang_up import hang_up
from videoprocess_server.rpc.hardened_server import hardened_server
from videoprocess_server.rpc.interceptor import StatusInterceptor
from videoprocess_server.rpc.rate_limits import Rate
from videoprocess_server.store.repository import StoreUnavailableError

Code = grpc.StatusCode
Text = wrappers_pb2.BytesValue
Behaviour = Callable[[Any, Any], Any]
SECRETS = (
    "/var/lib/secret",
    "Traceback",
    "sqlite",
    "secret_table",
    "OperationalError",
    "TypeError",
    "KeyError",
    "0x7f",
    ".py",
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Tracebacks for people take long to draw."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class OpenGuard:
    """Lets everybody in."""

    @asynccontextmanager
    async def entered(self, method: str, context: Any) -> AsyncIterator[Caller]:
        caller = Caller(peer=context.peer())
        with calling(caller):
            yield caller


@dataclass
class Toy:
    """A running server, and a channel to it."""

    address: str
    channel: grpc.aio.Channel
    admission: Admission

    async def ask(self, data: bytes = b"", method: str = "/toy/Answer") -> bytes:
        return (
            await self.channel.unary_unary(method, Text.SerializeToString, Text.FromString)(Text(value=data))
        ).value


@asynccontextmanager
async def toy(answer: Behaviour, stream: Behaviour | None = None, **limits: Any) -> AsyncIterator[Toy]:
    async def find_owner(session_id: str) -> None:
        return None

    short = replace(CallLimits(request_seconds=0.3, call_seconds=0.5, write_seconds=0.3), **limits)
    admission = Admission(short, TrustLocalCallers(), find_owner, time.monotonic)
    server = hardened_server((StatusInterceptor(OpenGuard(), admission),), (), 1000)  # type: ignore[arg-type]
    handlers = {
        "Answer": grpc.unary_unary_rpc_method_handler(answer, Text.FromString, Text.SerializeToString),
        "Stream": grpc.unary_stream_rpc_method_handler(
            stream or answer, Text.FromString, Text.SerializeToString
        ),
    }
    server.add_registered_method_handlers("toy", handlers)  # type: ignore[attr-defined]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Toy(address, channel, admission)
    finally:
        await server.stop(0)


async def echo(request: Any, context: Any) -> Any:
    return request


async def test_a_call_that_never_sends_its_request_ends() -> None:
    async with toy(echo, request_seconds=0.5, call_seconds=5.0) as service:
        with RawConnection(service.address) as connection:
            connection.send(b"".join(begin("/toy/Answer", 1 + 2 * index) for index in range(50)))
            frames = await asyncio.to_thread(connection.read, 1.0)
            assert any(b"its request took longer" in found.payload for found in frames)
            assert len({found.stream for found in frames if found.kind == HEADERS}) == 50
        assert not service.admission._running
        assert await service.ask(b"after") == b"after"


async def test_half_a_message_is_not_waited_for_either() -> None:
    async with toy(echo) as service:
        with RawConnection(service.address) as connection:
            connection.send(call("/toy/Answer", 1, b"\0\0\0\xff\xff" + b"x" * 1000)[:-500])
            await asyncio.sleep(0.6)
        assert not service.admission._running
        assert await service.ask(b"after") == b"after"


async def test_no_request_at_all_is_told_so() -> None:
    async with toy(echo) as service:

        async def nothing() -> AsyncIterator[bytes]:
            return
            yield

        refusal = await refused(service.channel.stream_unary("/toy/Answer")(nothing()))
        assert (refusal.status, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_a_call_without_a_deadline_ends_all_the_same() -> None:
    async def hang(request: Any, context: Any) -> Any:
        await asyncio.sleep(3600)

    async with toy(hang) as service:
        begin_seconds = time.monotonic()
        refusal = await refused(service.ask())
        assert time.monotonic() - begin_seconds < 5
        assert (refusal.status, refusal.reason, refusal.cam_ret_code) == (
            Code.UNAVAILABLE,
            "CALL_TIMEOUT",
            -1,
        )
        assert not service.admission._running


async def test_a_method_may_have_more_time() -> None:
    async def slow(request: Any, context: Any) -> Any:
        await asyncio.sleep(0.8)
        return request

    async with toy(slow, seconds_of_method={"/toy/Answer": 5.0}) as service:
        assert await service.ask(b"x") == b"x"


async def test_a_stream_has_no_deadline() -> None:
    async def ticks(request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(4):
            await asyncio.sleep(0.3)
            yield request

    async with toy(echo, ticks) as service:
        stream = service.channel.unary_stream("/toy/Stream", Text.SerializeToString, Text.FromString)
        assert len([answer async for answer in stream(Text())]) == 4


async def test_what_a_call_waits_for_being_cancelled_is_answered() -> None:
    async def given_up(request: Any, context: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.cancel()
        return await asyncio.wrap_future(future)

    async with toy(given_up) as service:
        refusal = await asyncio.wait_for(refused(service.ask()), 5)
        assert refusal.reason == "INTERNAL"


async def test_a_reader_that_reads_nothing_is_dropped_and_what_it_held_with_it() -> None:
    """It answers pings all the while: nothing else would ever end it."""
    begun: list[int] = []
    ended: list[int] = []

    async def much(request: Any, context: Any) -> AsyncIterator[Any]:
        begun.append(1)
        try:
            while True:
                yield Text(value=bytes(1 << 20))
        finally:
            ended.append(1)

    async with toy(echo, much) as service:
        with RawConnection(service.address) as connection, RawConnection(service.address) as other:
            connection.send(b"".join(call("/toy/Stream", 1 + 2 * index) for index in range(100)))
            frames = await asyncio.to_thread(connection.read, 5.0)
            assert count(frames, HEADERS)
            assert connection.closed
            await _nothing_runs(service)
            assert len(ended) == len(begun) > 0
            other.send(call("/toy/Answer", 1))
            assert count(await asyncio.to_thread(other.read, 1.0, DATA), DATA), "others stay connected"
        assert await service.ask(b"after") == b"after"


async def _nothing_runs(service: Toy) -> None:
    async with asyncio.timeout(10):
        while service.admission._running or _calls_of_grpc():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def _calls_of_grpc() -> list[asyncio.Task[Any]]:
    return [
        task for task in asyncio.all_tasks() if "rpc_coro" in repr(task) or "HandleExc" in task.get_name()
    ]


async def test_a_single_answer_that_nobody_reads_ends_the_connection_too() -> None:
    async def large(request: Any, context: Any) -> Any:
        return Text(value=bytes(3 << 20)) if not request.value else request

    async with toy(large) as service:
        with RawConnection(service.address) as connection:
            connection.send(b"".join(call("/toy/Answer", 1 + 2 * index) for index in range(20)))
            frames = await asyncio.to_thread(connection.read, 5.0)
            assert count(frames, DATA)
            assert connection.closed
            await _nothing_runs(service)
        assert await service.ask(b"after") == b"after"


async def test_a_slow_reader_that_reads_is_left_alone() -> None:
    async def some(request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(5):
            yield Text(value=bytes(1 << 20))

    async with toy(echo, some) as service:
        stream = service.channel.unary_stream("/toy/Stream", Text.SerializeToString, Text.FromString)(Text())
        sizes = []
        async for answer in stream:
            sizes.append(len(answer.value))
            await asyncio.sleep(0.2)
        assert sizes == [1 << 20] * 5


@pytest.mark.parametrize(
    "peer", ["unix:", "unix:/run/a.sock", "ipv4:192.0.2.1:5", "ipv6:[2001:db8::1]:5", "", "ipv4:x:y"]
)
async def test_nobody_is_hung_up_on_by_mistake(peer: str) -> None:
    assert not await hang_up(peer)


@pytest.mark.parametrize("kind", ["ipv4:127.0.0.1", "ipv6:[::ffff:127.0.0.1]", "ipv6:%5B::ffff:127.0.0.1%5D"])
async def test_a_peer_is_found_however_it_is_written(kind: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            assert await hang_up(f"{kind}:{client.getsockname()[1]}")
            assert client.recv(1) == b""


async def test_one_call_too_many_is_told_when_to_come_back() -> None:
    gate = asyncio.Event()

    async def wait(request: Any, context: Any) -> Any:
        await gate.wait()
        return request

    async with toy(wait, max_calls=5, call_seconds=20.0) as service:
        calls = [asyncio.create_task(service.ask()) for _ in range(5)]
        await asyncio.sleep(0.2)
        refusal = await refused(service.ask())
        assert (refusal.status, refusal.reason, refusal.cam_ret_code) == (
            Code.RESOURCE_EXHAUSTED,
            "CALL_LIMIT",
            -2,
        )
        gate.set()
        await asyncio.gather(*calls)
        await service.ask()


async def _until_refused(service: Toy) -> None:
    for _ in range(1000):  # at the fourth call, or later where the machine is slow
        await service.ask()


async def test_the_delay_that_is_named_is_long_enough() -> None:
    async with toy(echo, peer_rate=Rate(5.0, 3)) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _until_refused(service)
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        names = [detail.type_url.rpartition(".")[2] for detail in status.details]
        assert names == ["ErrorInfo", "QuotaFailure", "RetryInfo"]
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        retry = error_details_pb2.RetryInfo()
        assert status.details[2].Unpack(retry)
        delay = retry.retry_delay.ToTimedelta().total_seconds()
        assert 0 < delay <= 0.2
        await asyncio.sleep(delay)
        await service.ask()


FAULTS: dict[str, BaseException] = {
    "a database": sqlite3.OperationalError("near secret_table: syntax error in /var/lib/secret/store.db"),
    "a file": FileNotFoundError(2, "No such file or directory", "/var/lib/secret/blobs/x"),
    "a key": KeyError("/var/lib/secret"),
    "an assertion": AssertionError("<Object at 0x7f00> in module.py"),
    "memory": MemoryError(),
    "recursion": RecursionError("Traceback (most recent call last): /var/lib/secret"),
    "time": TimeoutError("/var/lib/secret"),
    "the store": StoreUnavailableError("sqlite is locked: /var/lib/secret/store.db"),
    "text": UnicodeDecodeError("utf-8", b"/var/lib/secret", 0, 1, "secret_table"),
    "a group": ExceptionGroup("Error in /var/lib/secret", [ValueError("sqlite")]),
    "a broken chain": RuntimeError("Error", ValueError("/var/lib/secret")),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
@pytest.mark.parametrize("method", ["/toy/Answer", "/toy/Stream"])
async def test_no_fault_tells_anything_internal(fault: BaseException, method: str) -> None:
    async def broken(request: Any, context: Any) -> Any:
        raise fault

    async def broken_stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield request
        raise fault

    async with toy(broken, broken_stream) as service:
        stub = service.channel.unary_stream(method, Text.SerializeToString, Text.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [answer async for answer in stub(Text())]
        told = _everything(caught.value)
        assert not [secret for secret in SECRETS if secret in told], told
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        assert status.code == caught.value.code().value[0]
        if caught.value.code() is Code.INTERNAL:
            assert "incident" in told


async def test_an_answer_that_cannot_be_sent_tells_nothing_either() -> None:
    async def wrong(request: Any, context: Any) -> Any:
        return {"/var/lib/secret": sqlite3.Error}

    async with toy(wrong) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.ask()
        told = _everything(caught.value)
        assert not [secret for secret in SECRETS if secret in told], told


async def test_every_reason_of_the_catalogue_arrives_whole() -> None:
    """Long texts of callers are cut, so that the trailers are not."""

    async def refuse(request: Any, context: Any) -> Any:
        raise VideoProcessError(
            request.value.decode(),
            "x\n\x00\x1b[31m" * 1000,
            {f"field {index} " + "y" * 1000: "z" * 1000 for index in range(50)},
            {"name": "v" * 10_000},
            retry_after_seconds=1,
        )

    async with toy(refuse) as service:
        for reason, row in CATALOGUE.items():
            if reason == "INTERNAL":
                continue  # has no text of ours
            refusal = await refused(service.ask(reason.encode()))
            assert (refusal.reason, refusal.status.name) == (reason, row.status.name)


def _everything(error: grpc.aio.AioRpcError) -> str:
    """All that a caller gets to see."""
    metadata = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    values = [value if isinstance(value, str) else value.decode("latin-1") for _, value in metadata]
    return "\n".join([str(error.details()), *values])
