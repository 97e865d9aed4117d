"""Sound stays with the picture: a flash and a beep every second at a variable rate, in and out, to the sample."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from av_sync import Sync, measure
from media_factory import AUDIO_RATE, make_clip
from service_harness import Server, connect

pytestmark = pytest.mark.slow
#: milliseconds between frames: none of the flashes begins at a full second, where the beeps do
UNEVEN = (33, 34, 33, 100, 17, 50, 33, 184, 33, 33, 67, 21)
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")
SAMPLE = Fraction(1, AUDIO_RATE)
#: name → how it is made, samples that a lossy codec may move a beep
CLIPS: dict[str, tuple[dict[str, Any], int]] = {
    "pcm.mov": ({"audio": "pcm_s16le"}, 0),
    "aac.mp4": ({"audio": "aac"}, 1),
    "aac_edit_list_hides_pictures.mp4": ({"audio": "aac", "hidden_frames": 4}, 1),
    "pcm_picture_begins_late.mov": ({"audio": "pcm_s16le", "start_pts": 211}, 0),
    "flac.mkv": ({"audio": "flac"}, 0),
}


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sync")


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("service") / "data"
    with Server(data_dir, *FLAGS, "--shared-root", f"media={root}") as server:
        yield server


async def _processed(server: Server, source: Path) -> Path:
    async with connect(server) as api:
        session_id = await api.open_session()
        await api.prepare_path(session_id, source.name, source.name)
        await api.commit_video(session_id)
        event = await api.terminal(await api.process(session_id, source.name))
        assert event.HasField("on_process_done"), event
        made = event.on_process_done.report
        assert made.segment_count >= 3
        result = source.parent / f"result-{made.artifacts[0].file_name}"
        result.write_bytes(await api.download(made.artifacts[0].artifact_id))
    return result


@pytest.mark.parametrize("name", CLIPS)
async def test_flash_and_beep_stay_together_to_the_sample(server: Server, root: Path, name: str) -> None:
    wanted, samples = CLIPS[name]
    pts = [0, *accumulate(UNEVEN[k % len(UNEVEN)] for k in range(69))]
    clip = make_clip(root / name, pts=pts, time_base=Fraction(1, 1000), flash_and_beep=True, gop=12, **wanted)
    before = measure(clip.path)
    _is_as_made(before, clip.flashes, samples)
    after = measure(await _processed(server, clip.path))
    assert before.offsets == after.offsets
    assert before == after


def _is_as_made(found: Sync, flashes: tuple[Fraction, ...], samples: int) -> None:
    """What is measured of the source is what was put into it: so the measure is one."""
    assert len(found.flashes) >= 3
    assert len(found.steps) >= 5
    assert found.flashes == flashes
    assert all(abs(beep - round(beep)) <= samples * SAMPLE for beep in found.beeps)
    assert len(set(found.offsets)) > 1
