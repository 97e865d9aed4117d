"""The promise on whole clips, made and real: each frame once, in order, at its exact time; sound and looks as they were."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from clip_checks import ClipRow, examine
from media_factory import Colours, make_clip, read_frame_numbers
from service_harness import Api, Server, connect
from videoprocess.v1 import report_pb2 as report

#: short segments, so that small clips have many
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")
HLG = Colours(primaries=9, transfer=18, matrix=9)
#: milliseconds between frames, as phones have them in the dark
UNEVEN = (33, 34, 33, 100, 17, 50, 33, 184, 33, 33, 67, 21)


def _uneven(frames: int) -> list[int]:
    return [0, *accumulate(UNEVEN[k % len(UNEVEN)] for k in range(frames - 1))]


#: name → what is made, segments at least
MADE: dict[str, tuple[dict[str, Any], int]] = {
    "b_frames_and_aac.mp4": ({"frames": 75, "gop": 15, "audio": "aac"}, 3),
    "open_gop_10_bit_hlg_rotated.mov": (
        {
            "frames": 60,
            "gop": 12,
            "codec": "libx265",
            "pix_fmt": "yuv420p10le",
            "open_gop": True,
            "b_frames": 3,
            "rotation": -90,
            "colours": HLG,
        },
        3,
    ),
    "one_gop.mp4": ({"frames": 75, "gop": 250, "audio": "aac"}, 2),
    "variable_rate.mp4": (
        {"pts": _uneven(60), "time_base": Fraction(1, 1000), "gop": 12, "audio": "aac"},
        3,
    ),
    "variable_rate_to_the_end.mp4": (
        {"pts": [*range(0, 2000, 40), 2304], "time_base": Fraction(1, 1000), "gop": 12},
        2,
    ),
    "edit_list_in_the_middle_of_a_gop.mp4": (
        {"frames": 75, "gop": 15, "hidden_frames": 5, "audio": "aac"},
        3,
    ),
    "matroska.mkv": ({"frames": 60, "fps": Fraction(25), "gop": 10, "audio": "aac"}, 3),
    "matroska_with_sound_that_mp4_lacks.mkv": (
        {"frames": 50, "fps": Fraction(25), "gop": 10, "audio": "mp2"},
        3,
    ),
    "begins_late.mp4": ({"frames": 60, "gop": 15, "start_pts": 7, "audio": "aac"}, 3),
    "h265_full_range.mp4": (
        {"frames": 45, "gop": 15, "codec": "libx265", "colours": Colours(range=2), "audio": "aac"},
        3,
    ),
}

#: small enough to be tried whole → segments at least
REAL = {
    "flower_540p_5s.mp4": 3,
    "iphone14pro_hlg_noaudio_opengop_rot90.mov": 2,
    "samsung_sef_slowmotion.mp4": 3,
    "h264_fullrange_webcam.mkv": 3,
    "nasa_2video_2audio_2subs.mp4": 3,
    "phone_2004_h263_amr_vfr.3gp": 3,
    "rot90_iphone_3f.mov": 1,
}
DAILY = {"b_frames_and_aac.mp4", "open_gop_10_bit_hlg_rotated.mov", "variable_rate.mp4", "matroska.mkv"}
LARGE = {
    "iphone14pro_hlg_noaudio_opengop_rot90.mov",
    "flower_540p_5s.mp4",
    "h264_fullrange_webcam.mkv",
    "nasa_2video_2audio_2subs.mp4",
}


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("service") / "data"
    with Server(data_dir, *FLAGS, "--shared-root", f"media={root}") as server:
        yield server


async def _process(server: Server, source: Path) -> tuple[Path, report.ProcessReport]:
    async with connect(server) as api:
        event = await _terminal(api, source.name)
        assert event.HasField("on_process_done"), event
        made = event.on_process_done.report
        result = source.parent / f"result-{made.artifacts[0].file_name}"
        result.write_bytes(await api.download(made.artifacts[0].artifact_id))
    return result, made


async def _terminal(api: Api, name: str) -> Any:
    session_id = await api.open_session()
    await api.prepare_path(session_id, name, name)
    await api.commit_video(session_id)
    return await api.terminal(await api.process(session_id, name))


async def _examined(server: Server, source: Path) -> tuple[Path, ClipRow]:
    result, made = await _process(server, source)
    return result, examine(source, result, made)


@pytest.mark.parametrize(
    "name", [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in MADE]
)
async def test_a_made_clip_comes_back_frame_by_frame(server: Server, root: Path, name: str) -> None:
    """What is drawn into the pictures tells which frame is which."""
    wanted, segments = MADE[name]
    clip = make_clip(root / name, **wanted)
    result, row = await _examined(server, clip.path)
    assert () == row.faults
    assert row.segments >= segments
    numbered = read_frame_numbers(result)
    assert list(clip.numbers) == [number for _, number in numbered]
    # Matroska counts in milliseconds, in the source as in the result; examine() has compared these.
    if clip.path.suffix != ".mkv":
        assert list(clip.times) == [time for time, _ in numbered]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in REAL]
)
async def test_a_real_clip_comes_back_whole(server: Server, root: Path, clips: Path, name: str) -> None:
    shutil.copy(clips / name, root)
    _, row = await _examined(server, root / name)
    assert () == row.faults
    assert row.segments >= REAL[name]


@pytest.mark.slow
async def test_an_iphone_clip_keeps_its_timed_metadata(server: Server, root: Path, clips: Path) -> None:
    """Three mebx tracks, which FFmpeg's muxers cannot write, and sound that its edit list hides."""
    source = Path(shutil.copy(clips / "iphone12pm_hlg_main10_mebx.mp4", root))
    result, made = await _process(server, source)
    assert () == examine(source, result, made).faults
    assert all(track.kept for track in made.tracks)
    categories = {loss.what for loss in made.not_kept}
    assert categories <= {report.NOT_KEPT_CATEGORY_HDR_METADATA}
    assert all(loss.reason and loss.count for loss in made.not_kept)
