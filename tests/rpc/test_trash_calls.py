"""RemoveVideo, RestoreVideo and the trash at the wire."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from service_harness import PATIENCE_SECONDS, USER, Api, Server, connect, refused
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_session_pb2 as session

Code = grpc.StatusCode
CLIP = "rot90_iphone_3f.mov"
LONG_CLIP = "phone_2004_h263_amr_vfr.3gp"
TRASH_SECONDS = 30 * 24 * 3600


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, media_root: Path) -> Iterator[Server]:
    flags = ("--shared-root", f"media={media_root}", "--workers", "1", "--segment-seconds", "0.5")
    with Server(tmp_path_factory.mktemp("trash") / "data", *flags, "--longest-gop-seconds", "0.5") as server:
        yield server


@pytest.fixture(name="api")
async def _api(server: Server) -> AsyncIterator[Api]:
    async with connect(server) as api:
        yield api


async def _remove(api: Api, session_id: str, video_id: str, *, restorable: bool) -> Any:
    return await api.session.RemoveVideo(
        session.RemoveVideoRequest(session_id=session_id, video_id=video_id, restorable=restorable)
    )


async def _restore(api: Api, video_id: str, user_id: int = USER) -> video.Video:
    request = catalog.RestoreVideoRequest(user_id=user_id, video_id=video_id)
    return (await api.catalog.RestoreVideo(request)).video


async def _listed(api: Api, *states: video.VideoState) -> set[str]:
    answer = await api.catalog.ListVideos(catalog.ListVideosRequest(user_id=USER, states=states))
    return {found.video_id for found in answer.videos}


async def _ready(api: Api, video_id: str, clip: str = CLIP) -> str:
    session_id = await api.open_session()
    await api.commit_video(session_id)
    await api.prepare_path(session_id, video_id, clip)
    return session_id


async def test_a_video_goes_into_the_trash_and_comes_back(api: Api) -> None:
    session_id = await _ready(api, "there")
    answer = await _remove(api, session_id, "there", restorable=True)
    assert abs(answer.expire_time.seconds - time.time() - TRASH_SECONDS) < 60
    pending = await api.session.GetPendingVideos(session.GetPendingVideosRequest(session_id=session_id))
    assert "there" not in pending.video_ids
    assert "there" not in await _listed(api)
    assert "there" in await _listed(api, video.VIDEO_STATE_DELETED)
    told = await api.video("there")
    assert (told.state, told.expire_time) == (video.VIDEO_STATE_DELETED, answer.expire_time)
    assert await _remove(api, session_id, "there", restorable=True) == answer
    restored = await _restore(api, "there")
    assert restored.state == video.VIDEO_STATE_PENDING
    assert not restored.HasField("expire_time")
    assert restored == await api.video("there")
    assert "there" in await _listed(api)
    assert await _restore(api, "there") == restored


async def test_a_completed_video_comes_back_with_its_results(api: Api) -> None:
    session_id = await _ready(api, "done")
    event = await api.terminal(await api.process(session_id, "done"))
    (artifact,) = event.on_process_done.report.artifacts
    assert artifact.HasField("expire_time")
    assert (await api.video("done")).expire_time == artifact.expire_time
    await _remove(api, session_id, "done", restorable=True)
    assert len(await api.download(artifact.artifact_id)) == artifact.size_bytes
    restored = await _restore(api, "done")
    assert restored.state == video.VIDEO_STATE_COMPLETED
    assert [file.artifact_id for file in restored.artifacts] == [artifact.artifact_id]
    assert restored.report.fingerprint == event.on_process_done.report.fingerprint


@pytest.mark.slow
async def test_work_is_aborted_and_goes_on_from_its_segments_after_a_restore(api: Api) -> None:
    session_id = await _ready(api, "whole", LONG_CLIP)
    whole = await api.terminal(await api.process(session_id, "whole"))
    await api.prepare_path(session_id, "cut", LONG_CLIP)
    accepted = await api.process(session_id, "cut")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await api.video("cut")).progress.segments_done < 2:  # noqa: ASYNC110 - a state of the service
            await asyncio.sleep(0.02)
    await _remove(api, session_id, "cut", restorable=True)
    event = await api.terminal(accepted)
    assert (hdi.ERROR_CODE_ABORT, "REMOVED") == (event.on_error.error_code, event.on_error.reason)
    assert (await _restore(api, "cut")).state == video.VIDEO_STATE_PENDING
    report = (await api.terminal(await api.process(session_id, "cut"))).on_process_done.report
    assert report.reused_segment_count >= 2
    assert report.artifacts[0].sha256 == whole.on_process_done.report.artifacts[0].sha256


async def test_what_the_trash_refuses(api: Api) -> None:
    session_id = await _ready(api, "refusing")
    await _remove(api, session_id, "refusing", restorable=True)
    event = await api.terminal(await api.process(session_id, "refusing"))
    assert (hdi.ERROR_CODE_INVALID_ID, "UNKNOWN_VIDEO_ID") == (
        event.on_error.error_code,
        event.on_error.reason,
    )
    other = await refused(api.prepare_path(session_id, "refusing", "samsung_sef_slowmotion.mp4"))
    assert (Code.ABORTED, -8, "SOURCE_IN_USE") == (other.status, other.cam_ret_code, other.reason)
    upload = await refused(api.upload(b"abc", video_id="refusing"))
    assert (Code.ABORTED, -8, "VIDEO_EXISTS") == (upload.status, upload.cam_ret_code, upload.reason)
    same = await api.prepare_path(session_id, "refusing", CLIP)
    assert same.video.state == video.VIDEO_STATE_DELETED
    assert same.stream_descs


async def test_what_is_not_there_cannot_come_back(api: Api) -> None:
    session_id = await _ready(api, "mine")
    await _remove(api, session_id, "mine", restorable=True)
    for user_id, video_id in ((USER, "nobody"), (USER, ""), (USER + 1, "mine")):
        refusal = await refused(_restore(api, video_id, user_id))
        assert (Code.NOT_FOUND, -3, "UNKNOWN_VIDEO") == (
            refusal.status,
            refusal.cam_ret_code,
            refusal.reason,
        )
    missing = await refused(api.catalog.RestoreVideo(catalog.RestoreVideoRequest(video_id="mine")))
    assert missing.reason == "MISSING_FIELD"
    await _remove(api, session_id, "mine", restorable=False)
    assert (await refused(_restore(api, "mine"))).reason == "UNKNOWN_VIDEO"


async def test_removed_for_good_its_results_can_be_fetched_for_an_hour(api: Api) -> None:
    session_id = await _ready(api, "gone")
    event = await api.terminal(await api.process(session_id, "gone"))
    (artifact,) = event.on_process_done.report.artifacts
    answer = await _remove(api, session_id, "gone", restorable=False)
    assert abs(answer.expire_time.seconds - time.time() - 3600) < 60
    data = await api.download(artifact.artifact_id)
    assert hashlib.sha256(data).hexdigest() == artifact.sha256
    assert not (await _remove(api, session_id, "gone", restorable=False)).HasField("expire_time")
    prepared = await api.prepare_path(session_id, "gone", "samsung_sef_slowmotion.mp4")
    assert prepared.video.state == video.VIDEO_STATE_PENDING
    assert not prepared.video.artifacts
