"""A caller's slip in ProcessVideo is accepted, answered by one OnError, and leaves the video as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpu_independence import png_of
from service_harness import USER, Api
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import job_pb2 as job
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_session_pb2 as session

CLIP = "rot90_iphone_3f.mov"


async def _commit(
    api: Api,
    session_id: str,
    intent: hdi.StreamIntent,
    setting: mode.ModeSetting,
    encode_type: hdi.EncodeType = hdi.ENCODE_TYPE_NULL,
) -> None:
    info = types.StreamInfoV11(v1_0=types.StreamInfo(stream_id=1, intent=intent, encode_type=encode_type))
    await api.session.CreateStreams(session.CreateStreamsRequest(session_id=session_id, stream_infos=[info]))
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, typed=setting))


async def _slips(api: Api, session_id: str, video_id: str, reason: str, timestamp_us: int = 0) -> None:
    """The answer, the event and the catalogue tell the same reason; the video is PENDING still."""
    accepted = await api.process(session_id, video_id, timestamp_us)
    event = await api.terminal(accepted)
    assert (hdi.ERROR_CODE_PROCESS, reason) == (event.on_error.error_code, event.on_error.reason)
    assert event.on_error.message
    assert video.VIDEO_STATE_PENDING == (await api.video(video_id)).state


async def test_a_video_that_was_uploaded_but_not_prepared(api: Api) -> None:
    session_id = await api.open_session()
    await api.commit_video(session_id)
    await api.upload(b"not looked at yet", video_id="uploaded only")
    await _slips(api, session_id, "uploaded only", "NOT_PREPARED")


async def test_a_session_without_committed_streams(api: Api) -> None:
    session_id = await api.open_session()
    await api.prepare_path(session_id, "no streams", CLIP)
    await _slips(api, session_id, "no streams", "NO_COMMITTED_STREAMS")


@pytest.mark.parametrize("intent", [hdi.STREAM_INTENT_STILL_CAPTURE, hdi.STREAM_INTENT_POST_VIEW])
@pytest.mark.parametrize("encode_type", [hdi.ENCODE_TYPE_HEIC, hdi.ENCODE_TYPE_DNG_XDRAW])
async def test_a_picture_that_no_encoder_here_makes(
    api: Api, intent: hdi.StreamIntent, encode_type: hdi.EncodeType
) -> None:
    session_id = await api.open_session()
    await _commit(api, session_id, intent, mode.ModeSetting(), encode_type=encode_type)
    name = f"unmade {intent} {encode_type}"
    await api.prepare_path(session_id, name, CLIP)
    await _slips(api, session_id, name, "STREAM_NOT_SUPPORTED")


async def test_a_watermark_that_would_not_be_seen(api: Api, media_root: Path) -> None:
    (media_root / "logo.png").write_bytes(png_of(np.full((8, 8, 4), 255, np.uint8)))
    image = types.FileDescriptor(shared_path=types.SharedPath(root="media", path="logo.png"))
    session_id = await api.open_session()
    setting = mode.ModeSetting(watermark=mode.Watermark(image=image, x=60_000))
    await _commit(api, session_id, hdi.STREAM_INTENT_VIDEO, setting)
    await api.prepare_path(session_id, "unseen", CLIP)
    await _slips(api, session_id, "unseen", "BAD_WATERMARK")


async def test_a_time_stamp_beyond_the_end(api: Api) -> None:
    session_id = await api.open_session()
    await api.commit_video(session_id)
    await api.prepare_path(session_id, "short", CLIP)
    await _slips(api, session_id, "short", "TIMESTAMP_BEYOND_END", 2**63)


async def test_a_time_stamp_after_the_last_frame_but_before_the_end(api: Api) -> None:
    """Three frames at 30 fps: the last begins at 66 ms and is shown until 100 ms. Planning finds that."""
    session_id = await api.open_session()
    await api.commit_video(session_id)
    await api.prepare_path(session_id, "late", CLIP)
    await _slips(api, session_id, "late", "TIMESTAMP_BEYOND_END", 90_000)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (
            mode.ModeSetting(frame_rate_range=mode.FrameRateRange(min_fps=300, max_fps=300)),
            "FRAME_RATE_RAISE_NOT_SUPPORTED",
        ),
        (
            mode.ModeSetting(zoom_ratio=2, zoom_crop_region=mode.Rect(x=0, y=0, width=4000, height=3000)),
            "CROP_OUTSIDE_PICTURE",
        ),
    ],
)
async def test_a_setting_that_does_not_fit_the_video(
    api: Api, setting: mode.ModeSetting, reason: str
) -> None:
    session_id = await api.open_session()
    await _commit(api, session_id, hdi.STREAM_INTENT_VIDEO, setting)
    await api.prepare_path(session_id, reason, CLIP)
    await _slips(api, session_id, reason, reason)


async def test_the_answer_already_tells_a_slip_that_is_known_at_once(api: Api) -> None:
    session_id = await api.open_session()
    accepted = await api.process(session_id, "unknown")
    assert job.JOB_STATE_FAILED == accepted.job.state
    assert "UNKNOWN_VIDEO_ID" == accepted.job.error.reason
    assert accepted.job_id == accepted.job.job_id


async def test_after_a_slip_the_same_video_is_processed(api: Api) -> None:
    session_id = await api.open_session()
    await api.prepare_path(session_id, "healed", CLIP)
    await _slips(api, session_id, "healed", "NO_COMMITTED_STREAMS")
    await api.commit_video(session_id)
    event = await api.terminal(await api.process(session_id, "healed"))
    assert event.HasField("on_process_done")
    assert USER == (await api.video("healed")).user_id
