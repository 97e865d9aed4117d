"""What each call refuses at once: status, CamRetCode and reason at the wire, and that the next call works."""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from service_harness import Api, refused
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

Code = grpc.StatusCode
VIDEO = hdi.STREAM_INTENT_VIDEO
PAGED_USER = 7000  # of no other test here


def _path(path: str, root: str = "media") -> types.FileDescriptor:
    return types.FileDescriptor(shared_path=types.SharedPath(root=root, path=path))


BAD_FILES: dict[str, tuple[list[types.FileDescriptor], Code, str]] = {
    "an unknown upload": (
        [types.FileDescriptor(upload_id="f" * 32)],
        Code.INVALID_ARGUMENT,
        "UNKNOWN_UPLOAD",
    ),
    "an unknown root": ([_path("dog_720p30_10s.mp4", "nowhere")], Code.INVALID_ARGUMENT, "UNKNOWN_ROOT"),
    "no such path": ([_path("missing.mp4")], Code.INVALID_ARGUMENT, "NO_SUCH_PATH"),
    "a way up": ([_path("../media/dog_720p30_10s.mp4")], Code.INVALID_ARGUMENT, "PATH_OUTSIDE_ROOT"),
    "an absolute path": ([_path("/etc/passwd")], Code.INVALID_ARGUMENT, "PATH_OUTSIDE_ROOT"),
    "a link that leaves": ([_path("leaving.mp4")], Code.INVALID_ARGUMENT, "PATH_OUTSIDE_ROOT"),
    "a directory": ([_path("hostile")], Code.INVALID_ARGUMENT, "NOT_A_REGULAR_FILE"),
    "a pipe": ([_path("pipe.mp4")], Code.INVALID_ARGUMENT, "NOT_A_REGULAR_FILE"),
    "an empty file": ([_path("empty.mp4")], Code.INVALID_ARGUMENT, "EMPTY_FILE"),
    "text": ([_path("text.mp4")], Code.INVALID_ARGUMENT, "NOT_A_VIDEO"),
    "a playlist": ([_path("playlist.mp4")], Code.INVALID_ARGUMENT, "NOT_A_VIDEO"),
    "48 bytes of a video": ([_path("hostile/wrongfile_48b.mp4")], Code.INVALID_ARGUMENT, "NOT_A_VIDEO"),
    "a truncated video": ([_path("truncated.mp4")], Code.INVALID_ARGUMENT, "NOT_A_VIDEO"),
    "half a video": ([_path("half.mp4")], Code.INVALID_ARGUMENT, "TRUNCATED_FILE"),
    "no tracks": ([_path("hostile/minimal_no_streams.mp4")], Code.INVALID_ARGUMENT, "NO_VIDEO_TRACK"),
    "only sound": ([_path("hostile/audio_only_15s.mp4")], Code.INVALID_ARGUMENT, "NO_VIDEO_TRACK"),
    "no frame that decodes": (
        [_path("hostile/header_only_297frames.mp4")],
        Code.INVALID_ARGUMENT,
        "NO_DECODABLE_FRAME",
    ),
    "a still picture": ([_path("hostile/still_image_heic_as.mp4")], Code.INVALID_ARGUMENT, "NOT_A_VIDEO"),
    "no file for a new id": ([], Code.INVALID_ARGUMENT, "NO_FILE"),
    "two files": ([_path("dog_720p30_10s.mp4")] * 2, Code.INVALID_ARGUMENT, "BAD_FD_COUNT"),
    "a descriptor that names nothing": ([types.FileDescriptor()], Code.INVALID_ARGUMENT, "MISSING_FIELD"),
    "three files of which the second is not the first": (
        [_path("dog_720p30_10s.mp4"), _path("flower_540p_5s.mp4"), _path("dog_720p30_10s.mp4")],
        Code.INVALID_ARGUMENT,
        "MOVIES_DIFFER",
    ),
    "three files of different length": (
        [*[_path("dog_720p30_10s.mp4")] * 2, _path("flower_540p_5s.mp4")],
        Code.INVALID_ARGUMENT,
        "DURATIONS_DIFFER",
    ),
    "three files of which the third is no video": (
        [*[_path("dog_720p30_10s.mp4")] * 2, _path("text.mp4")],
        Code.INVALID_ARGUMENT,
        "NOT_A_VIDEO",
    ),
    "a token that was never given": (
        [types.FileDescriptor(fd_token="t")],
        Code.INVALID_ARGUMENT,
        "UNKNOWN_FD_TOKEN",
    ),
}


