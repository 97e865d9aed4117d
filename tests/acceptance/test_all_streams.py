"""Every stream of the contract in one job of a real service, fetched, looked at by other readers, and the same after kills."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from cpu_independence import png_of
from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, Api, Server, connect
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import report_pb2 as report
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_pb2
from videoprocess.v1 import video_process_session_pb2 as session

FRAMES = 45
INTENTS = (
    hdi.STREAM_INTENT_VIDEO,
    hdi.STREAM_INTENT_PREVIEW,
    hdi.STREAM_INTENT_STILL_CAPTURE,
    hdi.STREAM_INTENT_POST_VIEW,
    hdi.STREAM_INTENT_ANALYZE,
    hdi.STREAM_INTENT_CUSTOM,
)
#: tests/rpc/test_streams.py is the daily one
pytestmark = pytest.mark.slow

FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1")


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    size = {"width": 192, "height": 108, "gop": 15, "noise_sigma": 8.0}
    make_clip(root / "clip.mp4", frames=FRAMES, audio="aac", **size)
    make_clip(root / "movie.mp4", frames=FRAMES, **size)
    make_clip(root / "longer.mp4", frames=FRAMES + 2, **size)
    (root / "logo.png").write_bytes(png_of(np.full((10, 20, 4), (255, 0, 0, 255), np.uint8)))
    return root


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("data") / "data", *_flags(root)) as server:
        yield server


@pytest.fixture(name="api")
async def _api(server: Server) -> AsyncIterator[Api]:
    async with connect(server) as api:
        yield api


def _flags(root: Path, workers: int = 2) -> tuple[str, ...]:
    return (*FLAGS, "--shared-root", f"media={root}", "--workers", str(workers))


def _file(name: str) -> types.FileDescriptor:
    return types.FileDescriptor(shared_path=types.SharedPath(root="media", path=name))


async def _session(api: Api, setting: mode.ModeSetting | None = None, **size: int) -> str:
    """A session with a stream of each intent, whose id is the intent's number."""
    session_id = await api.open_session()
    infos = [types.StreamInfo(stream_id=intent, intent=intent) for intent in INTENTS]
    infos[0].MergeFrom(types.StreamInfo(**size))
    await api.session.CreateStreams(
        session.CreateStreamsRequest(
            session_id=session_id, stream_infos=[types.StreamInfoV11(v1_0=info) for info in infos]
        )
    )
    await api.session.CommitStreams(
        session.CommitStreamsRequest(session_id=session_id, typed=setting or mode.ModeSetting())
    )
    return session_id


async def _done(api: Api, session_id: str, video_id: str) -> Any:
    event = await api.terminal(await api.process(session_id, video_id))
    assert event.HasField("on_process_done"), event.on_error
    return event.on_process_done


async def _files(api: Api, done: Any) -> dict[str, bytes]:
    """What was made, by name."""
    files = {file.file_name: await api.download(file.artifact_id) for file in done.report.artifacts}
    for file in done.report.artifacts:
        assert hashlib.sha256(files[file.file_name]).hexdigest() == file.sha256
    return files


def _picture(data: bytes) -> VideoFrame:
    with av.open(io.BytesIO(data), format="jpeg_pipe") as container:
        (frame,) = container.decode(video=0)
    return frame


async def test_each_stream_makes_what_it_says(api: Api) -> None:
    session_id = await _session(api)
    await api.prepare_path(session_id, "all", "clip.mp4")
    done = await _done(api, session_id, "all")
    files = await _files(api, done)
    thumbnails = [f"clip_thumbnail_{number:02d}.jpg" for number in range(1, 11)]
    assert sorted(files) == sorted(
        [
            "clip_enhanced.mp4",
            "clip_preview.mp4",
            "clip_cover.jpg",
            *thumbnails,
            "clip_comparison.jpg",
            "clip_report.json",
        ]
    )
    kinds = {file.file_name: file.kind for file in done.report.artifacts}
    assert kinds["clip_cover.jpg"] == report.ARTIFACT_KIND_STILL
    for name in ("clip_enhanced.mp4", "clip_preview.mp4"):
        with av.open(io.BytesIO(files[name])) as container:
            assert len(container.streams.audio) == 1
            assert sum(1 for _ in container.decode(video=0)) == FRAMES
    cover = _picture(files["clip_cover.jpg"])
    assert (cover.width, cover.height) == (192, 108)
    times = [file.media_time_us for file in done.report.artifacts if file.HasField("media_time_us")][1:]
    assert times == sorted(times)
    assert {_picture(files[name]).width for name in thumbnails} == {192}
    with av.open(io.BytesIO(files["clip_enhanced.mp4"])) as container:
        (maker,) = container.streams.data
        told = [json.loads(bytes(packet)) for packet in container.demux(maker) if packet.size]
    assert len(told) == FRAMES
    analysis = json.loads(files["clip_report.json"])
    assert analysis["schema"] == "videoprocess.analysis/2"
    assert analysis["frames"]["made"] == FRAMES
    quality = analysis["quality"]
    assert [part["frames"] for part in quality["segments"]] == [15, 15, 15]
    assert quality["after"]["sigma_y"] < 0.7 * quality["before"]["sigma_y"]
    strip = _picture(files["clip_comparison.jpg"])
    assert (strip.width, strip.height) == (1444, 818)
    digests = {file["sha256"] for file in analysis["files"]}
    assert digests == {file.sha256 for file in done.report.artifacts if not file.file_name.endswith(".json")}
    encodings = [(encoding.stream_id, encoding.codec) for encoding in done.report.encodings]
    assert encodings == [
        (hdi.STREAM_INTENT_VIDEO, "h264"),
        (hdi.STREAM_INTENT_PREVIEW, "h264"),
        (hdi.STREAM_INTENT_STILL_CAPTURE, "mjpeg"),
        (hdi.STREAM_INTENT_POST_VIEW, "mjpeg"),
    ]
    assert not done.meta_data.entries


