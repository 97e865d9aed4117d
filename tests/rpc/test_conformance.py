"""OpenHarmony's conformance test 054 of IVideoProcessSession, step by step, and the portable cases 1 to 11."""

from __future__ import annotations

import time

import grpc

from service_harness import USER, Api, refused
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session

#: what a camera's ability metadata looks like: valid, with tags this service does not use
ABILITY = bytes.fromhex(
    "010000000a00000068000000" + "00000000" + "01000070" + "00000000" + "03000000" + "010203"
)
INVALID_ARGUMENT = -3


def _stream(stream_id: int, intent: hdi.StreamIntent) -> types.StreamInfoV11:
    return types.StreamInfoV11(
        v1_0=types.StreamInfo(
            stream_id=stream_id, width=1920, height=1080, format=25, dataspace=8, intent=intent
        )
    )


async def test_054_passes_in_its_order_with_its_return_codes(api: Api) -> None:
    """OK on the wire is NO_ERROR; only Prepare with a bad descriptor is refused."""
    session_id = await api.open_session(USER)  # 0: CreateVideoProcessSession(100)
    pending = await api.session.GetPendingVideos(session.GetPendingVideosRequest(session_id=session_id))  # 2
    for video_id in pending.video_ids:
        await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id=video_id))
    video_id = "111"  # 4: nothing is pending
    bad = types.FileDescriptor(upload_id="111")
    refusal = await refused(  # 5: Prepare with a bad fd
        api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id=video_id, fds=[bad]))
    )
    assert (INVALID_ARGUMENT, grpc.StatusCode.INVALID_ARGUMENT) == (refusal.cam_ret_code, refusal.status)
    streams = [_stream(100, hdi.STREAM_INTENT_PREVIEW), _stream(101, hdi.STREAM_INTENT_STILL_CAPTURE)]
    await api.session.CreateStreams(
        session.CreateStreamsRequest(session_id=session_id, stream_infos=streams)
    )  # 6
    await api.session.CommitStreams(
        session.CommitStreamsRequest(session_id=session_id, serialized=ABILITY)
    )  # 7
    await api.session.ReleaseStreams(
        session.ReleaseStreamsRequest(session_id=session_id, stream_infos=streams)
    )  # 8
    accepted = await api.process(session_id, video_id, time.time_ns() // 1_000_000)  # 9: epoch milliseconds
    await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id=video_id))  # 10
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id))  # 11
    await api.session.Reset(session.ResetRequest(session_id=session_id))  # 12
    event = await api.terminal(accepted)
    assert hdi.ERROR_CODE_INVALID_ID == event.on_error.error_code


async def test_case_1_a_session_opens_for_a_user_without_work(api: Api) -> None:
    assert await api.open_session(12345)


async def test_case_2_pending_videos_may_be_none(api: Api) -> None:
    session_id = await api.open_session(12346)
    answer = await api.session.GetPendingVideos(session.GetPendingVideosRequest(session_id=session_id))
    assert [] == list(answer.video_ids)


async def test_case_3_every_pending_video_can_be_removed(api: Api) -> None:
    session_id = await api.open_session(12347)
    for name in ("a", "b"):
        await api.prepare_path(session_id, name, "rot90_iphone_3f.mov")
    pending = session.GetPendingVideosRequest(session_id=session_id)
    assert ["a", "b"] == list((await api.session.GetPendingVideos(pending)).video_ids)
    for name in ("a", "b"):
        await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id=name))
    assert [] == list((await api.session.GetPendingVideos(pending)).video_ids)


async def test_case_4_prepare_with_a_bad_descriptor_is_invalid_argument(api: Api) -> None:
    session_id = await api.open_session()
    bad = types.FileDescriptor(upload_id="0" * 32)
    refusal = await refused(
        api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id="v", fds=[bad]))
    )
    assert INVALID_ARGUMENT == refusal.cam_ret_code


async def test_cases_5_to_8_streams_come_and_go_and_a_slip_leaves_the_session_usable(api: Api) -> None:
    session_id = await api.open_session()
    streams = [_stream(7, hdi.STREAM_INTENT_VIDEO), _stream(8, hdi.STREAM_INTENT_CUSTOM)]
    await api.session.CreateStreams(session.CreateStreamsRequest(session_id=session_id, stream_infos=streams))
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, serialized=b""))
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, serialized=ABILITY))
    await api.session.ReleaseStreams(
        session.ReleaseStreamsRequest(session_id=session_id, stream_infos=streams)
    )
    event = await api.terminal(await api.process(session_id, "nobody knows me", 1_700_000_000_000))
    assert (hdi.ERROR_CODE_INVALID_ID, "UNKNOWN_VIDEO_ID") == (
        event.on_error.error_code,
        event.on_error.reason,
    )
    assert (
        await api.session.GetPendingVideos(session.GetPendingVideosRequest(session_id=session_id)) is not None
    )


async def test_case_9_removing_an_unknown_id_is_no_error(api: Api) -> None:
    session_id = await api.open_session()
    await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id="never there"))


async def test_case_10_interrupt_is_no_error_when_idle_and_again(api: Api) -> None:
    session_id = await api.open_session()
    for _ in range(2):
        await api.session.Interrupt(session.InterruptRequest(session_id=session_id))


async def test_case_11_the_session_answers_after_reset(api: Api) -> None:
    session_id = await api.open_session()
    await api.session.Reset(session.ResetRequest(session_id=session_id))
    await api.session.GetPendingVideos(session.GetPendingVideosRequest(session_id=session_id))
