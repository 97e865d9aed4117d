"""Uploads that are cut at random bytes, by clients and servers that die of SIGKILL and by the line between them.

`make soak` cuts 200 times. What one counts is what clients sent, up to the byte of the cut, at the wire.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest

from cutting_proxy import CuttingProxy, cutting_proxy
from service_harness import PATIENCE_SECONDS, USER, Server, address_to_keep, connect
from soaking import SOAKING
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import video_process_service_pb2 as service

pytestmark = pytest.mark.slow

CUTS = 200 if SOAKING else 20
CUTS_OF_AN_UPLOAD = 10
SIZE = (12 << 20) + 4567
#: frames, headers, and the calls beside the upload
WIRE_OVERHEAD = 0.02
CALLS_BYTES = 4096
WHO_DIES = ("client", "server", "line")


@asynccontextmanager
async def _uploading(
    proxy: CuttingProxy, source: Path, upload_id: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real `videoprocess upload`, in a process of its own."""
    command = ["upload", str(source), "--upload-id", upload_id, "--target", proxy.target, "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from videoprocess_client.cli.app import main; main()", *command, "--user", str(USER)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _committed(server: Server, upload_id: str) -> int:
    async with connect(server) as api:
        request = transfer.QueryUploadRequest(user_id=USER, upload_id=upload_id)
        with suppress(grpc.aio.AioRpcError):  # cut before there was an upload; the digest tells in the end
            return (await api.transfer.QueryUpload(request)).committed_size_bytes
    return 0


async def _commit_bytes(server: Server) -> int:
    async with connect(server) as api:
        answer = await api.service.GetCapabilities(service.GetCapabilitiesRequest(user_id=USER))
        return answer.limits.upload_commit_bytes


async def _upload_with_cuts(
    server: Server, proxy: CuttingProxy, source: Path, dice: random.Random, cuts: int
) -> str:
    """Upload a file that is cut so often; returns the SHA-256 that the service has in the end."""
    upload_id, committed = secrets.token_hex(16), 0
    before = proxy.sent_bytes
    while True:
        proxy.mend()
        async with _uploading(proxy, source, upload_id) as client:
            ended = asyncio.create_task(client.communicate())
            victim = ""
            while victim != "client" and cuts:
                victim = dice.choice(WHO_DIES)
                proxy.cut_after(dice.randrange(1, max(2, (SIZE - committed) // 2)))
                cut = asyncio.create_task(proxy.cut())
                await asyncio.wait(
                    {cut, ended}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                assert cut.done(), f"the upload ended before its cut: {ended}"
                cuts -= 1
                if victim == "client":
                    client.send_signal(signal.SIGKILL)
                if victim == "server":
                    server.kill()
                    await asyncio.to_thread(server.start)
                now = await _committed(server, upload_id)
                assert now >= committed, f"{now} of {committed} bytes are left after the {victim} was killed"
                committed = now
                proxy.mend()
            if victim == "client":
                await ended
                continue
            output, _ = await asyncio.wait_for(ended, PATIENCE_SECONDS)
            assert client.returncode == 0, output
            told = json.loads(output)
            print(f"{told['sent_bytes']} bytes by the last client, {proxy.sent_bytes - before} by all")
            return str(told["sha256"])


async def test_a_cut_at_any_byte_costs_no_more_than_what_is_committed_at_once(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    source = tmp_path / "film.mp4"
    source.write_bytes(dice.randbytes(SIZE))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    flags = ("--workers", "1", "--listen", address_to_keep())
    with Server(tmp_path / "data", *flags) as server:
        commit_bytes = await _commit_bytes(server)
        async with cutting_proxy(lambda: server.address) as proxy:
            a_cut_bytes = []
            for _ in range(CUTS // CUTS_OF_AN_UPLOAD):
                before = proxy.sent_bytes
                assert digest == await _upload_with_cuts(server, proxy, source, dice, CUTS_OF_AN_UPLOAD)
                sent = proxy.sent_bytes - before
                most = SIZE * (1 + WIRE_OVERHEAD) + CUTS_OF_AN_UPLOAD * (commit_bytes + CALLS_BYTES)
                a_cut_bytes.append((sent - SIZE) // CUTS_OF_AN_UPLOAD)
                print(f"{sent} bytes sent of {SIZE}: {a_cut_bytes[-1]} a cut")
                assert sent <= most
    print(f"count uploads_cut = {CUTS}")
    print(f"count uploads_cut_most_bytes_a_cut = {max(a_cut_bytes)}")
