"""Two service programs over one PostgreSQL and one S3: what was begun at one goes on at the other when the first is killed."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from media_factory import make_clip
from postgres_server import PostgresServer
from s3_server import S3Server, credentials
from service_harness import PATIENCE_SECONDS, USER, Server
from videoprocess_client import Client, RetryPolicy, stream, uploaded

pytestmark = pytest.mark.scale

#: bytes of an upload's object
PART_BYTES = 8 << 20
FLAGS = ("--segment-seconds", "0.4", "--longest-gop-seconds", "1", "--workers", "1")
PATIENT = RetryPolicy(patience_seconds=PATIENCE_SECONDS, initial_pause_seconds=0.05, max_pause_seconds=1.0)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(name="replicas")
def _replicas(s3_server: S3Server, tmp_path: Path) -> Iterator[list[Server]]:
    database = PostgresServer().start()
    flags = (*FLAGS, "--database-url", database.url(), *s3_server.flags(tmp_path.name))
    servers = [Server(tmp_path / name, *flags) for name in ("a", "b")]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            if server.running:
                server.kill()
        database.remove()


@pytest.fixture(name="client")
async def _client(replicas: list[Server]) -> AsyncIterator[Client]:
    target = ",".join(server.address for server in replicas)
    async with Client(target, user_id=USER, retry=PATIENT) as client:
        yield client


class Killing:
    """Kills a replica that takes an upload, once so many bytes have gone; says which one it was."""

    def __init__(self, replicas: list[Server], after_bytes: int) -> None:
        self._replicas = replicas
        self._after_bytes = after_bytes
        self.killed: list[Server] = []

    def __call__(self, done: int, _total: int) -> None:
        if done >= self._after_bytes and not self.killed:
            self.killed = [server for server in self._replicas if self._takes_it(server)]
            for server in self.killed:
                server.kill()

    @staticmethod
    def _takes_it(server: Server) -> bool:
        return any((server.data_dir / "uploads").iterdir())


async def test_an_upload_goes_on_at_the_other_replica(
    replicas: list[Server], client: Client, tmp_path: Path
) -> None:
    data = random.Random(1).randbytes(5 * PART_BYTES + 12345)
    path = tmp_path / "file"
    path.write_bytes(data)
    killing = Killing(replicas, 3 * PART_BYTES)
    done = await client.upload(path, on_progress=killing)
    assert len(killing.killed) == 1
    assert (done.size_bytes, done.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    # An object that was not whole, and what was on its way: nothing that had been acknowledged.
    assert len(data) < done.sent_bytes <= len(data) + 2 * PART_BYTES


async def test_a_replica_that_was_left_in_the_middle_takes_the_upload_back(
    replicas: list[Server], tmp_path: Path
) -> None:
    """There and back again: what the first one still held is its own no more, and it looks where the upload is."""
    data = random.Random(2).randbytes(4 * PART_BYTES + 999)
    path = tmp_path / "file"
    path.write_bytes(data)
    upload_id = "a" * 32

    async def part(server: Server, until_bytes: int) -> None:
        async with Client(server.address, user_id=USER, retry=PATIENT) as client:
            reached = asyncio.Event()

            def stop(done: int, _total: int) -> None:
                if done >= until_bytes:
                    reached.set()

            sending = asyncio.create_task(client.upload(path, upload_id=upload_id, on_progress=stop))
            await reached.wait()
            sending.cancel()
            await asyncio.wait({sending})

    await part(replicas[0], PART_BYTES + PART_BYTES // 2)
    await part(replicas[1], 2 * PART_BYTES + PART_BYTES // 2)
    async with Client(replicas[0].address, user_id=USER, retry=PATIENT) as client:
        done = await client.upload(path, upload_id=upload_id)
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    assert done.sent_bytes < len(data)


async def test_a_job_its_events_and_its_result_go_on_too(
    replicas: list[Server], client: Client, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, frames=72, gop=12, width=160, height=120, noise_sigma=6.0)
    upload = await client.upload(clip)
    session = await client.open_session()
    await session.prepare("v", uploaded(upload.upload_id))
    await session.create_streams([stream(0)])
    await session.commit_streams()
    job = await session.process("v")
    replicas[0].kill()
    numbers: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(client.subscribe(job.event_sequence)) as events:
        async for event in events:
            if event.sequence:
                numbers.append(event.sequence)
                break
    result = await job.wait()
    assert numbers == [job.event_sequence + 1]
    artifact = result.video_artifact
    assert artifact is not None
    replicas[0].start()
    await client.download(artifact.artifact_id, tmp_path / "out.mp4")
    async with Client(replicas[0].address, user_id=USER, retry=PATIENT) as at_the_first:
        await at_the_first.download(artifact.artifact_id, tmp_path / "again.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert hashlib.sha256((tmp_path / "out.mp4").read_bytes()).hexdigest() == artifact.sha256
