"""Files past the service, with a real S3 server: nothing of them goes through it, and all of them arrive when that fails."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutting_proxy import cutting_proxy
from media_factory import make_clip
from s3_server import BUCKET, S3Server, credentials
from service_harness import PATIENCE_SECONDS, USER, Server
from videoprocess.v1.report_pb2 import Artifact
from videoprocess_client import Client, RetryPolicy, stream, uploaded

pytestmark = pytest.mark.scale

PART_BYTES = 8 << 20
DATA = random.Random(3).randbytes(5 * PART_BYTES + 321)
SHA256 = hashlib.sha256(DATA).hexdigest()
PATIENT = RetryPolicy(patience_seconds=PATIENCE_SECONDS, initial_pause_seconds=0.05, max_pause_seconds=1.0)
#: of calls and their headers
CALLS_BYTES = 1 << 16


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(name="server")
def _server(s3_server: S3Server, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", "--workers", "1", *s3_server.flags(tmp_path.name)) as server:
        yield server


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture(name="detours")
def _detours() -> list[str]:
    return []


@dataclass
class StoreForServices:
    """The S3 server, behind what lets only those in, once it is closed, who sign their requests themselves: no URL works."""

    endpoint: str = ""
    is_closed: bool = False

    def refuses(self, data: bytes) -> bool:
        return self.is_closed and b"X-Amz-Signature=" in data


@asynccontextmanager
async def _store_for_services(server: S3Server) -> AsyncIterator[StoreForServices]:
    store = StoreForServices()
    async with cutting_proxy(lambda: server.address, store.refuses) as proxy:
        store.endpoint = f"http://{proxy.target}"
        yield store


@asynccontextmanager
async def _server_of(store: StoreForServices, tmp_path: Path) -> AsyncIterator[Server]:
    """Its start asks the store, which is served by this event loop."""
    flags = ("--blob-url", f"s3://{BUCKET}/{tmp_path.name}", "--s3-endpoint", store.endpoint)
    server = Server(tmp_path / "data", "--workers", "1", *flags)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def _direct(target: str, detours: list[str]) -> AsyncIterator[Client]:
    async with Client(target, user_id=USER, retry=PATIENT, direct=True, on_detour=detours.append) as client:
        yield client


async def test_no_byte_of_an_upload_passes_the_service(
    server: Server, file: Path, detours: list[str]
) -> None:
    seen: list[int] = []
    async with (
        cutting_proxy(lambda: server.address) as proxy,
        _direct(proxy.target, detours) as client,
    ):
        done = await client.upload(file, on_progress=lambda done, _: seen.append(done))
        assert proxy.sent_bytes < CALLS_BYTES
    assert (done.size_bytes, done.sha256, done.sent_bytes) == (len(DATA), SHA256, len(DATA))
    assert seen == sorted(seen)
    assert seen[-1] == len(DATA)
    assert detours == []


async def test_what_was_begun_by_stream_is_ended_past_the_service_and_the_other_way_round(
    server: Server, file: Path, detours: list[str]
) -> None:
    ids = ("a" * 32, "b" * 32)
    async with _direct(server.address, detours) as direct, Client(server.address, user_id=USER) as plain:
        for upload_id, first, second in ((ids[0], direct, plain), (ids[1], plain, direct)):

            def stop(done: int, _total: int) -> None:
                if done > 2 * PART_BYTES:
                    raise KeyError("far enough")

            with pytest.raises(KeyError):
                await first.upload(file, upload_id=upload_id, on_progress=stop)
            done = await second.upload(file, upload_id=upload_id)
            assert done.sha256 == SHA256
            assert done.sent_bytes < len(DATA)
    assert detours == []


async def test_where_the_store_cannot_be_reached_the_rest_goes_by_stream_and_the_user_is_told(
    s3_server: S3Server, tmp_path: Path, file: Path, detours: list[str]
) -> None:
    async with _store_for_services(s3_server) as store:

        def close(_done: int, _total: int) -> None:  # with the first part there and not all of them begun
            store.is_closed = True

        async with (
            _server_of(store, tmp_path) as server,
            _direct(server.address, detours) as client,
        ):
            done = await client.upload(file, on_progress=close)
    assert done.sha256 == SHA256
    assert len(detours) == 1
    assert "http" not in detours[0]


async def _made(client: Client, tmp_path: Path) -> Artifact:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, frames=24, gop=12, width=160, height=120, noise_sigma=6.0)
    upload = await client.upload(clip)
    async with client.session() as session:
        await session.prepare("v", uploaded(upload.upload_id))
        await session.create_streams([stream(0)])
        await session.commit_streams()
        artifact = (await (await session.process("v")).wait()).video_artifact
    assert artifact is not None
    return artifact


async def test_a_result_comes_past_the_service_or_through_it(
    s3_server: S3Server, tmp_path: Path, detours: list[str]
) -> None:
    async with (
        _store_for_services(s3_server) as store,
        _server_of(store, tmp_path) as server,
        _direct(server.address, detours) as client,
    ):
        artifact = await _made(client, tmp_path)
        before = s3_server.requests().count("GetObject")
        assert await client.download(artifact.artifact_id, tmp_path / "direct.mp4") == artifact
        assert s3_server.requests().count("GetObject") == before + 1
        assert detours == []
        store.is_closed = True
        await client.download(artifact.artifact_id, tmp_path / "stream.mp4")
    assert len(detours) == 1
    assert "http" not in detours[0]
    for name in ("direct.mp4", "stream.mp4"):
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == artifact.sha256