@pytest.fixture(name="hostile_root", scope="module", autouse=True)
def _hostile_root(media_root: Path) -> None:
    (media_root / "empty.mp4").touch()
    (media_root / "text.mp4").write_text("I am not a video. " * 100)
    (media_root / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    (media_root / "leaving.mp4").symlink_to("/etc/passwd")
    os.mkfifo(media_root / "pipe.mp4")
    whole = (media_root / "flower_540p_5s.mp4").read_bytes()
    (media_root / "truncated.mp4").write_bytes(whole[:900])
    (media_root / "half.mp4").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("name", BAD_FILES)
async def test_prepare_refuses_what_is_no_readable_video_and_the_next_call_works(api: Api, name: str) -> None:
    files, status, reason = BAD_FILES[name]
    session_id = await api.open_session()
    refusal = await refused(
        api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id=f"bad {name}", fds=files))
    )
    assert (status, reason) == (refusal.status, refusal.reason)
    assert (-4 if status is Code.UNIMPLEMENTED else -3) == refusal.cam_ret_code
    assert refusal.message
    assert (await api.prepare_path(session_id, f"good {name}", "rot90_iphone_3f.mov")).stream_descs


def _streams(*infos: types.StreamInfo) -> dict[str, Any]:
    return {"stream_infos": [types.StreamInfoV11(v1_0=info) for info in infos]}


