"""What no client library sends: the service stays, answers others, and holds nothing for it."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import psutil
import pytest

from raw_http2 import (
    CONTINUATION,
    DATA,
    EMPTY_MESSAGE,
    END_HEADERS,
    END_STREAM,
    GET_VIDEO,
    GOAWAY,
    HEADERS,
    HEALTH,
    PING,
    RST_STREAM,
    SETTINGS,
    SUBSCRIBE,
    UPLOAD,
    RawConnection,
    begin,
    call,
    count,
    frame,
    header_block,
    literal,
)
from service_harness import Api, Server, connect, refused
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess_server.rpc.call_limits import MAX_HEADER_BYTES
from videoprocess_server.rpc.server import MAX_STREAMS_PER_CONNECTION

SEED = 6
MEBIBYTE = 1 << 20
ANSWER_SECONDS = 5.0


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("http2") / "data", "--workers", "1") as server:
        yield server


@pytest.fixture(autouse=True)
def _still_well(server: Server) -> Iterator[None]:
    """After each test the service answers a new connection, has not grown much, and has logged no fault."""
    _health(server)
    before_bytes = psutil.Process(server.pid).memory_info().rss
    yield
    _health(server)
    assert psutil.Process(server.pid).memory_info().rss - before_bytes < 128 * MEBIBYTE
    assert "rpc_broke" not in server.log_path.read_text()


def _health(server: Server) -> None:
    with RawConnection(server.address) as connection:
        connection.send(call(HEALTH, 1))
        assert count(connection.read(ANSWER_SECONDS, DATA), DATA), "no answer to a health check"


NAMES = {
    "no UTF-8": b"/videoprocess.v1.VideoCatalogService/\xff\xfe",
    "nothing": b"",
    "no slash": b"GetVideo",
    "a NUL": b"/videoprocess.v1.VideoCatalogService/GetVideo\x00",
    "a line feed": b"/videoprocess.v1.VideoCatalogService/Get\nVideo",
    "long": b"/" + b"a" * 8000,
    "unknown": b"/videoprocess.v1.VideoCatalogService/GetVideos",
    "of a stranger": b"/other.Service/Method",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=list(NAMES))
def test_a_method_of_any_name_is_unimplemented_and_ends_nothing(server: Server, name: bytes) -> None:
    """One that is not UTF-8 ends a plain grpc.aio server."""
    with RawConnection(server.address) as connection:
        path = header_block("/").replace(literal(b":path", b"/"), literal(b":path", name))
        connection.send(frame(HEADERS, END_HEADERS, 1, path) + frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        frames = connection.read(ANSWER_SECONDS, HEADERS)
        assert any(b"grpc-status\x0212" in found.payload for found in frames if found.kind == HEADERS)
        connection.send(call(HEALTH, 3))
        assert count(connection.read(ANSWER_SECONDS, DATA), DATA), "the connection goes on"


async def test_an_unknown_method_is_what_clients_expect(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        for path in ("/videoprocess.v1.VideoCatalogService/GetVideos", "/a/b"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(path)(b"", timeout=ANSWER_SECONDS)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("stream", [False, True])
def test_too_many_pings_end_the_connection(server: Server, stream: bool) -> None:
    with RawConnection(server.address) as connection:
        if stream:
            connection.send(call(SUBSCRIBE, 1, b"\0\0\0\0\2\x08\1"))
        connection.read(0.2)
        connection.send(b"".join(frame(PING, 0, 0, number.to_bytes(8)) for number in range(6)))
        frames = connection.read(ANSWER_SECONDS)
        assert any(b"too_many_pings" in found.payload for found in frames if found.kind == GOAWAY)
        assert connection.closed


@pytest.mark.parametrize("acknowledged", [True, False])
@pytest.mark.parametrize("size_bytes", [2 * MAX_HEADER_BYTES, 40 * MAX_HEADER_BYTES])
def test_headers_that_are_too_long_are_refused(server: Server, acknowledged: bool, size_bytes: int) -> None:
    """gRPC's own limit holds only for who says that it knows it."""
    with RawConnection(server.address) as connection:
        if acknowledged:
            connection.read(ANSWER_SECONDS, SETTINGS)
        block = header_block(HEALTH, [(b"x-bomb", b"y" * size_bytes)])
        parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        sent = frame(HEADERS, 0, 1, parts[0])
        sent += b"".join(frame(CONTINUATION, 0, 1, part) for part in parts[1:-1])
        connection.send(sent + frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
        connection.send(frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        frames = connection.read(ANSWER_SECONDS, HEADERS, GOAWAY)
        assert any(b"grpc-status\x018" in found.payload for found in frames if found.kind == HEADERS)


def test_a_small_block_that_unpacks_to_much_is_refused(server: Server) -> None:
    """One header is put in the table, then named again and again by one byte each."""
    for acknowledged in (True, False):
        with RawConnection(server.address) as connection:
            if acknowledged:
                connection.read(ANSWER_SECONDS, SETTINGS)
            indexed = b"\x40" + literal(b"x-bomb", b"y" * 3900)[1:] + b"\xbe" * 10_000
            connection.send(frame(HEADERS, END_HEADERS, 1, header_block(HEALTH) + indexed))
            connection.send(frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
            frames = connection.read(ANSWER_SECONDS, HEADERS, GOAWAY)
            assert any(b"grpc-status\x018" in found.payload for found in frames if found.kind == HEADERS)


def test_headers_that_never_end_fill_no_memory(server: Server) -> None:
    """Bytes that were read and not yet parsed take some, and the threads that read them too; twice as many take no more."""
    taken_bytes = []
    for _ in range(8):
        with RawConnection(server.address) as connection:
            connection.send(frame(HEADERS, 0, 1, header_block(HEALTH)))
            for number in range(4000):
                if not connection.send(frame(CONTINUATION, 0, 1, literal(b"x-%d" % number, b"z" * 8000))):
                    break
            taken_bytes.append(psutil.Process(server.pid).memory_info().rss)
            _health(server)
    sent_bytes = 4 * 4000 * 8000  # in half of the rounds
    assert max(taken_bytes[4:]) - max(taken_bytes[:4]) < sent_bytes / 2, taken_bytes


def test_calls_that_are_reset_at_once_pile_up_nowhere(server: Server) -> None:
    before_bytes = psutil.Process(server.pid).memory_info().rss
    reset = (8).to_bytes(4)
    with RawConnection(server.address) as connection:
        for batch in range(30):
            streams = range(1 + 200 * batch, 201 + 200 * batch, 2)
            connection.send(
                b"".join(call(GET_VIDEO, stream) + frame(RST_STREAM, 0, stream, reset) for stream in streams)
            )
            _health(server)
    assert psutil.Process(server.pid).memory_info().rss - before_bytes < 50 * MEBIBYTE


def test_a_connection_has_so_many_streams(server: Server) -> None:
    spare = 20
    with RawConnection(server.address) as connection:
        settings = connection.read(ANSWER_SECONDS, SETTINGS)
        assert b"\x00\x03" + MAX_STREAMS_PER_CONNECTION.to_bytes(4) in settings[0].payload
        connection.send(
            b"".join(begin(UPLOAD, 1 + 2 * index) for index in range(MAX_STREAMS_PER_CONNECTION + spare))
        )
        frames = connection.read(1.0)
        # the service allows 256 uploads at once of a user, whom nobody has named yet
        assert sum(found.kind == RST_STREAM for found in frames) == spare
        _health(server)


def test_a_message_that_is_too_long_is_refused_before_it_is_there(server: Server) -> None:
    with RawConnection(server.address) as connection:
        connection.send(begin(GET_VIDEO, 1) + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff" + b"x" * 1000))
        frames = connection.read(ANSWER_SECONDS, HEADERS)
        assert any(b"grpc-status\x018" in found.payload for found in frames if found.kind == HEADERS)


def test_junk_of_every_kind(server: Server) -> None:
    rng = random.Random(SEED)
    for round_ in range(40):
        with RawConnection(server.address, preface=round_ % 4 != 0, settings=round_ % 3 != 0) as connection:
            for _ in range(20):
                size = rng.choice([0, 1, 8, 100, 1000])
                kind, flags, stream = rng.randrange(12), rng.randrange(256), rng.choice([0, 1, 2, 3, 1 << 31])
                if not connection.send(frame(kind, flags, stream, rng.randbytes(size))):
                    break
            connection.send(rng.randbytes(500))


@pytest.mark.slow
def test_connections_beyond_the_limit_are_closed_and_have_room_later(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--workers", "1", "--max-connections", "10") as server:
        with ExitStack() as stack:
            connections = [stack.enter_context(RawConnection(server.address)) for _ in range(15)]
            closed = []
            for connection in connections:
                connection.send(call(HEALTH, 1))
                connection.read(0.3, DATA)
                closed.append(connection.closed)
            assert closed == [False] * 10 + [True] * 5
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            with RawConnection(server.address) as connection:
                connection.send(call(HEALTH, 1))
                if count(connection.read(0.5, DATA), DATA):
                    break
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_who_connects_and_says_nothing_is_hung_up_on(server: Server) -> None:
    with ExitStack() as stack:
        host, _, port = server.address.rpartition(":")
        silent = stack.enter_context(socket.create_connection((host, int(port))))
        half = stack.enter_context(RawConnection(server.address, settings=False))
        slow = stack.enter_context(RawConnection(server.address, preface=False, settings=False))
        begin_seconds = time.monotonic()
        while time.monotonic() - begin_seconds < 18:
            slow.send(b"P")
            time.sleep(2)
        silent.settimeout(10)
        while silent.recv(1000):
            pass
        half.read(10)
        slow.read(10)
        assert half.closed
        assert slow.closed
        assert time.monotonic() - begin_seconds < 27


@pytest.mark.slow
async def test_limits_of_a_user_at_the_wire(tmp_path: Path) -> None:
    flags = ("--max-calls-per-second-per-user", "50", "--max-burst-calls-per-user", "20")
    with Server(tmp_path / "data", "--workers", "1", *flags) as server:
        async with connect(server) as api:
            reasons = [await _reason(api, 1) for _ in range(40)]
            assert reasons[:20] == ["UNKNOWN_VIDEO"] * 20
            assert "RATE_LIMITED" in reasons
            assert await _reason(api, 2) == "UNKNOWN_VIDEO"
            await api.service.GetCapabilities(service.GetCapabilitiesRequest(user_id=3))


async def _reason(api: Api, user_id: int) -> str:
    request = catalog.GetVideoRequest(user_id=user_id, video_id="none")
    return (await refused(api.catalog.GetVideo(request))).reason
