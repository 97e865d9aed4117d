"""A shared file that is touched while a job is paused: other content is noticed, however it hides; other times alone cost nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from media_factory import make_clip
from service_harness import Api, Server, connect
from videoprocess.v1 import video_process_session_pb2 as session

pytestmark = pytest.mark.slow

FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "1")


@pytest.fixture(name="clip")
def _clip(tmp_path: Path) -> Path:
    path = tmp_path / "media" / "clip.mp4"
    path.parent.mkdir()
    make_clip(path, frames=150, gop=15, noise_sigma=6.0, width=192, height=108)
    return path


async def _paused_and_gone_on(api: Api, touch: Callable[[], None]) -> Any:
    """Interrupt with a segment finished, touch the file, process again; returns the second job's end."""
    session_id = await api.open_session()
    await api.prepare_path(session_id, "v", "clip.mp4")
    await api.commit_video(session_id)
    first = await api.process(session_id, "v")
    async for event in api.events(100):
        if event.on_progress.progress.segments_done:
            break
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
    assert (await api.terminal(first)).on_error.reason == "INTERRUPTED"
    touch()
    return await api.terminal(await api.process(session_id, "v"))


def _change_a_byte(path: Path) -> None:
    """Change one of the first segment; keep size, inode and modification time: only the change time tells."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 50)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("parked", [True, False])
async def test_other_content_under_the_same_times_is_noticed(
    tmp_path: Path, clip: Path, parked: bool
) -> None:
    flags = (*FLAGS, "--shared-root", f"media={clip.parent}")
    flags = flags if parked else (*flags, "--parked-seconds", "0")
    with Server(tmp_path / "data", *flags) as server:
        async with connect(server) as api:
            end = await _paused_and_gone_on(api, lambda: _change_a_byte(clip))
    assert end.on_error.reason == "SOURCE_CHANGED"


async def test_other_times_alone_change_nothing(tmp_path: Path, clip: Path) -> None:
    digests = []
    for name, touch in (("untouched", lambda: None), ("touched", lambda: clip.chmod(0o600))):
        with Server(tmp_path / name, *FLAGS, "--shared-root", f"media={clip.parent}") as server:
            async with connect(server) as api:
                end = await _paused_and_gone_on(api, touch)
        digests.append(end.on_process_done.report.artifacts[0].sha256)
    assert digests[0] == digests[1]