BAD_STREAMS: dict[str, tuple[dict[str, Any], Code, int, str]] = {
    "none": ({}, Code.INVALID_ARGUMENT, -3, "INVALID_FIELD"),
    "the same id twice": (
        _streams(types.StreamInfo(stream_id=1, intent=VIDEO), types.StreamInfo(stream_id=1, intent=VIDEO)),
        Code.INVALID_ARGUMENT,
        -3,
        "INVALID_FIELD",
    ),
    "a negative size": (
        _streams(types.StreamInfo(stream_id=1, intent=VIDEO, width=-1)),
        Code.INVALID_ARGUMENT,
        -3,
        "INVALID_FIELD",
    ),
    "an unknown intent": (
        _streams(types.StreamInfo(stream_id=1, intent=77)),  # type: ignore[arg-type]
        Code.INVALID_ARGUMENT,
        -3,
        "INVALID_FIELD",
    ),
    "no intent": (_streams(types.StreamInfo(stream_id=1)), Code.INVALID_ARGUMENT, -3, "MISSING_FIELD"),
    "an unknown encode type": (
        _streams(types.StreamInfo(stream_id=1, intent=VIDEO, encode_type=99)),  # type: ignore[arg-type]
        Code.INVALID_ARGUMENT,
        -3,
        "INVALID_FIELD",
    ),
    "a video as JPEG": (
        _streams(types.StreamInfo(stream_id=1, intent=VIDEO, encode_type=hdi.ENCODE_TYPE_JPEG)),
        Code.UNIMPLEMENTED,
        -4,
        "ENCODE_TYPE_NOT_SUPPORTED",
    ),
    "seventeen": (
        _streams(*(types.StreamInfo(stream_id=n, intent=VIDEO) for n in range(17))),
        Code.RESOURCE_EXHAUSTED,
        -2,
        "STREAM_LIMIT",
    ),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
async def test_create_streams_refuses_and_the_next_call_works(api: Api, name: str) -> None:
    fields, status, cam_ret_code, reason = BAD_STREAMS[name]
    session_id = await api.open_session()
    refusal = await refused(
        api.session.CreateStreams(session.CreateStreamsRequest(session_id=session_id, **fields))
    )
    assert (status, cam_ret_code, reason) == (refusal.status, refusal.cam_ret_code, refusal.reason)
    await api.commit_video(session_id)


def _watermark(**fields: Any) -> dict[str, Any]:
    return {"typed": mode.ModeSetting(watermark=mode.Watermark(**fields))}


BAD_SETTINGS: dict[str, tuple[dict[str, Any], Code, int, str]] = {
    "bytes that do not parse": (
        {"serialized": b"\x01\x02\x03"},
        Code.INVALID_ARGUMENT,
        -3,
        "METADATA_MALFORMED",
    ),
    "more than 256 KiB": ({"serialized": bytes(262_145)}, Code.INVALID_ARGUMENT, -3, "METADATA_TOO_LARGE"),
    "a known tag of another type": (
        {"serialized": bytes.fromhex("010000000a000000680000000000000001000510010000000100000002000000")},
        Code.INVALID_ARGUMENT,
        -3,
        "INVALID_SETTING",
    ),
    "fps 0": (
        {"typed": mode.ModeSetting(frame_rate_range=mode.FrameRateRange(min_fps=0, max_fps=30))},
        Code.INVALID_ARGUMENT,
        -3,
        "INVALID_SETTING",
    ),
    "zoom 0.1": ({"typed": mode.ModeSetting(zoom_ratio=0.1)}, Code.INVALID_ARGUMENT, -3, "INVALID_SETTING"),
    "a watermark without a picture": (_watermark(x=1), Code.INVALID_ARGUMENT, -3, "MISSING_FIELD"),
    "a watermark that is a video": (
        _watermark(image=_path("rot90_iphone_3f.mov")),
        Code.INVALID_ARGUMENT,
        -3,
        "BAD_WATERMARK",
    ),
    "a watermark that is text": (
        _watermark(image=_path("text.mp4")),
        Code.INVALID_ARGUMENT,
        -3,
        "BAD_WATERMARK",
    ),
    "a watermark that is too large": (
        _watermark(image=_path("dog_720p30_10s.mp4")),
        Code.INVALID_ARGUMENT,
        -3,
        "BAD_WATERMARK",
    ),
    "a watermark that is not there": (
        _watermark(image=_path("none.png")),
        Code.INVALID_ARGUMENT,
        -3,
        "NO_SUCH_PATH",
    ),
    "a watermark by a token that was never given": (
        _watermark(image=types.FileDescriptor(fd_token="t")),
        Code.INVALID_ARGUMENT,
        -3,
        "UNKNOWN_FD_TOKEN",
    ),
    "a watermark that is turned by 45 degrees": (
        _watermark(image=_path("none.png"), rotation_degrees=45),
        Code.UNIMPLEMENTED,
        -4,
        "SETTING_NOT_SUPPORTED",
    ),
    **{
        f"the mode {name}, which we cannot do": (
            {"typed": mode.ModeSetting(operation_mode=number)},
            Code.UNIMPLEMENTED,
            -4,
            "SETTING_NOT_SUPPORTED",
        )
        for name, number in [
            ("PORTRAIT", hdi.OPERATION_MODE_PORTRAIT),
            ("CINEMATIC_VIDEO", hdi.OPERATION_MODE_CINEMATIC_VIDEO),
        ]
    },
}

#: a setting of the typed form → the field that its refusal names
WRONG_FIELDS: dict[str, tuple[mode.ModeSetting, str]] = {
    "lowest fps above highest": (
        mode.ModeSetting(frame_rate_range=mode.FrameRateRange(min_fps=60, max_fps=30)),
        "frame_rate_range.max_fps",
    ),
    "zoom NaN": (mode.ModeSetting(zoom_ratio=float("nan")), "zoom_ratio"),
    "zoom infinite": (mode.ModeSetting(zoom_ratio=float("inf")), "zoom_ratio"),
    "a crop of nothing": (
        mode.ModeSetting(zoom_crop_region=mode.Rect(x=0, y=0, width=0, height=10)),
        "zoom_crop_region.width",
    ),
    "a crop of less than nothing": (
        mode.ModeSetting(zoom_crop_region=mode.Rect(x=0, y=0, width=10, height=-10)),
        "zoom_crop_region.height",
    ),
    "strength 7": (
        mode.ModeSetting(enhancement=mode.Enhancement(denoise_strength=7)),
        "enhancement.denoise_strength",
    ),
    "crf 60": (mode.ModeSetting(quality=mode.Quality(crf=60)), "quality.crf"),
    "bit rate 0": (mode.ModeSetting(quality=mode.Quality(bitrate_bps=0)), "quality.bitrate_bps"),
    "an absurd bit rate": (
        mode.ModeSetting(quality=mode.Quality(bitrate_bps=2**62)),
        "quality.bitrate_bps",
    ),
    "orientation 45": (mode.ModeSetting(orientation_degrees=45), "orientation_degrees"),
    "stabilisation 9": (
        mode.ModeSetting(video_stabilization=9),  # type: ignore[arg-type]
        "video_stabilization",
    ),
    "tone mapping 9": (mode.ModeSetting(tone_mapping=9), "tone_mapping"),  # type: ignore[arg-type]
    "super stabilisation that is off": (
        mode.ModeSetting(
            operation_mode=hdi.OPERATION_MODE_SUPER_STAB, video_stabilization=hdi.VIDEO_STABILIZATION_OFF
        ),
        "video_stabilization",
    ),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
async def test_commit_streams_names_the_field_that_is_wrong(api: Api, name: str) -> None:
    setting, field = WRONG_FIELDS[name]
    session_id = await api.open_session()
    await api.commit_video(session_id)
    refusal = await refused(
        api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, typed=setting))
    )
    assert (Code.INVALID_ARGUMENT, -3, "INVALID_SETTING") == (
        refusal.status,
        refusal.cam_ret_code,
        refusal.reason,
    )
    assert [field] == list(refusal.violations)
    assert field in refusal.message


