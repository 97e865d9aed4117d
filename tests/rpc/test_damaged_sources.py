"""A source that is damaged in the middle: an error with the time, or a whole result and the damaged frames by name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from random import Random

import av
import pytest

from broken_clips import break_packet, coded_packets
from media_factory import make_clip
from service_harness import Api
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import report_pb2 as report
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session

#: in decode order; frame 10 of 45, in the middle of a GOP
BROKEN = 10


@pytest.fixture(name="damaged", scope="module")
def _damaged(media_root: Path) -> str:
    whole = make_clip(media_root / "whole.mp4", width=128, height=96, frames=45, gop=15, audio="aac").path
    break_packet(whole, media_root / "damaged.mp4", coded_packets(whole)[BROKEN], "zeroed", Random(1))
    return "damaged.mp4"


async def _open(api: Api, damage: mode.DamageHandling) -> str:
    session_id = await api.open_session()
    info = types.StreamInfoV11(v1_0=types.StreamInfo(stream_id=1, intent=hdi.STREAM_INTENT_VIDEO))
    await api.session.CreateStreams(session.CreateStreamsRequest(session_id=session_id, stream_infos=[info]))
    await api.session.CommitStreams(
        session.CommitStreamsRequest(session_id=session_id, typed=mode.ModeSetting(damage=damage))
    )
    return session_id


async def test_without_the_setting_the_job_ends_with_the_time(
    api: Api, damaged: str, media_root: Path
) -> None:
    session_id = await _open(api, mode.DAMAGE_HANDLING_UNSPECIFIED)
    await api.prepare_path(session_id, "fails", damaged)
    event = await api.terminal(await api.process(session_id, "fails"))
    assert (hdi.ERROR_CODE_PROCESS, "DECODE_FAILED") == (event.on_error.error_code, event.on_error.reason)
    assert f"At {_second(media_root / damaged):.3f} s" in event.on_error.message


@pytest.mark.slow
async def test_concealed_damage_keeps_the_whole_time_and_is_named(
    api: Api, damaged: str, media_root: Path, tmp_path: Path
) -> None:
    session_id = await _open(api, mode.DAMAGE_HANDLING_CONCEAL)
    await api.prepare_path(session_id, "whole", damaged)
    event = await api.terminal(await api.process(session_id, "whole"))
    assert event.HasField("on_process_done"), event
    made = event.on_process_done.report
    named = [lost for lost in made.not_kept if lost.what == report.NOT_KEPT_CATEGORY_FRAME]
    assert named[0].count == 1
    assert f"At {_second(media_root / damaged):.3f} s" in named[0].reason
    result = tmp_path / "result.mp4"
    result.write_bytes(await api.download(made.artifacts[0].artifact_id))
    with av.open(str(result)) as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert len(shown) == 45
    base = _time_base(media_root / damaged)
    assert shown == sorted(packet.pts * base for packet in coded_packets(media_root / damaged))


def _time_base(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        return container.streams.video[0].time_base or Fraction(1)


def _second(path: Path) -> float:
    return float(coded_packets(path)[BROKEN].pts * _time_base(path))
