"""The client's commands as real processes, against the real service: two terminals of one user."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client_command import Command
from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, Server

#: short segments, so that a small clip has many
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "1")


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, frames=240, gop=15, audio="aac", noise_sigma=8.0, width=640, height=360)
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


async def _until_segments(command: Command, video_id: str, count: int) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        done = await command("status", video_id, "--json")
        video: dict[str, Any] = done.json["video"]
        assert video["state"] in ("VIDEO_STATE_QUEUED", "VIDEO_STATE_RUNNING"), video
        if video.get("progress", {}).get("segments_done", 0) >= count:
            return video
    raise AssertionError(f"{video_id} never had {count} segments")


async def test_a_second_terminal_interrupts_and_the_work_goes_on_to_the_same_bytes(
    command: Command, clip: Path
) -> None:
    undisturbed = await command("enhance", str(clip), "-o", "expected.mp4", "--codec", "h265", "--json")
    assert (undisturbed.code, undisturbed.json["kept_on_server"]) == (0, False), undisturbed.err
    assert undisturbed.json["report"]["segment_count"] >= 12

    upload_id = (await command("upload", str(clip), "--json")).json["upload_id"]
    assert (await command("prepare", "v", "--upload", upload_id)).code == 0
    first = await command.start("process", "v", "--codec", "h265", "--json")
    await _until_segments(command, "v", 2)
    assert len((await command("interrupt", "--json")).json["job_ids"]) == 1
    out, err = await first.communicate()
    assert (first.returncode, json.loads(out)["error"]["reason"]) == (6, "INTERRUPTED")
    assert b"videoprocess process v goes on" in err
    paused = (await command("status", "v", "--json")).json["video"]
    assert paused["state"] == "VIDEO_STATE_PAUSED"

    second = await command.start("process", "v", "--json")
    await _until_segments(command, "v", paused["progress"]["segments_done"] + 1)
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
    """Over a kill -9 of the service, too."""
    arguments = ("enhance", str(clip), "-o", "out.mp4", "--video-id", "v", "--json")
    first = await command.start(*arguments)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await command("status", "v")).code == 5:
        assert time.monotonic() < deadline
    await _until_segments(command, "v", 2)
    assert (await command("interrupt", "--json")).json["job_ids"]
    await first.communicate()
    assert first.returncode == 6
    service.kill()
    await asyncio.to_thread(service.start)
    command.target = service.address
    again = await command(*arguments)
    assert (again.code, again.json["artifact"]["sha256"]) == (0, _sha256(command.directory / "out.mp4"))
    assert again.json["report"]["reused_segment_count"] >= 2
    assert again.json["kept_on_server"] is True  # at another address nobody knows that enhance brought it
    assert (await command("remove", "v")).code == 0
