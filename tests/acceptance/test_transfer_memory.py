"""The service's memory does not grow with the size of what is uploaded. `make bench-transfer` does it with 10 GiB."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from service_harness import USER, Server
from soaking import SOAKING
from videoprocess_client import Client

pytestmark = pytest.mark.slow

MEBIBYTE = 1 << 20
FIRST_BYTES = 32 * MEBIBYTE
LARGE_BYTES = (4096 if SOAKING else 256) * MEBIBYTE
GROWTH_AT_MOST_BYTES = 32 * MEBIBYTE
SAMPLE_SECONDS = 0.02


async def _peak(server: Server, hole: Path, size: int) -> int:
    """Upload a sparse file; returns the most memory the service had meanwhile."""
    with hole.open("wb") as file:
        file.truncate(size)
    service = psutil.Process(server.pid)
    peak = service.memory_info().rss
    async with Client(server.address, user_id=USER) as client:
        uploading = asyncio.create_task(client.upload(hole))
        while not uploading.done():
            await asyncio.wait({uploading}, timeout=SAMPLE_SECONDS)
            peak = max(peak, service.memory_info().rss)
        assert (await uploading).size_bytes == size
    return peak


async def test_memory_does_not_grow_with_an_upload(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--workers", "1", "--disk-reserve-bytes", "0") as server:
        first = await _peak(server, tmp_path / "hole", FIRST_BYTES)
        large = await _peak(server, tmp_path / "hole", LARGE_BYTES)
    assert large - first < GROWTH_AT_MOST_BYTES
