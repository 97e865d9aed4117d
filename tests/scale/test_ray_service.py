"""The real service on a Ray cluster of two nodes: the bytes of the local executor, whatever happens to nodes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from contract.executor_harness import ended, eventually
from media_factory import make_clip
from ray_nodes import RayNodes, free_cpus, holds_nothing, hosted_workers, processes_of
from service_harness import PATIENCE_SECONDS, SERVER, USER, Api, Server, connect
from videoprocess.v1 import job_pb2 as job
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import video_process_session_pb2 as session

pytestmark = pytest.mark.scale

CLIP = "flower_540p_5s.mp4"
SHAKEN = "shaken.mp4"
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1")
#: one for each CPU of the nodes
OPEN_SEGMENTS = 2
#: ten times the contract's bound at p99: a machine that others use gets more, and three tries
ABORT_SECONDS = 5.0


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    root = tmp_path_factory.mktemp("root")
    make_clip(root / SHAKEN, frames=60, gop=15, audio="aac", width=128, height=72)
    shutil.copy(clips / CLIP, root)
    return root


@pytest.fixture(name="flags", scope="module")
def _flags(nodes: RayNodes, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    folder = tmp_path_factory.mktemp("copies")

    def flags(*more: str) -> list[str]:
        ray = ("--executor", "ray", "--ray-address", nodes.address, "--ray-node-dir", str(folder))
        return [*FLAGS, "--shared-root", f"media={root}", "--workers", "1", *ray, *more]

    return flags


@pytest.fixture(name="expected", scope="module")
def _expected(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the local executor makes."""

    async def make(server: Server) -> dict[str, str]:
        return {name: await _result(server, name) for name in (CLIP, SHAKEN)}

    with Server(
        tmp_path_factory.mktemp("local") / "data", *FLAGS, "--shared-root", f"media={root}", "--workers", "2"
    ) as server:
        return asyncio.run(make(server))


def _setting(name: str) -> mode.ModeSetting | None:
    """A stabilised video has tasks that read and write other files, too."""
    return mode.ModeSetting(video_stabilization=2) if name == SHAKEN else None


async def _accepted(api: Api, name: str) -> tuple[str, str, Any]:
    video_id, session_id = uuid.uuid4().hex, await api.open_session()
    await api.prepare_path(session_id, video_id, name)
    await api.commit_video(session_id)
    if (setting := _setting(name)) is not None:
        await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, typed=setting))
    return session_id, video_id, await api.process(session_id, video_id)


async def _result(server: Server, name: str) -> str:
    async with connect(server) as api:
        _, _, accepted = await _accepted(api, name)
        return _sha256(await api.terminal(accepted))


def _sha256(event: Any) -> str:
    assert event.HasField("on_process_done"), event
    return str(event.on_process_done.report.artifacts[0].sha256)