async def test_commit_streams_takes_every_setting_at_once_in_either_form(api: Api) -> None:
    session_id = await api.open_session()
    await api.commit_video(session_id)
    typed = mode.ModeSetting(
        operation_mode=hdi.OPERATION_MODE_NIGHT,
        frame_rate_range=mode.FrameRateRange(min_fps=24, max_fps=60),
        zoom_ratio=1.5,
        zoom_crop_region=mode.Rect(x=0, y=0, width=64, height=48),
        video_stabilization=hdi.VIDEO_STABILIZATION_AUTO,
        mirror=True,
        orientation_degrees=270,
        enhancement=mode.Enhancement(denoise_strength=0.5, sharpen_strength=0, deband_strength=1),
        quality=mode.Quality(crf=0),
        tone_mapping=mode.TONE_MAPPING_TO_SDR,
        damage=mode.DAMAGE_HANDLING_CONCEAL,
        moov_first=True,
    )
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, typed=typed))
    tags = struct.pack("<3I", 3, 3, 0)
    for tag, item_type, value in (
        (0x30030001, 0, b"\x04"),
        (0x10000019, 0, b"\x01"),
        (0x30020003, 1, struct.pack("<i", 90)),
    ):
        tags += struct.pack("<4I", 0, tag, item_type, 1) + value
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, serialized=tags))


@pytest.mark.parametrize("name", BAD_SETTINGS)
async def test_commit_streams_refuses_and_the_next_call_works(api: Api, name: str) -> None:
    fields, status, cam_ret_code, reason = BAD_SETTINGS[name]
    session_id = await api.open_session()
    await api.commit_video(session_id)
    refusal = await refused(
        api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id, **fields))
    )
    assert (status, cam_ret_code, reason) == (refusal.status, refusal.cam_ret_code, refusal.reason)
    await api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id))


async def test_commit_without_a_created_stream_is_a_wrong_order(api: Api) -> None:
    session_id = await api.open_session()
    refusal = await refused(api.session.CommitStreams(session.CommitStreamsRequest(session_id=session_id)))
    assert (Code.FAILED_PRECONDITION, -3, "NO_STREAM_CREATED") == (
        refusal.status,
        refusal.cam_ret_code,
        refusal.reason,
    )
    await api.commit_video(session_id)


async def test_process_video_refuses_ids_that_are_none(api: Api) -> None:
    session_id = await api.open_session()
    for video_id in ("", "x" * 257, "ü" * 129):
        refusal = await refused(api.process(session_id, video_id))
        assert (Code.INVALID_ARGUMENT, -3, "INVALID_VIDEO_ID") == (
            refusal.status,
            refusal.cam_ret_code,
            refusal.reason,
        )
    assert (await api.process(session_id, "ü" * 128)).job_id


