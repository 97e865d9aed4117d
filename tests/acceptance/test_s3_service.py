"""The real service with its blobs in a real S3 server: the same bytes as with local files, whatever is killed or thrown away."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from media_factory import make_clip
from s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, credentials
from service_harness import PATIENCE_SECONDS, SERVER, USER, Api, Server, connect, refused
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.cli import EXIT_CANNOT_START

pytestmark = pytest.mark.scale

#: a segment is 12 frames of the clip's 72
FLAGS = ("--segment-seconds", "0.4", "--longest-gop-seconds", "1", "--workers", "1")
SEGMENTS = 6
AWAY_SECONDS = 10.0
#: of an upload
PART_BYTES = 8 << 20


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


async def segments_are_done(api: Api, count: int) -> None:
    """Wait until so many segments of the video are stored."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events():
            if event.on_progress.progress.segments_done >= count:
                return


async def terminal_events(api: Api, accepted: Any) -> int:
    """How often the job's end was told, as far as the next job's."""
    mark = await api.process(await api.open_session(), "unknown")
    count = 0
    async for event in api.events(after_sequence=0):
        count += bool(event.sequence) and event.job_id == accepted.job_id
        if event.job_id == mark.job_id:
            return count
    raise AssertionError("the subscription ended")


def throw_cache_away(server: Server) -> None:
    """All files but the database."""
    for kind in BlobKind:
        shutil.rmtree(server.data_dir / kind.value, ignore_errors=True)


async def test_the_result_is_that_of_local_files(
    s3_server: S3Server, tmp_path: Path, clip: bytes, local_result: bytes
) -> None:
    with Server(tmp_path / "data", *FLAGS, *s3_server.flags("same")) as server:
        async with connect(server) as api:
            told = await api.service.GetCapabilities(service.GetCapabilitiesRequest(user_id=USER))
            assert told.limits.upload_commit_bytes == PART_BYTES
            before = len(s3_server.requests())
            accepted = await begin(api, clip)
            done = await api.terminal(accepted)
            assert await fetch(api, done) == local_result
            asked = Counter(s3_server.requests()[before:])
    # a segment and a result are one request each, an upload one for its bytes and one for its end
    assert asked["PutObject"] == SEGMENTS + 3
    assert asked["GetObject"] + asked["HeadObject"] == 0
    assert asked["ListObjectsV2"] <= 8


async def test_killed_in_the_middle_it_goes_on_with_an_empty_cache(
    s3_server: S3Server, tmp_path: Path, clip: bytes, local_result: bytes
) -> None:
    with Server(tmp_path / "data", *FLAGS, *s3_server.flags("killed")) as server:
        async with connect(server) as api:
            accepted = await begin(api, clip)
            await segments_are_done(api, 2)
        server.kill()
        throw_cache_away(server)
        before = len(s3_server.requests())
        server.start()
        async with connect(server) as api:
            done = await api.terminal(accepted)
            asked = Counter(s3_server.requests()[before:])
            assert await fetch(api, done) == local_result
            assert await terminal_events(api, accepted) == 1
        assert asked["PutObject"] < SEGMENTS + 2  # what was done is not done again
        throw_cache_away(server)
        async with connect(server) as api:
            assert await fetch(api, done) == local_result


async def test_a_server_that_is_killed_for_ten_seconds_costs_no_try(
    tmp_path: Path, clip: bytes, local_result: bytes
) -> None:
    mortal = S3Server(tmp_path / "s3").start()
    try:
        with Server(tmp_path / "data", *FLAGS, *mortal.flags("away")) as server:
            async with connect(server) as api:
                accepted = await begin(api, clip)
                await segments_are_done(api, 1)
                mortal.kill()
                await asyncio.sleep(AWAY_SECONDS)
                mortal.start()
                done = await api.terminal(accepted)
                assert await fetch(api, done) == local_result
                assert await terminal_events(api, accepted) == 1
            assert "segment_attempt_failed" not in server.log_path.read_text()
    finally:
        mortal.kill()