async def _wait_for_segments(api: Api, video_id: str, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        video = await api.video(video_id)
        if video.job.state == job.JOB_STATE_COMPLETED or video.progress.segments_done >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never had {count} segments")


async def _terminal_events(api: Api, accepted: Any) -> int:
    """A later event of the user marks the end of what was kept until now."""
    marker = await api.process(await api.open_session(), "unknown")
    seen = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events(USER, 0):
            if event.sequence:
                seen.append(event.job_id)
            if event.job_id == marker.job_id:
                break
    return seen.count(accepted.job_id)


@pytest.fixture(name="server")
def _server(flags: Callable[..., list[str]], tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", *flags()) as server:
        yield server


@pytest.mark.parametrize("name", [CLIP, SHAKEN])
async def test_copied_files_make_the_same_bytes(server: Server, expected: dict[str, str], name: str) -> None:
    assert expected[name] == await _result(server, name)
    assert 0 == server.stop()
    assert "segments" in {folder.name for folder in server.data_dir.iterdir()}
    assert not list((server.data_dir / "segments").iterdir())


@pytest.mark.parametrize("name", [CLIP, SHAKEN])
async def test_a_shared_directory_makes_the_same_bytes(
    flags: Callable[..., list[str]], tmp_path: Path, expected: dict[str, str], name: str
) -> None:
    """The nodes see the data directory under another name."""
    (tmp_path / "data").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "data")
    with Server(tmp_path / "data", *flags("--ray-stage", str(tmp_path / "mount"))) as server:
        assert expected[name] == await _result(server, name)


def _kill_gateway(_nodes: RayNodes) -> None:
    """What becomes of a driver that loses its connection: Ray ends it."""
    (gateway,) = processes_of("ray_gateway")
    gateway.kill()


#: what is killed by SIGKILL in the middle
HARMS: Mapping[str, Callable[[RayNodes], None]] = {
    "node": lambda nodes: nodes.replace(nodes.nodes[0]),
    "worker": lambda _nodes: hosted_workers()[0].kill(),
    "head": RayNodes.kill_head,
    "gateway": _kill_gateway,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=list(HARMS))
async def test_what_is_killed_costs_its_open_segments_and_no_byte(
    server: Server, nodes: RayNodes, expected: dict[str, str], harm: Callable[[RayNodes], None]
) -> None:
    async with connect(server) as api:
        _, video_id, accepted = await _accepted(api, CLIP)
        await _wait_for_segments(api, video_id, 2)
        harm(nodes)
        event = await api.terminal(accepted)
        assert expected[CLIP] == _sha256(event)
        assert 1 == await _terminal_events(api, accepted)
    assert 1 <= server.log_path.read_text().count("segment_attempt_failed") <= OPEN_SEGMENTS


async def test_a_removed_video_leaves_no_task_on_any_node(server: Server, nodes: RayNodes) -> None:
    async with connect(server) as api:
        session_id, video_id, accepted = await _accepted(api, CLIP)
        await _wait_for_segments(api, video_id, 1)
        busy = hosted_workers()
        assert OPEN_SEGMENTS == len(busy)
        await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id=video_id))
        assert (await api.terminal(accepted)).HasField("on_error")
        assert eventually(lambda: all(ended(worker.pid) for worker in busy))
    assert eventually(lambda: free_cpus(nodes) == OPEN_SEGMENTS)


def _nothing_goes_on() -> bool:
    """Whether workers are frozen, or idle, or given up, as one is whose node does not answer soon."""
    before = _cpu_seconds()
    time.sleep(0.3)
    return before == _cpu_seconds()


def _cpu_seconds() -> dict[int, float]:
    return {worker.pid: worker.cpu_times().user for worker in hosted_workers()}


async def test_interrupt_stops_the_workers_on_their_nodes_and_costs_no_byte(
    server: Server, nodes: RayNodes, expected: dict[str, str]
) -> None:
    taken = []
    async with connect(server) as api:
        session_id, video_id, accepted = await _accepted(api, CLIP)
        for segments in (1, 3, 5):
            await _wait_for_segments(api, video_id, segments)
            begin = time.monotonic()
            await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
            event = await api.terminal(accepted)
            taken.append(time.monotonic() - begin)
            assert event.HasField("on_error")
            assert eventually(_nothing_goes_on)
            accepted = await api.process(session_id, video_id)
        assert min(taken) < ABORT_SECONDS
        assert expected[CLIP] == _sha256(await api.terminal(accepted))


async def test_a_killed_service_leaves_nothing_on_the_nodes_and_goes_on(
    flags: Callable[..., list[str]], tmp_path: Path, nodes: RayNodes, expected: dict[str, str]
) -> None:
    with Server(tmp_path / "data", *flags()) as server:
        async with connect(server) as api:
            _, video_id, accepted = await _accepted(api, CLIP)
            await _wait_for_segments(api, video_id, 2)
        server.kill()
        assert holds_nothing()
        server.start()
        async with connect(server) as api:
            event = await api.terminal(accepted)
            assert expected[CLIP] == _sha256(event)
            assert 2 <= event.on_process_done.report.reused_segment_count
            assert 1 == await _terminal_events(api, accepted)


def test_what_keeps_the_service_from_starting_is_one_line(
    flags: Callable[..., list[str]], tmp_path: Path
) -> None:
    command = [*SERVER, "serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    ended = subprocess.run(
        [*command, *flags("--ray-address", "127.0.0.1:9")],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert 3 == ended.returncode
    (line,) = ended.stderr.splitlines()
    assert "no Ray cluster at 127.0.0.1:9" in line
    assert not (tmp_path / "data").exists()
