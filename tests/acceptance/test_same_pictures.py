"""Every way to enhance a picture: one worker undisturbed, and two that are killed again and again: the same bytes."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from media_factory import make_clip
from service_harness import Api, Server, connect
from shaken_clips import hand_held, write_shaken
from soaking import SOAKING
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session

pytestmark = pytest.mark.slow

#: short segments, so that small clips have many
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1")
KILLS = 10 if SOAKING else 2
INTENTS = (hdi.STREAM_INTENT_VIDEO, hdi.STREAM_INTENT_ANALYZE)

HLG = "iphone12pm_hlg_main10_mebx.mp4"
SETTINGS: dict[str, tuple[str, mode.ModeSetting]] = {
    "night": ("noisy.mp4", mode.ModeSetting(operation_mode=hdi.OPERATION_MODE_NIGHT)),
    "super stab": ("shaken.mp4", mode.ModeSetting(operation_mode=hdi.OPERATION_MODE_SUPER_STAB)),
    "auto, mirrored": (
        "shaken.mp4",
        mode.ModeSetting(video_stabilization=hdi.VIDEO_STABILIZATION_AUTO, mirror=True),
    ),
    "high frame rate": ("noisy.mp4", mode.ModeSetting(operation_mode=hdi.OPERATION_MODE_HIGH_FRAME_RATE)),
    "slow motion, stabilised": (
        "shaken.mp4",
        mode.ModeSetting(
            operation_mode=hdi.OPERATION_MODE_SLOW_MOTION, video_stabilization=hdi.VIDEO_STABILIZATION_LOW
        ),
    ),
    "25 to 60": ("noisy.mp4", mode.ModeSetting(frame_rate_range=mode.FrameRateRange(min_fps=50, max_fps=50))),
    "professional": (
        "noisy.mp4",
        mode.ModeSetting(
            operation_mode=hdi.OPERATION_MODE_PROFESSIONAL_VIDEO,
            enhancement=mode.Enhancement(denoise_strength=1, sharpen_strength=0.5, deband_strength=0.5),
            quality=mode.Quality(bitrate_bps=300_000),
            orientation_degrees=90,
        ),
    ),
    "to SDR": (HLG, mode.ModeSetting(tone_mapping=mode.TONE_MAPPING_TO_SDR)),
}


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    root = tmp_path_factory.mktemp("root")
    make_clip(root / "noisy.mp4", frames=60, gop=15, noise_sigma=6.0, width=192, height=108)
    write_shaken(root / "shaken.mp4", hand_held(75, 8.0))
    shutil.copy(clips / HLG, root)
    return root


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("one") / "data", *FLAGS, "--shared-root", f"media={root}", "--workers", "1"
    ) as server:
        yield server


async def _session(api: Api, setting: mode.ModeSetting) -> str:
    session_id = await api.open_session()
    infos = [types.StreamInfo(stream_id=intent, intent=intent) for intent in INTENTS]
    await api.session.CreateStreams(
        session.CreateStreamsRequest(
            session_id=session_id, stream_infos=[types.StreamInfoV11(v1_0=info) for info in infos]
        )
    )
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, typed=setting))
    return session_id


@pytest.mark.parametrize("asked", SETTINGS)
async def test_kills_do_not_change_a_byte(
    tmp_path: Path, root: Path, undisturbed: Server, asked: str
) -> None:
    name, setting = SETTINGS[asked]
    async with connect(undisturbed) as api:
        session_id = await _session(api, setting)
        await api.prepare_path(session_id, asked, name)
        event = await api.terminal(await api.process(session_id, asked))
        assert event.HasField("on_process_done"), event.on_error
        expected = {file.file_name: file.sha256 for file in event.on_process_done.report.artifacts}
    chance = random.Random(asked)
    with Server(tmp_path / "data", *FLAGS, "--shared-root", f"media={root}", "--workers", "2") as server:
        async with connect(server) as api:
            session_id = await _session(api, setting)
            await api.prepare_path(session_id, asked, name)
            accepted = await api.process(session_id, asked)
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 1.5))
            server.kill()
            server.start()
        async with connect(server) as api:
            event = await api.terminal(accepted)
            assert event.HasField("on_process_done"), event.on_error
            made = {file.file_name: file.sha256 for file in event.on_process_done.report.artifacts}
    assert made == expected
    assert len(made) == 3