async def test_what_cannot_be_used_is_told_before_anything_is_made(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    command = [*SERVER, "serve", "--data-dir", str(tmp_path / "data"), *s3_server.flags("p")]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert ended.returncode == EXIT_CANNOT_START
    (line,) = ended.stderr.strip().splitlines()
    assert "credentials are wrong" in line
    assert "not-the-secret" not in line
    assert not (tmp_path / "data").exists()


async def test_credentials_are_in_no_log_and_no_note(s3_server: S3Server, tmp_path: Path) -> None:
    with Server(tmp_path / "data", *FLAGS, *s3_server.flags("quiet")) as server:
        assert server.stop() == 0
        told = server.log_path.read_text() + (server.data_dir / "service.json").read_text()
    assert f"s3://{BUCKET}/quiet" in told
    assert not [name for name in (ACCESS_KEY, SECRET_KEY) if name in told]


def move_blobs(server: Server, s3: S3Server, prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*SERVER, "move-blobs", "--data-dir", str(server.data_dir), "--to", f"s3://{BUCKET}/{prefix}"]
    return subprocess.run([*command, "--s3-endpoint", s3.endpoint], capture_output=True, text=True)


async def test_an_installation_moves_over_in_the_middle_of_a_job(
    s3_server: S3Server, tmp_path: Path, clip: bytes, local_result: bytes
) -> None:
    with Server(tmp_path / "data", *FLAGS) as server:
        async with connect(server) as api:
            accepted = await begin(api, clip)
            await segments_are_done(api, 2)
        refused = await asyncio.to_thread(move_blobs, server, s3_server, "moved")
        assert "in use" in refused.stderr
        server.kill()
        segment = next((server.data_dir / "segments").rglob("000000-*"))
        segment.write_bytes(b"damaged")
        moved = await asyncio.to_thread(move_blobs, server, s3_server, "moved")
        assert moved.returncode == 1
        assert f"segments/{segment.parent.name}/{segment.name}: " in moved.stderr
        again = await asyncio.to_thread(move_blobs, server, s3_server, "moved")
        assert again.stdout == moved.stdout
        throw_cache_away(server)
        server.flags = (*FLAGS, *s3_server.flags("moved"))
        server.start()
        async with connect(server) as api:
            assert await fetch(api, await api.terminal(accepted)) == local_result


def http(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


async def test_bytes_go_past_the_service_and_are_checked_by_it(
    s3_server: S3Server, tmp_path: Path, clip: bytes, local_result: bytes
) -> None:
    data = clip + bytes(PART_BYTES)  # what comes after the end of an MP4 file does not count as a box of it
    sha256 = hashlib.sha256(data).hexdigest()
    with Server(tmp_path / "data", *FLAGS, *s3_server.flags("direct")) as server:
        async with connect(server) as api:
            header = transfer.UploadHeader(user_id=USER, file_name="clip.mp4", size_bytes=len(data))
            begun = await api.transfer.GetUploadUrls(transfer.GetUploadUrlsRequest(header=header))
            header.upload_id = begun.upload_id
            assert [part.offset for part in begun.parts] == [0, PART_BYTES]
            for part in reversed(begun.parts):
                body = data[part.offset : part.offset + part.size_bytes]
                assert (await asyncio.to_thread(http, "PUT", part.url, body))[0] == 200
            further = await api.transfer.GetUploadUrls(transfer.GetUploadUrlsRequest(header=header))
            assert (len(further.parts), further.committed_size_bytes) == (0, len(data))
            assert (await refused(finish(api, header, len(data), "0" * 64))).reason == "DIGEST_MISMATCH"
            assert (await finish(api, header, len(data), sha256)).complete
            again = await refused(api.transfer.GetUploadUrls(transfer.GetUploadUrlsRequest(header=header)))
            assert again.reason == "UPLOAD_FINISHED"
            # who still has a URL may write the part again: what was checked is what counts
            await asyncio.to_thread(http, "PUT", begun.parts[0].url, bytes(begun.parts[0].size_bytes))
            done = await api.terminal(await begin(api, clip))
            assert await fetch(api, done) == local_result
            artifact_id = done.on_process_done.report.artifacts[0].artifact_id
            found = await api.transfer.GetDownloadUrl(
                transfer.GetDownloadUrlRequest(user_id=USER, artifact_id=artifact_id)
            )
            assert await asyncio.to_thread(http, "GET", found.url) == (200, local_result)
            part_of_it = await asyncio.to_thread(lambda: http("GET", found.url, Range="bytes=10-19"))
            assert part_of_it == (206, local_result[10:20])
            assert (await asyncio.to_thread(http, "GET", found.url.replace(artifact_id, "0" * 32)))[0] == 403
            assert found.artifact.sha256 == hashlib.sha256(local_result).hexdigest()
            # what another has written over a checked upload is never used
            throw_cache_away(server)
            file = types.FileDescriptor(upload_id=begun.upload_id)
            request = session.PrepareRequest(
                session_id=await api.open_session(), video_id="overwritten", fds=[file]
            )
            assert (await refused(api.session.Prepare(request))).reason == "NO_SUCH_PATH"


async def finish(api: Api, header: Any, size_bytes: int, sha256: str) -> Any:
    end = transfer.UploadFinish(size_bytes=size_bytes, sha256=sha256)

    async def messages() -> AsyncIterator[Any]:
        yield transfer.UploadRequest(header=header)
        yield transfer.UploadRequest(offset=size_bytes, finish=end)

    return await api.transfer.Upload(messages())


async def test_with_files_nothing_goes_past_the_service(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        async with connect(server) as api:
            header = transfer.UploadHeader(user_id=USER, size_bytes=7)
            for call in (
                api.transfer.GetUploadUrls(transfer.GetUploadUrlsRequest(header=header)),
                api.transfer.GetDownloadUrl(transfer.GetDownloadUrlRequest(user_id=USER, artifact_id="a")),
            ):
                assert (await refused(call)).reason == "METHOD_NOT_SUPPORTED"
