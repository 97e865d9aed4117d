"""A higher frame rate at the wire: what is told of frames that are made up."""

from __future__ import annotations

import io
import json
from typing import Any

import av
import pytest

from service_harness import Api
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import report_pb2 as report
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session

#: three frames, 30 a second
CLIP = "rot90_iphone_3f.mov"
INTENTS = (hdi.STREAM_INTENT_VIDEO, hdi.STREAM_INTENT_ANALYZE, hdi.STREAM_INTENT_CUSTOM)


async def _made(api: Api, setting: mode.ModeSetting) -> Any:
    session_id, video_id = await api.open_session(), "raised"
    infos = [types.StreamInfo(stream_id=intent, intent=intent) for intent in INTENTS]
    await api.session.CreateStreams(
        session.CreateStreamsRequest(
            session_id=session_id, stream_infos=[types.StreamInfoV11(v1_0=info) for info in infos]
        )
    )
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, typed=setting))
    await api.prepare_path(session_id, video_id, CLIP)
    event = await api.terminal(await api.process(session_id, video_id))
    assert event.HasField("on_process_done"), event.on_error
    return event.on_process_done


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(
            mode.ModeSetting(frame_rate_range=mode.FrameRateRange(min_fps=60, max_fps=60)),
            marks=pytest.mark.slow,
        ),
        mode.ModeSetting(operation_mode=hdi.OPERATION_MODE_HIGH_FRAME_RATE),
    ],
    ids=["a range", "a mode"],
)
async def test_what_is_told_of_made_up_frames(api: Api, setting: mode.ModeSetting) -> None:
    done = await _made(api, setting)
    frames = done.report.frames
    assert (frames.source, frames.encoded, frames.interpolated, frames.dropped) == (3, 5, 2, 0)
    first, second = map(int, done.meta_data.entries["interpFramePts"].string_value.split(","))
    assert second > 2 * first > 0
    files = {file.kind: await api.download(file.artifact_id) for file in done.report.artifacts}
    assert json.loads(files[report.ARTIFACT_KIND_REPORT])["frames"]["interpolated"] == 2
    with av.open(io.BytesIO(files[report.ARTIFACT_KIND_VIDEO])) as container:
        assert container.metadata["com.openharmony.interp_frame_pts"] == f"{first},{second}"
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
    assert times == sorted(times)
    assert [round((time - times[0]) * 1_000_000) for time in times[1::2]] == [first, second]
    with av.open(io.BytesIO(files[report.ARTIFACT_KIND_VIDEO])) as container:
        (maker,) = (stream for stream in container.streams.data if "Maker" in stream.metadata["handler_name"])
        told = [json.loads(bytes(packet)) for packet in container.demux(maker) if packet.size]
    assert [each.get("interpolated", False) for each in told] == [False, True, False, True, False]
