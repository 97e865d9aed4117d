"""The client's commands as real processes, against the real service: two terminals of one user."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from client_command import Command
from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, Server
from videoprocess.v1.video_pb2 import VIDEO_STATE_COMPLETED
from videoprocess_client import Client, NotFound

pytestmark = pytest.mark.slow

#: short segments, so that a small clip has many
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "1")


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, frames=180, gop=15, audio="aac", noise_sigma=8.0, width=320, height=180)
    return path


@pytest.fixture(name="service")
def _service(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", *FLAGS) as server:
        yield server


@pytest.fixture(name="command")
def _command(service: Server, tmp_path: Path) -> Command:
    directory = tmp_path / "work"
    directory.mkdir()
    return Command(service.address, directory, {"XDG_STATE_HOME": str(tmp_path / "state")})


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def _until_segments(service: Server, video_id: str, count: int) -> None:
    """Asks without the command: starting that takes as long as a segment."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with Client(service.address) as client:
        while time.monotonic() < deadline:
            with suppress(NotFound):
                video = await client.get_video(video_id)
                assert video.state != VIDEO_STATE_COMPLETED
                if video.progress.segments_done >= count:
                    return
            await asyncio.sleep(0.05)
    raise AssertionError(f"{video_id} never had {count} segments")


async def test_a_second_terminal_interrupts_and_the_work_goes_on_to_the_same_bytes(
    command: Command, service: Server, clip: Path
) -> None:
    undisturbed = await command("enhance", str(clip), "-o", "expected.mp4", "--codec", "h265", "--json")
    assert (undisturbed.code, undisturbed.json["kept_on_server"]) == (0, False), undisturbed.err
    assert undisturbed.json["report"]["segment_count"] >= 12

    upload_id = (await command("upload", str(clip), "--json")).json["upload_id"]
    assert (await command("prepare", "v", "--upload", upload_id)).code == 0
    first = await command.start("process", "v", "--codec", "h265", "--json")
    await _until_segments(service, "v", 2)
    assert len((await command("interrupt", "--json")).json["job_ids"]) == 1
    out, err = await first.communicate()
    assert (first.returncode, json.loads(out)["error"]["reason"]) == (6, "INTERRUPTED")
    assert b"videoprocess process v goes on" in err
    paused = (await command("status", "v", "--json")).json["video"]
    assert paused["state"] == "VIDEO_STATE_PAUSED"

    second = await command.start("process", "v", "--json")
    await _until_segments(service, "v", paused["progress"]["segments_done"] + 1)
    second.send_signal(signal.SIGINT)
    out, _ = await second.communicate()
    assert (second.returncode, json.loads(out)["error"]["reason"]) == (130, "DETACHED")

    done = await command("process", "v", "--json")
    assert done.code == 0, done.err
    assert done.json["report"]["reused_segment_count"] >= 2
    assert (await command("fetch", "v", "-o", "result.mp4")).code == 0
    assert _sha256(command.directory / "result.mp4") == _sha256(command.directory / "expected.mp4")
    assert (await command("remove", "v")).code == 0
    assert (await command("status", "--json")).json["videos"] == []


async def test_an_interrupted_enhance_goes_on_and_leaves_nothing_on_the_server(
    command: Command, service: Server, clip: Path
) -> None:
    arguments = ("enhance", str(clip), "-o", "out.mp4", "--video-id", "v", "--codec", "h265", "--json")
    first = await command.start(*arguments)
    await _until_segments(service, "v", 2)
    assert (await command("interrupt", "--json")).json["job_ids"]
    await first.communicate()
    assert first.returncode == 6
    again = await command(*arguments)
    assert (again.code, again.json["kept_on_server"]) == (0, False), again.err
    assert again.json["report"]["reused_segment_count"] >= 2
    assert (await command("status", "--json")).json["videos"] == []
