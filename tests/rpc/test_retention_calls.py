"""A service that keeps everything for seconds only: what goes, and what of it is told."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import pytest

from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, USER, Api, Server, connect, refused
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

pytestmark = pytest.mark.slow

Code = grpc.StatusCode
CLIP = "rot90_iphone_3f.mov"
KINDS = (
    "results",
    "removed-results",
    "trash",
    "checkpoints",
    "events",
    "unfinished-uploads",
    "unused-uploads",
)
KEPT_SECONDS = 3
QUOTA_BYTES = 1 << 30
LARGE_BYTES = 10_000_000


def _flags(media_root: Path, *more: str) -> list[str]:
    kept = [word for kind in KINDS for word in (f"--keep-{kind}-seconds", str(KEPT_SECONDS))]
    steady = ["--steady-clock-seconds", "0", "--housekeeping-seconds", "0.2"]
    return [*kept, *steady, "--shared-root", f"media={media_root}", "--workers", "1", *more]


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, media_root: Path) -> Iterator[Server]:
    flags = _flags(media_root, "--user-quota-bytes", str(QUOTA_BYTES))
    with Server(tmp_path_factory.mktemp("short") / "data", *flags) as server:
        yield server


@pytest.fixture(name="api")
async def _api(server: Server) -> AsyncIterator[Api]:
    async with connect(server) as api:
        yield api


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - a state of the service
            await asyncio.sleep(0.1)


async def _ready(api: Api, video_id: str) -> str:
    session_id = await api.open_session()
    await api.commit_video(session_id)
    await api.prepare_path(session_id, video_id, CLIP)
    return session_id


async def _query(api: Api, upload_id: str) -> Any:
    return await api.transfer.QueryUpload(transfer.QueryUploadRequest(user_id=USER, upload_id=upload_id))


async def _is_forgotten(call: Awaitable[Any]) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code() is Code.NOT_FOUND
    return False


async def test_results_expire_and_are_made_anew(api: Api, server: Server) -> None:
    session_id = await _ready(api, "made")
    first = await api.terminal(await api.process(session_id, "made"))
    (artifact,) = first.on_process_done.report.artifacts
    seconds = (artifact.expire_time.ToMicroseconds() - artifact.create_time.ToMicroseconds()) / 1_000_000
    assert seconds == KEPT_SECONDS

    async def has_expired() -> bool:
        return not (await api.video("made")).artifacts

    await _until(has_expired)
    told = await api.video("made")
    assert told.state == video.VIDEO_STATE_COMPLETED
    assert not told.HasField("expire_time")
    assert (await refused(api.download(artifact.artifact_id))).reason == "ARTIFACT_NOT_FOUND"
    await _until_no_bytes(server, "results", artifact.artifact_id)
    again = await api.terminal(await api.process(session_id, "made"))
    assert again.on_process_done.report.artifacts[0].sha256 == artifact.sha256


async def _until_no_bytes(server: Server, kind: str, key: str) -> None:
    async def are_gone() -> bool:
        return not list(server.data_dir.rglob(f"{kind}/{key}*"))

    await _until(are_gone)


async def test_an_open_download_finishes(api: Api, server: Server, media_root: Path) -> None:
    """The result, most of it sound, is far larger than what the service sends ahead of a reader."""
    make_clip(media_root / "loud.mov", frames=60, fps=Fraction(1), width=64, height=48, audio="pcm_s32le")
    session_id = await api.open_session()
    await api.commit_video(session_id)
    await api.prepare_path(session_id, "open", "loud.mov")
    event = await api.terminal(await api.process(session_id, "open"))
    (artifact,) = event.on_process_done.report.artifacts
    assert artifact.size_bytes > LARGE_BYTES
    request = transfer.DownloadRequest(user_id=USER, artifact_id=artifact.artifact_id)
    call = api.transfer.Download(request)
    data = [(await call.read()).data]
    await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id="open"))
    await _until_no_bytes(server, "results", artifact.artifact_id)
    while (message := await call.read()) is not grpc.aio.EOF:
        data.append(message.data)
    assert hashlib.sha256(b"".join(data)).hexdigest() == artifact.sha256


async def test_the_trash_is_emptied(api: Api) -> None:
    session_id = await _ready(api, "trash")
    request = session.RemoveVideoRequest(session_id=session_id, video_id="trash", restorable=True)
    answer = await api.session.RemoveVideo(request)
    assert (await api.video("trash")).expire_time == answer.expire_time
    await _until(lambda: _is_forgotten(api.video("trash")))
    restore = catalog.RestoreVideoRequest(user_id=USER, video_id="trash")
    assert (await refused(api.catalog.RestoreVideo(restore))).reason == "UNKNOWN_VIDEO"


async def test_uploads_that_nobody_wants_go(api: Api, server: Server, clips: Path) -> None:
    used = await api.upload((clips / CLIP).read_bytes())
    unused = await api.upload(b"unused")
    assert unused.HasField("expire_time")
    upload_id = secrets.token_hex(16)
    header = transfer.UploadHeader(user_id=USER, upload_id=upload_id)
    cut = await api.transfer.Upload(
        iter_of([transfer.UploadRequest(header=header), transfer.UploadRequest(data=b"half")])
    )
    assert not cut.complete
    assert cut.HasField("expire_time")
    session_id = await api.open_session()
    file = types.FileDescriptor(upload_id=used.upload_id)
    await api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id="used", fds=[file]))
    assert not (await _query(api, used.upload_id)).HasField("expire_time")
    for gone in (unused.upload_id, upload_id):
        await _until(lambda gone=gone: _is_forgotten(_query(api, gone)))  # type: ignore[misc]
        await _until_no_bytes(server, "uploads", gone)
    assert (await _query(api, used.upload_id)).complete
    await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id="used"))
    assert (await refused(_query(api, used.upload_id))).reason == "UPLOAD_NOT_FOUND"


async def iter_of(messages: list[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


async def test_events_go_and_their_numbers_go_on(api: Api) -> None:
    user_id = USER + 1
    session_id = await api.open_session(user_id)
    event = await api.terminal(await api.process(session_id, "nobody"), user_id)
    assert event.sequence == 1
    await api.process(session_id, "nobody")

    async def are_gone() -> bool:
        accepted = await api.process(session_id, "nobody")
        async for kept in api.events(user_id, 0):
            if kept.sequence:
                assert kept.sequence <= accepted.event_sequence + 1
                return bool(kept.sequence > 2)
        raise AssertionError("the subscription ended")

    await _until(are_gone)
    refusal = await refused(_first(api.events(user_id, 1)))
    assert (Code.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE") == (refusal.status, refusal.reason)


async def _first(events: AsyncIterator[Any]) -> Any:
    return await anext(events)


async def test_a_users_quota_is_held_and_told(api: Api) -> None:
    told = await api.service.GetCapabilities(service.GetCapabilitiesRequest(user_id=USER + 2))
    assert told.limits.user_quota_bytes == QUOTA_BYTES
    assert told.retention.trash.seconds == KEPT_SECONDS
    header = transfer.UploadHeader(user_id=USER + 2, size_bytes=QUOTA_BYTES + 1)
    refusal = await refused(api.transfer.Upload(iter_of([transfer.UploadRequest(header=header)])))
    assert (Code.RESOURCE_EXHAUSTED, -2, "QUOTA_EXCEEDED") == (
        refusal.status,
        refusal.cam_ret_code,
        refusal.reason,
    )


async def test_a_restart_goes_on_with_it(tmp_path: Path, media_root: Path) -> None:
    """What expires while the service is down goes after its start; what was in the trash is there until then."""
    with Server(tmp_path / "data", *_flags(media_root, "--keep-trash-seconds", "8")) as server:
        async with connect(server) as api:
            session_id = await _ready(api, "v")
            event = await api.terminal(await api.process(session_id, "v"))
            (artifact,) = event.on_process_done.report.artifacts
            request = session.RemoveVideoRequest(session_id=session_id, video_id="v", restorable=True)
            await api.session.RemoveVideo(request)
        server.kill()
        server.start()
        async with connect(server) as api:
            assert (await api.video("v")).state == video.VIDEO_STATE_DELETED
            await _until(lambda: _is_forgotten(api.video("v")))
            await _until_no_bytes(server, "results", artifact.artifact_id)
