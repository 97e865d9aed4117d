"""A shared root on a file system of its own that has no space, or is read-only: the job waits, and goes on by itself."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_harness import PATIENCE_SECONDS, Api, Server, connect
from soaking import SOAKING
from videoprocess.v1 import job_pb2
from videoprocess.v1 import types_pb2 as types

pytestmark = pytest.mark.slow

#: options that spoil the file system, beside its size; what the job says it waits for
WAYS = {
    "full": ("", job_pb2.BLOCK_REASON_SPACE_LIMIT),
    "read-only": ("remount,ro", job_pb2.BLOCK_REASON_STORE_UNREACHABLE),
}
CLIP = "rot90_iphone_3f.mov"


def _mount(path: Path, options: str) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True, capture_output=True
    )


@pytest.fixture(name="small")
def _small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one page."""
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounts a file system")
    try:
        _mount(path, "size=4k")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine mounts nothing: {error.stderr.decode()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


async def _blocked(api: Api, video_id: str) -> job_pb2.BlockReason:
    for _ in range(round(PATIENCE_SECONDS / 0.05)):
        video = await api.video(video_id)
        if video.blocked_by:
            reason: job_pb2.BlockReason = video.blocked_by
            return reason
        await asyncio.sleep(0.05)
    raise AssertionError("it is not blocked")


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    WAYS.values() if SOAKING else [WAYS["full"]],
    ids=WAYS if SOAKING else ["full"],
)
async def test_a_job_waits_until_its_result_can_be_written(
    tmp_path: Path, media_root: Path, small: Path, spoilt: str, reason: job_pb2.BlockReason
) -> None:
    roots = ("--shared-root", f"media={media_root}", "--shared-root", f"out,rw={small}")
    with Server(tmp_path / "data", *roots, "--workers", "1") as server:
        async with connect(server) as api:
            session_id = await api.open_session()
            directory = types.SharedDirectory(root="out", name_template="a.{ext}")
            await api.commit_video(session_id, buffer_queue=types.BufferQueue(directory=directory))
            if spoilt:
                _mount(small, spoilt)
            await api.prepare_path(session_id, "v", CLIP)
            accepted = await api.process(session_id, "v")
            assert await _blocked(api, "v") == reason
            assert _digests(small) == {}
            _mount(small, "remount,rw,size=10m")
            event = await api.terminal(accepted)
            (file,) = event.on_process_done.report.artifacts
            assert _digests(small) == {"a.mov": file.sha256}
