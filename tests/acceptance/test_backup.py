"""The documented backup of a running service, and the way back: the same videos, events, bytes, and work that goes on."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, USER, Api, Server, connect
from shell_fences import fences, run
from videoprocess.v1 import (
    file_transfer_pb2 as transfer,
)
from videoprocess.v1 import (
    video_catalog_pb2 as catalog,
)
from videoprocess.v1 import (
    video_pb2,
)
from videoprocess.v1 import (
    video_process_session_pb2 as session,
)

BACKUP, RESTORE = fences("docs/backup-and-upgrade.md")
PIECE = b"the first bytes of an upload that goes on later" * 1000


async def _state(api: Api) -> dict[str, Any]:
    """What callers see: videos, kept events, the unfinished upload, the results' bytes."""
    videos = (await api.catalog.ListVideos(catalog.ListVideosRequest(user_id=USER))).videos
    done = await api.video("done")
    events = []
    async with asyncio.timeout(30):
        async for event in api.events(USER, 0):
            if event.sequence:
                events.append(event)
            if event.sequence == 2:
                break
    return {
        "videos": sorted((video.video_id, video.state) for video in videos),
        "events": [event.SerializeToString(deterministic=True) for event in events],
        "results": [await api.download(artifact.artifact_id) for artifact in done.artifacts],
    }


@pytest.mark.slow
async def test_a_backup_of_a_running_service_brings_back_all_it_had(tmp_path: Path) -> None:
    clip = tmp_path / "media" / "clip.mp4"
    clip.parent.mkdir()
    make_clip(clip, frames=60, width=160, height=90, gop=15, noise_sigma=6.0)
    flags = ("--shared-root", f"media={clip.parent}", "--workers", "1", "--segment-seconds", "0.5")
    flags += ("--longest-gop-seconds", "1")
    with Server(tmp_path / "data", *flags) as server:
        async with connect(server) as api:
            opened = await api.open_session()
            await api.commit_video(opened)
            for name in ("done", "paused"):
                await api.prepare_path(opened, name, "clip.mp4")
            await api.terminal(await api.process(opened, "done"))
            accepted = await api.process(opened, "paused")
            await _until_a_segment_is_done(api, "paused")
            await api.session.Interrupt(session.InterruptRequest(session_id=opened))
            await api.terminal(accepted)
            upload_id = await _begin_upload(api)
            before = await _state(api)
            run(BACKUP, tmp_path, server.address)
            # what comes after the backup is not in it
            await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=opened, video_id="done"))
        server.kill()
        run(RESTORE, tmp_path, server.address)
        shutil.rmtree(tmp_path / "data.before")
        server.start()
        async with connect(server) as api:
            assert await _state(api) == before
            assert ("paused", video_pb2.VIDEO_STATE_PAUSED) in before["videos"]
            await _end_upload(api, upload_id)
            await api.terminal(await api.process(opened, "paused"))
            (artifact,) = (await api.video("paused")).artifacts
            assert await api.download(artifact.artifact_id) == before["results"][0]


async def _until_a_segment_is_done(api: Api, video_id: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await api.video(video_id)).progress.segments_done:  # noqa: ASYNC110 - a service of its own
            await asyncio.sleep(0.01)


async def _begin_upload(api: Api) -> str:
    """Send a part, and come back later for the rest."""
    upload_id = uuid.uuid4().hex
    call = api.transfer.Upload()
    await call.write(transfer.UploadRequest(header=transfer.UploadHeader(user_id=USER, upload_id=upload_id)))
    await call.write(transfer.UploadRequest(offset=0, data=PIECE))
    await call.done_writing()
    assert (await call).committed_size_bytes == len(PIECE)
    return upload_id


async def _end_upload(api: Api, upload_id: str) -> None:
    """Send the rest: the part is there."""
    call = api.transfer.Upload()
    header = transfer.UploadHeader(user_id=USER, upload_id=upload_id)
    await call.write(transfer.UploadRequest(header=header))
    end = transfer.UploadFinish(size_bytes=len(PIECE), sha256=hashlib.sha256(PIECE).hexdigest())
    await call.write(transfer.UploadRequest(offset=len(PIECE), finish=end))
    await call.done_writing()
    assert (await call).committed_size_bytes == len(PIECE)
