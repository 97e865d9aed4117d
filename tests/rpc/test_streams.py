"""Streams of any intent at the wire: what is committed together is made together, quick enough for every day."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service_harness import Api
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import report_pb2 as report
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session

#: three frames
CLIP = "rot90_iphone_3f.mov"


async def _made(api: Api, *intents: hdi.StreamIntent) -> Any:
    """The OnProcessDone of a job whose streams have their intents' numbers."""
    session_id, video_id = await api.open_session(), f"streams {intents}"
    infos = [types.StreamInfo(stream_id=intent, intent=intent) for intent in intents]
    await api.session.CreateStreams(
        session.CreateStreamsRequest(
            session_id=session_id, stream_infos=[types.StreamInfoV11(v1_0=info) for info in infos]
        )
    )
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id))
    await api.prepare_path(session_id, video_id, CLIP)
    event = await api.terminal(await api.process(session_id, video_id))
    assert event.HasField("on_process_done"), event.on_error
    return event.on_process_done


async def test_all_intents_together_are_files_of_one_job(api: Api) -> None:
    done = await _made(api, *hdi.StreamIntent.values())
    kinds = {(file.stream_id, file.kind) for file in done.report.artifacts}
    assert kinds == {
        (hdi.STREAM_INTENT_PREVIEW, report.ARTIFACT_KIND_PREVIEW),
        (hdi.STREAM_INTENT_VIDEO, report.ARTIFACT_KIND_VIDEO),
        (hdi.STREAM_INTENT_STILL_CAPTURE, report.ARTIFACT_KIND_STILL),
        (hdi.STREAM_INTENT_POST_VIEW, report.ARTIFACT_KIND_THUMBNAIL),
        (hdi.STREAM_INTENT_ANALYZE, report.ARTIFACT_KIND_COMPARISON),
        (hdi.STREAM_INTENT_ANALYZE, report.ARTIFACT_KIND_REPORT),
    }
    names = [file.file_name for file in done.report.artifacts]
    assert len(set(names)) == len(names) == 8
    assert [name for name in names if "thumbnail" in name] == [
        f"rot90_iphone_3f_thumbnail_{number:02d}.jpg" for number in (1, 2, 3)
    ]
    assert {score.name for score in done.report.quality} >= {"noise_before", "noise_after", "ssim", "xpsnr"}
    (segment,) = done.report.segments
    assert (segment.frame_count, segment.enhanced) == (3, True)
    (told,) = (file for file in done.report.artifacts if file.kind == report.ARTIFACT_KIND_REPORT)
    quality = json.loads(await api.download(told.artifact_id))["quality"]
    assert [part["size_bytes"] for part in quality["segments"]] == [segment.size_bytes]


@pytest.mark.parametrize(
    ("intent", "name"),
    [
        (hdi.STREAM_INTENT_ANALYZE, "rot90_iphone_3f_report.json"),
        (hdi.STREAM_INTENT_CUSTOM, "rot90_iphone_3f_maker.mp4"),
        (hdi.STREAM_INTENT_STILL_CAPTURE, "rot90_iphone_3f_cover.jpg"),
    ],
)
async def test_each_alone_is_a_job_too(api: Api, intent: hdi.StreamIntent, name: str) -> None:
    (file,) = (await _made(api, intent)).report.artifacts
    assert file.file_name == name
    data = await api.download(file.artifact_id)
    assert len(data) == file.size_bytes
    if name.endswith(".json"):
        assert json.loads(data)["frames"]["source"] == 3
