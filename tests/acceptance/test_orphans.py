"""kill -9 of the service: nothing of it runs on, neither what works nor what is parked, and its successor starts clean."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from media_factory import shrink_clip
from post_mortem import files
from service_harness import PATIENCE_SECONDS, Api, Server, connect
from videoprocess.v1 import job_pb2 as job
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_session_pb2 as session

pytestmark = pytest.mark.slow

FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")
GONE_SECONDS = 2.0
TRIES, SECONDS_TO_GO_ON = 10, 0.1
WORKING, PARKED = "working", "parked"
#: what a clean start may log
CLEAN = {"info"}


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    root = tmp_path_factory.mktemp("root")
    shrink_clip(clips / "dog_720p30_10s.mp4", root / "dog.mp4", width=384, height=216, gop=15)
    return root


async def _process(api: Api, video_id: str) -> Any:
    session_id = await api.open_session()
    await api.prepare_path(session_id, video_id, "dog.mp4")
    await api.commit_video(session_id)
    return await api.process(session_id, video_id)


async def _until_encoding(api: Api, video_id: str) -> None:
    """Wait until workers have its segments, and some are finished."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await api.video(video_id)).progress.segments_done < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _parked(api: Api, video_id: str, mark: Path) -> None:
    """Interrupt its work until that meets a worker in the middle of a segment, not between two."""
    accepted = await _process(api, video_id)
    await _until_encoding(api, video_id)
    for _ in range(TRIES):
        await api.session.Interrupt(
            session.InterruptRequest(session_id=accepted.job.session_id, video_ids=[video_id])
        )
        assert "INTERRUPTED" == (await api.terminal(accepted)).on_error.reason
        if _stopped(_marked(mark)):
            return
        accepted = await api.process(accepted.job.session_id, video_id)
        await asyncio.sleep(SECONDS_TO_GO_ON)
    raise AssertionError("the interrupted job's workers are not parked")


def _marked(folder: Path) -> set[psutil.Process]:
    """All processes that have this TMPDIR: the service gives it to its workers, and they would to theirs."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except psutil.Error:
            continue
    return found


def _stopped(processes: set[psutil.Process]) -> set[psutil.Process]:
    return {process for process in processes if process.status() == psutil.STATUS_STOPPED}


async def test_nothing_outlives_a_kill_and_the_successor_starts_clean(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "tmp"
    mark.mkdir()
    monkeypatch.setenv("TMPDIR", str(mark))
    with Server(tmp_path / "data", *FLAGS, "--shared-root", f"media={root}") as server:
        async with connect(server) as api:
            await _parked(api, PARKED, mark)
            working = await _process(api, WORKING)
            await _until_encoding(api, WORKING)
        before = _marked(mark)
        assert {server.pid} < {process.pid for process in before}
        parked = _stopped(before)
        assert parked, "the interrupted job's workers are not parked"
        assert before - parked - {psutil.Process(server.pid)}, "no worker works"
        killed_at = time.monotonic()
        assert {process.pid for process in server.kill()} <= {process.pid for process in before}
        while alive := _marked(mark):
            assert time.monotonic() - killed_at < GONE_SECONDS, f"still there: {alive}"
            await asyncio.sleep(0.02)
        print(
            f"gone after {time.monotonic() - killed_at:.3f} s: {len(before)} processes, {len(parked)} parked"
        )
        await _assert_a_clean_successor(server, working)


async def _assert_a_clean_successor(server: Server, working: Any) -> None:
    """It goes on with what was worked at, and with what was parked when asked; both have the same bytes."""
    logged_before = len(server.log_path.read_text().splitlines())
    server.start()
    async with connect(server) as api:
        assert video.VIDEO_STATE_PAUSED == (await api.video(PARKED)).state
        assert (await api.video(WORKING)).job.state in {
            job.JOB_STATE_QUEUED,
            job.JOB_STATE_RUNNING,
            job.JOB_STATE_COMPLETED,
        }
        first = (await api.terminal(working)).on_process_done.report
        second = (await api.terminal(await _process(api, PARKED))).on_process_done.report
    assert first.artifacts[0].sha256 == second.artifacts[0].sha256 != ""
    assert first.reused_segment_count >= 2
    assert second.reused_segment_count >= 2
    assert 0 == server.stop()
    assert not files(server.data_dir, "segments")
    assert not files(server.data_dir, "work")
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines()[logged_before:]]
    assert CLEAN == {line["level"] for line in lines}, [line for line in lines if line["level"] not in CLEAN]
