"""The promise: one worker or two, a second run, a kill -9 in the middle: byte-identical results, one terminal event."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest

from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, USER, Api, Server, connect
from videoprocess.v1 import job_pb2 as job
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session

#: short segments, so that small clips have many
#: denoising takes long: only one of them is noisy
SMALL: dict[str, Any] = {"width": 128, "height": 72}
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1")


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    root = tmp_path_factory.mktemp("root")
    make_clip(root / "h264.mp4", frames=105, gop=15, audio="aac", **SMALL)
    make_clip(
        root / "hevc.mov",
        frames=48,
        gop=12,
        codec="libx265",
        pix_fmt="yuv420p10le",
        open_gop=True,
        noise_sigma=8.0,
        **SMALL,
    )
    make_clip(root / "sixty.mp4", frames=96, fps=Fraction(60), gop=30, **SMALL)
    shutil.copy(clips / "flower_540p_5s.mp4", root)
    return root


def _flags(root: Path, workers: int) -> tuple[str, ...]:
    return (*FLAGS, "--shared-root", f"media={root}", "--workers", str(workers))


@pytest.fixture(name="one_worker", scope="module")
def _one_worker(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("one") / "data", *_flags(root, 1)) as server:
        yield server


@pytest.fixture(name="two_workers", scope="module")
def _two_workers(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Server]:
    """Nobody disturbs what it does: its results are what others must equal."""
    with Server(tmp_path_factory.mktemp("two") / "data", *_flags(root, 2)) as server:
        yield server


async def _prepare(api: Api, name: str, setting: mode.ModeSetting | None = None, video_id: str = "") -> str:
    session_id = await api.open_session()
    await api.prepare_path(session_id, video_id or name, name)
    await api.commit_video(session_id)
    if setting is not None:
        await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, typed=setting))
    return session_id


async def _result(
    server: Server, name: str, setting: mode.ModeSetting | None = None, timestamp_us: int = 0
) -> str:
    """A run of its own: the video id is new, so nothing of an earlier one is reused."""
    async with connect(server) as api:
        video_id = uuid.uuid4().hex
        session_id = await _prepare(api, name, setting, video_id)
        event = await api.terminal(await api.process(session_id, video_id, timestamp_us))
        assert event.HasField("on_process_done"), event
        assert event.on_process_done.report.reused_segment_count == 0
        return event.on_process_done.report.artifacts[0].sha256


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("h264.mp4", None),
        pytest.param("hevc.mov", None, marks=pytest.mark.slow),
        ("sixty.mp4", mode.ModeSetting(frame_rate_range=mode.FrameRateRange(min_fps=1, max_fps=30))),
        pytest.param("h264.mp4", mode.ModeSetting(zoom_ratio=2.0), marks=pytest.mark.slow),
    ],
    ids=["h264", "hevc 10 bit open GOP", "60 to 30", "zoom"],
)
async def test_workers_and_runs_do_not_change_a_byte(
    one_worker: Server, two_workers: Server, name: str, setting: mode.ModeSetting | None
) -> None:
    digests = [await _result(server, name, setting) for server in (one_worker, two_workers, two_workers)]
    assert 1 == len(set(digests))


async def _wait_for_segments(api: Api, name: str, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        video = await api.video(name)
        if video.job.state == job.JOB_STATE_COMPLETED or video.progress.segments_done >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{name} never had {count} segments")


def _gone_within(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


@pytest.mark.slow
async def test_a_kill_in_the_middle_does_not_change_a_byte(
    tmp_path: Path, root: Path, two_workers: Server
) -> None:
    """Real footage; after the kill a finished segment is damaged, too: it is made again."""
    expected = await _result(two_workers, "flower_540p_5s.mp4")
    with Server(tmp_path / "killed", *_flags(root, 2)) as server:
        async with connect(server) as api:
            session_id = await _prepare(api, "flower_540p_5s.mp4")
            accepted = await api.process(session_id, "flower_540p_5s.mp4")
            await _wait_for_segments(api, "flower_540p_5s.mp4", 3)
        workers = server.kill()
        assert workers
        assert _gone_within(workers, 20.0)
        damaged = min((tmp_path / "killed" / "segments").glob("*/000000-*"))
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
        server.start()
        async with connect(server) as api:
            event = await api.terminal(accepted)
            assert expected == event.on_process_done.report.artifacts[0].sha256
            assert 2 <= event.on_process_done.report.reused_segment_count
            await _assert_one_terminal_event(api, accepted)
        assert 0 == server.stop()
    assert not list((tmp_path / "killed" / "segments").iterdir())
    assert not list((tmp_path / "killed" / "work").iterdir())


async def _assert_one_terminal_event(api: Api, accepted: Any) -> None:
    """A later event of the user marks the end of what was kept until now."""
    marker = await api.process(await api.open_session(), "unknown")
    async with asyncio.timeout(PATIENCE_SECONDS):
        seen = []
        async for event in api.events(USER, 0):
            if event.sequence:
                seen.append(event.job_id)
            if event.job_id == marker.job_id:
                break
    assert 1 == seen.count(accepted.job_id)


@pytest.mark.slow
async def test_a_worker_that_is_killed_is_replaced_and_no_byte_changes(
    tmp_path: Path, root: Path, two_workers: Server
) -> None:
    expected = await _result(two_workers, "h264.mp4")
    with Server(tmp_path / "killed", *_flags(root, 2)) as server:
        async with connect(server) as api:
            session_id = await _prepare(api, "h264.mp4")
            accepted = await api.process(session_id, "h264.mp4")
            await _wait_for_segments(api, "h264.mp4", 1)
            for worker in psutil.Process(server.pid).children(recursive=True):
                worker.kill()
            event = await api.terminal(accepted)
    assert expected == event.on_process_done.report.artifacts[0].sha256


async def test_an_interrupted_job_goes_on_and_no_byte_changes(
    tmp_path: Path, root: Path, two_workers: Server
) -> None:
    """Each time stamp after the first does not matter: the plan goes on, and decides alone what is enhanced."""
    expected = await _result(two_workers, "h264.mp4", timestamp_us=1_000_000)
    with Server(tmp_path / "interrupted", *_flags(root, 2)) as server:
        async with connect(server) as api:
            session_id = await _prepare(api, "h264.mp4")
            accepted = await api.process(session_id, "h264.mp4", 1_000_000)
            for segments in (1, 3, 5):
                await _wait_for_segments(api, "h264.mp4", segments)
                await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
                assert (await api.terminal(accepted)).HasField("on_error")
                accepted = await api.process(session_id, "h264.mp4", segments)
            event = await api.terminal(accepted)
    report = event.on_process_done.report
    assert expected == report.artifacts[0].sha256
    assert [1_000_000] == [enhanced.start_us for enhanced in report.enhanced_ranges]


@pytest.mark.slow
async def test_a_stop_gives_the_work_to_the_next_start(
    tmp_path: Path, root: Path, two_workers: Server
) -> None:
    """SIGTERM in the middle: exit code 0, no terminal event, and the next start goes on to the same bytes."""
    expected = await _result(two_workers, "h264.mp4")
    with Server(tmp_path / "stopped", *_flags(root, 2)) as server:
        async with connect(server) as api:
            session_id = await _prepare(api, "h264.mp4")
            accepted = await api.process(session_id, "h264.mp4")
            await _wait_for_segments(api, "h264.mp4", 1)
        assert 0 == server.stop()
        server.start()
        async with connect(server) as api:
            event = await api.terminal(accepted)
            assert expected == event.on_process_done.report.artifacts[0].sha256


@pytest.mark.slow
async def test_a_second_service_on_the_same_data_directory_does_not_start(tmp_path: Path) -> None:
    with Server(tmp_path / "data"), pytest.raises(AssertionError, match="in use by another"):
        Server(tmp_path / "data").start()


@pytest.mark.slow
async def test_a_changed_shared_file_is_never_mixed_in(tmp_path: Path, root: Path) -> None:
    """The source is not what was prepared: PROCESS, SOURCE_CHANGED, and the video needs Prepare."""
    shutil.copy(root / "h264.mp4", root / "changing.mp4")
    with Server(tmp_path / "data", *FLAGS, "--shared-root", f"media={root}") as server:
        async with connect(server) as api:
            session_id = await _prepare(api, "changing.mp4")
            shutil.copy(root / "sixty.mp4", root / "changing.mp4")
            event = await api.terminal(await api.process(session_id, "changing.mp4"))
            assert "SOURCE_CHANGED" == event.on_error.reason
            event = await api.terminal(await api.process(session_id, "changing.mp4"))
            assert "NEEDS_PREPARE" == event.on_error.reason
            file = types.FileDescriptor(shared_path=types.SharedPath(root="media", path="changing.mp4"))
            await api.session.Prepare(
                session.PrepareRequest(session_id=session_id, video_id="changing.mp4", fds=[file])
            )
            event = await api.terminal(await api.process(session_id, "changing.mp4"))
            assert event.HasField("on_process_done")