SESSION_CALLS: dict[str, Callable[[Api, str], Awaitable[Any]]] = {
    "GetPendingVideos": lambda api, sid: api.session.GetPendingVideos(
        session.GetPendingVideosRequest(session_id=sid)
    ),
    "Prepare": lambda api, sid: api.prepare_path(sid, "v", "rot90_iphone_3f.mov"),
    "CreateStreams": lambda api, sid: api.session.CreateStreams(
        session.CreateStreamsRequest(session_id=sid, **_streams(types.StreamInfo(stream_id=1, intent=VIDEO)))
    ),
    "CommitStreams": lambda api, sid: api.session.CommitStreams(session.CommitStreamsRequest(session_id=sid)),
    "ReleaseStreams": lambda api, sid: api.session.ReleaseStreams(
        session.ReleaseStreamsRequest(session_id=sid)
    ),
    "ProcessVideo": lambda api, sid: api.process(sid, "v"),
    "RemoveVideo": lambda api, sid: api.session.RemoveVideo(
        session.RemoveVideoRequest(session_id=sid, video_id="v")
    ),
    "Interrupt": lambda api, sid: api.session.Interrupt(session.InterruptRequest(session_id=sid)),
    "Interrupt of too many": lambda api, sid: api.session.Interrupt(
        session.InterruptRequest(session_id=sid, video_ids=["v"] * 1001)
    ),
    "Reset": lambda api, sid: api.session.Reset(session.ResetRequest(session_id=sid)),
}


@pytest.mark.parametrize("name", SESSION_CALLS)
async def test_every_call_on_an_unknown_or_closed_session_is_camera_closed(api: Api, name: str) -> None:
    closed = await api.open_session()
    await api.service.CloseVideoProcessSession(service.CloseVideoProcessSessionRequest(session_id=closed))
    for session_id in ("", "0" * 32, closed):
        refusal = await refused(SESSION_CALLS[name](api, session_id))
        assert (Code.FAILED_PRECONDITION, -5, "SESSION_CLOSED") == (
            refusal.status,
            refusal.cam_ret_code,
            refusal.reason,
        )


async def test_closing_again_is_no_error(api: Api) -> None:
    closed = await api.open_session()
    for _ in range(2):
        await api.service.CloseVideoProcessSession(service.CloseVideoProcessSessionRequest(session_id=closed))


async def test_a_session_needs_a_user(api: Api) -> None:
    refusal = await refused(api.service.CreateVideoProcessSession(service.CreateVideoProcessSessionRequest()))
    assert (Code.INVALID_ARGUMENT, -3, "MISSING_FIELD") == (
        refusal.status,
        refusal.cam_ret_code,
        refusal.reason,
    )
    assert "user_id" in refusal.violations


async def test_a_request_id_gets_the_same_session_and_no_other_arguments(api: Api) -> None:
    request = service.CreateVideoProcessSessionRequest(
        user_id=7, request_id="0f8fad5b-d9cb-469f-a165-70867728950e"
    )
    first, again = [await api.service.CreateVideoProcessSession(request) for _ in range(2)]
    assert first.session_id == again.session_id
    request.execution_mode = hdi.EXECUTION_MODE_LOW_POWER
    refusal = await refused(api.service.CreateVideoProcessSession(request))
    assert (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED") == (refusal.status, refusal.reason)


async def test_an_unknown_video_is_not_found(api: Api) -> None:
    refusal = await refused(api.video("unheard of"))
    assert (Code.NOT_FOUND, -3, "UNKNOWN_VIDEO") == (refusal.status, refusal.cam_ret_code, refusal.reason)


async def test_a_page_token_is_for_its_own_list(api: Api) -> None:
    for video_id in ("one", "two"):
        await api.upload(b"x", user_id=PAGED_USER, video_id=f"paged {video_id}")
    mine, another, others = [
        await api.open_session(user_id) for user_id in (PAGED_USER, PAGED_USER, PAGED_USER + 1)
    ]
    first = await api.session.GetPendingVideos(session.GetPendingVideosRequest(session_id=mine, page_size=1))
    listed = await api.catalog.ListVideos(catalog.ListVideosRequest(user_id=PAGED_USER, page_size=1))
    of_pending, of_list = first.next_page_token, listed.next_page_token
    assert of_pending
    assert of_list

    def pending(session_id: str, token: str) -> Any:
        return api.session.GetPendingVideos(
            session.GetPendingVideosRequest(session_id=session_id, page_token=token)
        )

    def listing(user_id: int, token: str) -> Any:
        return api.catalog.ListVideos(catalog.ListVideosRequest(user_id=user_id, page_token=token))

    await pending(another, of_pending)
    await listing(PAGED_USER, of_list)
    for call in (
        pending(others, of_pending),
        pending(mine, of_list),
        listing(PAGED_USER + 1, of_list),
        listing(PAGED_USER, of_pending),
    ):
        assert (await refused(call)).reason == "INVALID_PAGE_TOKEN"
