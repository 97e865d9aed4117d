"""The real service with its blobs in a real S3 server: the same bytes as with local files, whatever is killed or thrown away."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from media_factory import make_clip
from s3_server import S3Server, credentials
from service_harness import Api, Server, connect
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.blobs.blob_store import BlobKind

pytestmark = pytest.mark.slow

#: a segment is 12 frames of the clip's 72
FLAGS = ("--segment-seconds", "0.4", "--longest-gop-seconds", "1", "--workers", "1")
SEGMENTS = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, frames=12 * SEGMENTS, gop=12, width=160, height=120, noise_sigma=6.0)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def local_result(tmp_path_factory: pytest.TempPathFactory, clip: bytes) -> bytes:
    """What the service makes with local files."""

    async def make(server: Server) -> bytes:
        async with connect(server) as api:
            return await fetch(api, await api.terminal(await begin(api, clip)))

    with Server(tmp_path_factory.mktemp("local") / "data", *FLAGS) as server:
        return asyncio.run(make(server))


async def begin(api: Api, clip: bytes) -> Any:
    """Upload the clip and have it processed."""
    uploaded = await api.upload(clip, file_name="clip.mp4")
    session_id = await api.open_session()
    file = types.FileDescriptor(upload_id=uploaded.upload_id)
    await api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id="v", fds=[file]))
    await api.commit_video(session_id)
    return await api.process(session_id, "v")


async def fetch(api: Api, done: Any) -> bytes:
    assert done.WhichOneof("event") == "on_process_done", done
    return await api.download(done.on_process_done.report.artifacts[0].artifact_id)


async def until(api: Api, reached: Callable[[Any], bool]) -> None:
    """Wait for the progress of the job."""
    async for event in api.events():
        if event.WhichOneof("event") == "on_progress" and reached(event.on_progress):
            return


def throw_cache_away(server: Server) -> None:
    """All files but the database."""
    for kind in BlobKind:
        shutil.rmtree(server.data_dir / kind.value, ignore_errors=True)


async def test_the_result_is_that_of_local_files(
    s3_server: S3Server, tmp_path: Path, clip: bytes, local_result: bytes
) -> None:
    with Server(tmp_path / "data", *FLAGS, *s3_server.flags("same")) as server:
        async with connect(server) as api:
            before = len(s3_server.requests())
            accepted = await begin(api, clip)
            done = await api.terminal(accepted)
            assert await fetch(api, done) == local_result
            asked = Counter(s3_server.requests()[before:])
    # a segment and a result are one request each, an upload one for its bytes and one for its end
    assert asked["PutObject"] == SEGMENTS + 3
    assert asked["GetObject"] + asked["HeadObject"] == 0
    assert asked["ListObjectsV2"] <= 8
