"""The plain port for probes, and the command that asks it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from credentials import LOCALHOST, Authority, identity, new_token, replace_file
from service_harness import SERVER, Api, Server
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess_server.rpc.health import REQUEST_SECONDS, Health
from videoprocess_server.rpc.health_port import MAX_CALLS, HealthPortError, answering_probes
from videoprocess_server.rpc.health_probe import SERVING, check

ANSWER_SECONDS = 10.0


def _free_address() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


async def _ask(address: str) -> str:
    return await asyncio.to_thread(check, address, ANSWER_SECONDS)


@pytest.fixture(name="channel")
async def _with_health_alone() -> AsyncIterator[grpc.aio.Channel]:
    address, health = _free_address(), Health(())
    async with answering_probes(address, health), grpc.aio.insecure_channel(address) as channel:
        yield channel


async def test_it_answers_before_the_service_serves_and_until_it_has_stopped() -> None:
    address, health = _free_address(), Health(())
    async with answering_probes(address, health):
        assert "NOT_SERVING" == await _ask(address)
        await health.set_serving()
        assert SERVING == await _ask(address)
        await health.set_not_serving()
        assert "NOT_SERVING" == await _ask(address)
    assert f"no answer from {address}: UNAVAILABLE" == await _ask(address)


@pytest.mark.slow
async def test_checks_that_ask_nothing_do_not_keep_probes_out() -> None:
    address = _free_address()
    async with answering_probes(address, Health(())), AsyncExitStack() as stack:
        for _ in range(MAX_CALLS):
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            call = channel.stream_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )()
            stack.callback(call.cancel)
            await call.wait_for_connection()
        answers = [await _ask(address) for _ in range(3)]  # each waits until it is refused, or answered
        await asyncio.sleep(REQUEST_SECONDS)
        assert "NOT_SERVING" in {*answers, await _ask(address)}


async def test_what_could_keep_probes_out_is_not_there(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())))
    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


async def test_nothing_else_is_there(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Api(channel).catalog.ListVideos(catalog.ListVideosRequest(user_id=100))
    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(HealthPortError, match=f"cannot listen on {address}"):
            async with answering_probes(address, Health(())):
                pass


def _health(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SERVER, "health", *flags],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.mark.slow
def test_the_command_asks_a_service_with_tls_by_the_plain_port_or_by_its_certificate(tmp_path: Path) -> None:
    authority, health_address = Authority(), _free_address()
    certificate, key = authority.issue("probed", LOCALHOST).write(tmp_path, "server")
    tokens = replace_file(tmp_path / "tokens.toml", identity("one", [100], [new_token()]))
    ca = replace_file(tmp_path / "ca.crt", authority.pem, 0o644)
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(tokens))
    with Server(tmp_path / "data", *flags, "--health-listen", health_address, "--workers", "1") as server:
        plain = _health(VIDEOPROCESS_HEALTH_LISTEN=health_address)
        assert (0, f"{SERVING}\n") == (plain.returncode, plain.stdout)
        trusted = _health("--target", server.address, "--tls-ca", str(ca))
        assert (0, f"{SERVING}\n") == (trusted.returncode, trusted.stdout)
        assert 1 == _health("--target", server.address).returncode
        assert 1 == _health("--target", server.address, "--tls-ca", str(ca), "--tls-name", "other").returncode
        assert 0 == server.stop()


@pytest.mark.slow
def test_a_service_whose_port_for_probes_is_taken_does_not_start(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        rest = ("--data-dir", str(tmp_path / "data"), "--workers", "1")
        begin = time.monotonic()
        started = subprocess.run(
            [*SERVER, "serve", "--listen", "127.0.0.1:0", "--health-listen", address, *rest],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert 3 == started.returncode
    assert f"cannot listen on {address}" in started.stderr.splitlines()[-1]
    assert time.monotonic() - begin < 30
