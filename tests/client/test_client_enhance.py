from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from fake_service import FakeService, Refusal, State, cut, session_closed

from videoprocess.v1 import job_pb2
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1.mode_setting_pb2 import ModeSetting
from videoprocess_client import (
    Client,
    EncodeType,
    EnhanceOptions,
    EnhanceProgress,
    JobAborted,
    JobFailed,
    StreamIntent,
    Unsupported,
    WatermarkFile,
    shared,
    stream,
)

DATA = os.urandom(3 << 20)


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    path = tmp_path / "a b.mp4"
    path.write_bytes(DATA)
    return path


async def test_a_video_is_uploaded_processed_fetched_and_removed(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    seen: list[EnhanceProgress] = []
    options = EnhanceOptions(
        settings=ModeSetting(zoom_ratio=2), encode_type=EncodeType.H265, width=64, height=32
    )
    result = await client.enhance(source, tmp_path / "out.mp4", options, on_progress=seen.append)
    assert (tmp_path / "out.mp4").read_bytes() == DATA[::-1]
    assert result.video_id.startswith("a-b-")
    assert (result.report.frames.encoded, result.meta_data["scalingFactor"], result.kept) == (300, 1.5, False)
    assert list(dict.fromkeys(event.stage for event in seen)) == ["upload", "prepare", "process", "download"]
    assert (
        state.streams[0].width,
        state.streams[0].height,
        state.streams[0].encode_type,
    ) == (64, 32, EncodeType.H265)
    assert state.settings[0].typed.zoom_ratio == 2
    assert state.videos == {}
    assert state.calls[-1] == "CloseVideoProcessSession"


async def test_it_goes_on_over_cuts_at_every_step(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    state.faults = {
        **{
            name: [cut()] for name in ("CreateVideoProcessSession", "Prepare", "CommitStreams", "RemoveVideo")
        },
        f"Upload at {1 << 20}": [cut()],
        f"Download at {1 << 20}": [cut()],
        "CreateStreams answer": [cut()],
        "ProcessVideo answer": [cut()],
        "Subscribe event": [cut()],
    }
    result = await client.enhance(source, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == DATA[::-1]
    assert (len(state.requests), len(DATA), False) == (1, state.received_bytes, result.kept)
    assert not any(state.faults.values())


async def test_a_session_that_is_closed_meanwhile_is_replaced(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    state.faults = {"CommitStreams": [session_closed()], "ProcessVideo": [session_closed()]}
    await client.enhance(source, tmp_path / "out.mp4")
    assert state.calls.count("CreateVideoProcessSession") == 3
    assert (tmp_path / "out.mp4").exists()


async def test_it_goes_on_over_a_restart_while_the_job_runs(
    client: Client, fake: FakeService, state: State, source: Path, tmp_path: Path
) -> None:
    accepted = asyncio.Event()
    state.work = lambda state, job_id: accepted.set()
    task = asyncio.create_task(client.enhance(source, tmp_path / "out.mp4"))
    await accepted.wait()
    await fake.stop()
    await asyncio.sleep(0.1)
    state.finish("job-1")
    again = await FakeService(state).start(fake.port)
    result = await task
    assert (tmp_path / "out.mp4").read_bytes() == DATA[::-1]
    assert result.job_id == "job-1"
    await again.stop()


async def test_cancelling_pauses_the_work_and_leaves_nothing_beside_the_target(
    client: Client, state: State, source: Path, tmp_path: Path, left: Callable[[], list[str]]
) -> None:
    state.work = lambda state, job_id: None
    task = asyncio.create_task(client.enhance(source, tmp_path / "out.mp4", EnhanceOptions(video_id="v")))
    await state.until_called("Subscribe")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "Interrupt" in state.calls
    assert "v" in state.videos
    assert left() == ["a b.mp4"]


async def test_progress_and_what_holds_the_work_back_are_told(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    def work(state: State, job_id: str) -> None:
        blocked = callback.OnStatusChanged(status=1, reason=job_pb2.BLOCK_REASON_SPACE_LIMIT)
        state.publish(on_status_changed=blocked)
        progress = callback.OnProgress(
            progress=job_pb2.JobProgress(percent=40, phase=job_pb2.JOB_PHASE_ENHANCE)
        )
        state.publish(job_id=job_id, on_progress=progress)
        state.finish(job_id)

    state.work = work
    seen: list[EnhanceProgress] = []
    await client.enhance(source, tmp_path / "out.mp4", on_progress=seen.append)
    assert "SPACE_LIMIT" in [event.blocked_by for event in seen]
    assert 40 in [event.job.percent for event in seen if event.job is not None]


async def test_media_that_cannot_be_processed_is_cleaned_up_where_nobody_else_knows_it(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    state.work = lambda state, job_id: state.fail(job_id, 1, "DECODE_FAILED")
    with pytest.raises(JobFailed):
        await client.enhance(source, tmp_path / "out.mp4")
    assert state.videos == {}
    state.fail_next("CommitStreams", Refusal(grpc.StatusCode.UNIMPLEMENTED, "SETTING_NOT_SUPPORTED"))
    with pytest.raises(Unsupported):
        await client.enhance(source, tmp_path / "out.mp4")
    assert state.videos == {}
    with pytest.raises(JobFailed):
        await client.enhance(source, tmp_path / "out.mp4", EnhanceOptions(video_id="mine"))
    assert list(state.videos) == ["mine"]
    state.work = lambda state, job_id: state.fail(job_id, 5, "INTERRUPTED")
    with pytest.raises(JobAborted):
        await client.enhance(source, tmp_path / "out.mp4")
    assert len(state.videos) == 2


async def test_a_video_that_was_there_before_stays(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    async with client.session() as session:
        await session.prepare("v")
    result = await client.enhance(source, tmp_path / "out.mp4", EnhanceOptions(video_id="v"))
    assert (result.kept, list(state.videos)) == (True, ["v"])


async def test_a_shared_file_is_not_uploaded(client: Client, state: State, tmp_path: Path) -> None:
    result = await client.enhance(
        shared("media", "trip/b.mov"), tmp_path / "out.mp4", EnhanceOptions(keep=True)
    )
    assert "Upload" not in state.calls
    assert result.video_id.startswith("b-")
    assert (tmp_path / "out.mp4").read_bytes() == b"derahs"
    assert result.kept


async def test_what_cannot_be_written_is_refused_before_the_work(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    for target, overwrite in [
        (source, True),
        (tmp_path / "none" / "out.mp4", False),
        (source, False),
    ]:
        with pytest.raises(OSError, match=r"exists|directory"):
            await client.enhance(source, target, EnhanceOptions(overwrite=overwrite))
    assert state.calls == []


async def test_further_files_go_beside_the_video(
    client: Client, state: State, source: Path, tmp_path: Path, left: Callable[[], list[str]]
) -> None:
    state.further = {"a_cover.jpg": b"cover", "a_thumbnail_01.jpg": b"one", "a_thumbnail_02.jpg": b"two"}
    streams = (stream(3), stream(4, StreamIntent.POST_VIEW, encode_type=EncodeType.JPEG, width=320))
    seen: list[EnhanceProgress] = []
    options = EnhanceOptions(streams=streams)
    result = await client.enhance(source, tmp_path / "out.mp4", options, on_progress=seen.append)
    assert left() == ["a b.mp4", "out.mp4", "out_cover.jpg", "out_thumbnail_01.jpg", "out_thumbnail_02.jpg"]
    assert (tmp_path / "out_thumbnail_02.jpg").read_bytes() == b"two"
    assert (result.output, result.artifact.size_bytes) == (tmp_path / "out.mp4", len(DATA))
    assert [file.path.name for file in result.files] == left()[1:]
    asked = [(info.stream_id, info.intent, info.encode_type, info.width) for info in state.streams]
    assert asked == [(3, StreamIntent.VIDEO, 0, 0), (4, StreamIntent.POST_VIEW, EncodeType.JPEG, 320)]
    downloads = [event.bytes_done for event in seen if event.stage == "download"]
    assert (downloads, downloads[-1]) == (sorted(downloads), len(DATA) + len(b"coveronetwo"))


async def test_into_a_directory_all_go_by_their_names(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    state.further = {"a_cover.jpg": b"cover", "../../evil": b"no", "": b"nameless"}
    folder = tmp_path / "out"
    folder.mkdir()
    await client.enhance(source, folder)
    names = sorted(path.name for path in folder.iterdir())
    assert (
        names[:3]
        == sorted([hashlib.sha256(b"nameless").hexdigest()[:32], "a_cover.jpg", "a_enhanced.mp4"])[:3]
    )
    assert len(names) == 4
    assert "evil" in names


async def test_without_a_video_the_first_file_is_the_output(
    client: Client, state: State, source: Path, tmp_path: Path, left: Callable[[], list[str]]
) -> None:
    state.has_video, state.further = False, {"a_cover.jpg": b"cover", "a_report.json": b"{}"}
    result = await client.enhance(source, tmp_path / "out.jpg")
    assert left() == ["a b.mp4", "out.jpg", "out_report.json"]
    assert (result.output, result.artifact.size_bytes) == (tmp_path / "out.jpg", len(b"cover"))


async def test_a_further_file_that_is_there_keeps_all_from_being_fetched(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    state.further = {"a_cover.jpg": b"cover"}
    (tmp_path / "out_cover.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        await client.enhance(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert (tmp_path / "out_cover.jpg").read_bytes() == b"mine"
    assert len(state.videos) == 1  # what was made can still be fetched
    await client.enhance(source, tmp_path / "out.mp4", EnhanceOptions(overwrite=True))
    assert (tmp_path / "out_cover.jpg").read_bytes() == b"cover"


async def test_a_watermark_is_uploaded_and_committed_with_the_settings(
    client: Client, state: State, source: Path, tmp_path: Path
) -> None:
    logo = tmp_path / "logo.png"
    logo.write_bytes(b"a picture")
    mark = WatermarkFile(logo, x=-4, y=8, width=16, height=9, scale_factor=2.0, rotation_degrees=90)
    settings = ModeSetting(zoom_ratio=2)
    await client.enhance(source, tmp_path / "out.mp4", EnhanceOptions(settings=settings, watermark=mark))
    typed = state.settings[0].typed
    assert bytes(state.uploads[typed.watermark.image.upload_id]) == b"a picture"
    placed = typed.watermark
    assert (placed.x, placed.y, placed.width, placed.height) == (-4, 8, 16, 9)
    assert (placed.scale_factor, placed.rotation_degrees, typed.zoom_ratio) == (2.0, 90, 2.0)
    assert not settings.HasField("watermark")
    with pytest.raises(ValueError, match="typed form"):
        await client.enhance(
            source, tmp_path / "b.mp4", EnhanceOptions(settings=b"\0", watermark=mark, video_id="v")
        )


async def test_a_mistaken_duplicate_is_refused_even_after_a_cut(client: Client, state: State) -> None:
    async with client.session() as session:
        await session.create_streams([stream(0)])
        state.fail_next("CreateStreams", cut())
        with pytest.raises(Exception, match="INVALID_FIELD"):
            await session.create_streams([stream(0)])


async def test_session_calls_reach_the_service(client: Client, state: State) -> None:
    state.work = lambda state, job_id: None
    async with client.session() as session:
        await session.prepare("v")
        await session.commit_streams(b"abc")
        await session.process("v")
        again = client.attach_session(session.session_id)
        assert await again.interrupt(["v"]) == ["job-1"]
        assert await again.interrupt() == []
        assert await session.reset() == []
        await session.remove("v", restorable=True)
    assert state.settings[0].serialized == b"abc"
    assert state.calls[-1] == "CloseVideoProcessSession"
