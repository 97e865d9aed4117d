"""Several addresses: real servers that calls are spread over, and that go on for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from client_command import Command
from credentials import LOCALHOST, Authority, replace_file
from service_harness import PATIENCE_SECONDS, Server
from videoprocess_client import Client, RetryPolicy, Tls, VideoProcessError

QUICK = RetryPolicy(patience_seconds=30.0, first_contact_seconds=10.0, initial_pause_seconds=0.01)
#: by which two servers are told apart
LIMITS = (1 << 20, 1 << 21)
#: of which all going to one of two servers is no accident
CALLS = 8


@pytest.fixture(name="two")
def _two(tmp_path: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Server(tmp_path / f"{limit}", "--workers", "1", "--max-upload-bytes", str(limit))
            )
            for limit in LIMITS
        ]


def _target(servers: list[Server]) -> str:
    return ",".join(server.address for server in servers)


async def _asked(client: Client) -> set[int]:
    """The servers that answer, by their limits."""
    return {(await client.capabilities()).limits.max_upload_bytes for _ in range(CALLS)}


async def _until_asked(client: Client, wanted: set[int]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await _asked(client) != wanted:
            pass


@pytest.mark.slow
async def test_calls_are_spread_and_a_killed_server_is_missed_by_nobody(two: list[Server]) -> None:
    told: list[VideoProcessError] = []
    async with Client(_target(two), retry=QUICK, on_retry=told.append) as client:
        await _until_asked(client, set(LIMITS))
        address = two[0].address
        two[0].kill()
        assert await _asked(client) == {LIMITS[1]}
        two[0].flags = (*two[0].flags, "--listen", address)  # the later one counts
        two[0].start()
        await _until_asked(client, set(LIMITS))
    assert [error.reason for error in told if error.reason != "UNAVAILABLE"] == []


@pytest.mark.slow
async def test_the_command_takes_several(two: list[Server], tmp_path: Path) -> None:
    two[0].kill()
    assert (await Command(_target(two), tmp_path)("pending")).code == 0


@asynccontextmanager
async def _unhealthy() -> AsyncIterator[str]:
    """Address of a server that says it is not serving, as one does that drains, and knows no other call."""
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_a_server_that_says_it_is_not_serving_gets_no_call(tmp_path: Path) -> None:
    told: list[VideoProcessError] = []
    with Server(tmp_path / "data", "--workers", "1") as server:
        async with (
            _unhealthy() as unhealthy,
            Client(f"{unhealthy},{server.address}", retry=QUICK, on_retry=told.append) as client,
        ):
            for _ in range(CALLS):
                await client.capabilities()
    assert told == []


async def test_over_tls_the_first_address_names_the_service(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost", LOCALHOST[:1]).write(tmp_path, "server")
    ca = replace_file(tmp_path / "ca.crt", authority.pem, 0o644)
    flags = ("--workers", "1", "--tls-cert", str(certificate), "--tls-key", str(key))
    with Server(tmp_path / "data", *flags) as server:
        port = server.address.rpartition(":")[2]
        # The certificate has no IP address: what is looked up must not be what is compared.
        target = f"grpcs://localhost:{port},127.0.0.1:{port}"
        async with Client(target, credentials=Tls(ca=ca), retry=QUICK) as client:
            assert len(await _asked(client)) == 1
