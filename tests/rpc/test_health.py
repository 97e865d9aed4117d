"""What probes are told while the service stops."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service_harness import Server, refusal_of

GRACE_SECONDS = 30.0


@pytest.mark.slow
async def test_whoever_watches_is_told_and_holds_up_nothing(tmp_path: Path) -> None:
    flags = ("--workers", "1", "--shutdown-grace-seconds", str(GRACE_SECONDS))
    with Server(tmp_path / "data", *flags) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = aiter(stub.Watch(health_pb2.HealthCheckRequest()))
            assert health_pb2.HealthCheckResponse.SERVING == (await anext(watch)).status
            begin = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert health_pb2.HealthCheckResponse.NOT_SERVING == (await anext(watch)).status
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(watch)
            assert "DRAINING" == refusal_of(caught.value).reason
            assert 0 == await stopping
            assert time.monotonic() - begin < GRACE_SECONDS / 2