async def test_a_scaled_video_tells_its_factor(api: Api) -> None:
    session_id = await _session(api, width=96, height=54)
    await api.prepare_path(session_id, "scaled", "clip.mp4")
    done = await _done(api, session_id, "scaled")
    assert {name: value.double_value for name, value in done.meta_data.entries.items()} == {
        "scalingFactor": 0.5
    }


async def test_a_watermark_is_in_every_picture_though_its_file_is_gone(api: Api, root: Path) -> None:
    (root / "gone.png").write_bytes((root / "logo.png").read_bytes())
    setting = mode.ModeSetting(watermark=mode.Watermark(image=_file("gone.png"), x=10, y=20))
    session_id = await _session(api, setting)
    (root / "gone.png").unlink()
    await api.prepare_path(session_id, "marked", "clip.mp4")
    files = await _files(api, await _done(api, session_id, "marked"))
    with av.open(io.BytesIO(files["clip_enhanced.mp4"])) as container:
        frame = next(container.decode(video=0))
    for picture in (frame, _picture(files["clip_cover.jpg"])):
        red, green, blue = picture.to_ndarray(format="rgb24")[25, 20].astype(int)
        assert red > 200 > 60 > max(green, blue)


class TestThreeFiles:
    async def _prepare(self, api: Api, session_id: str, *names: str) -> Any:
        request = session.PrepareRequest(session_id=session_id, video_id="three", fds=map(_file, names))
        return await api.session.Prepare(request)

    async def test_case_15_pictures_are_of_the_movie_and_sound_of_the_input(
        self, api: Api, root: Path
    ) -> None:
        session_id = await _session(api)
        prepared = await self._prepare(api, session_id, "movie.mp4", "movie.mp4", "clip.mp4")
        names = [source.file_name for source in prepared.video.sources]
        assert names == ["movie.mp4", "movie.mp4", "clip.mp4"]
        files = await _files(api, await _done(api, session_id, "three"))
        sounds = []
        for source in (io.BytesIO(files["movie_enhanced.mp4"]), str(root / "clip.mp4")):
            with av.open(source, options={"ignore_editlist": "1"}) as container:
                sounds.append([bytes(packet) for packet in container.demux(audio=0) if packet.size])
        assert sounds[0] == sounds[1] != []


async def _segments(api: Api, video_id: str, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        video = await api.video(video_id)
        if video.progress.segments_done >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{video_id} never had {count} segments")


async def _paused(api: Api, video_id: str) -> None:
    """Until then a ProcessVideo joins the job that is being stopped."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await api.video(video_id)).state != video_pb2.VIDEO_STATE_PAUSED:
        assert time.monotonic() < deadline, f"{video_id} was never paused"
        await asyncio.sleep(0.01)


async def test_kills_and_interrupts_change_no_byte_of_any_file(tmp_path: Path, api: Api, root: Path) -> None:
    session_id = await _session(api)
    await api.prepare_path(session_id, "expected", "clip.mp4")
    expected = await _digests(api, session_id, "expected")
    with Server(tmp_path / "killed", *_flags(root, workers=1)) as server:
        async with connect(server) as doomed:
            session_id = await _session(doomed)
            await doomed.prepare_path(session_id, "v", "clip.mp4")
            await doomed.process(session_id, "v")
            await _segments(doomed, "v", 1)
        server.kill()
        server.start()
        async with connect(server) as again:
            await _segments(again, "v", 2)
            await again.session.Interrupt(session.InterruptRequest(session_id=session_id, video_ids=["v"]))
            await _paused(again, "v")
            assert await _digests(again, session_id, "v") == expected
        assert server.stop() == 0
    assert not list((tmp_path / "killed" / "work").iterdir())


async def _digests(api: Api, session_id: str, video_id: str) -> dict[str, str]:
    done = await _done(api, session_id, video_id)
    return {file.file_name: file.sha256 for file in done.report.artifacts}
