"""What changes a byte of a result changes its fingerprint, and nothing else does."""

from __future__ import annotations

import struct
from dataclasses import fields, replace
from typing import Any

import pytest

from videoprocess_server.engine import fingerprint
from videoprocess_server.model.hdi import OperationMode, StreamIntent, VideoStabilisation
from videoprocess_server.model.mode_setting import TypedSettings, from_metadata, from_typed
from videoprocess_server.model.plan import PlanSettings
from videoprocess_server.model.records import Video
from videoprocess_server.model.settings_snapshot import (
    FrameRateRange,
    ModeSetting,
    Rect,
    SharedDirectory,
    Snapshot,
    StreamInfo,
    Watermark,
)
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import BuildInfo

VIDEO = Video(user_id=1, video_id="v", create_time_us=1, update_time_us=1, state=VideoState.PENDING)
BUILD = BuildInfo(versions={"pyav": "1"}, video_decoders=(), video_encoders=(), filters=())
#: another value of each field
OTHERS: dict[str, Any] = {
    "operation_mode": OperationMode.NIGHT,
    "frame_rate_range": FrameRateRange(min_fps=1, max_fps=30),
    "zoom_ratio": 2.0,
    "zoom_crop_region": Rect(x=0, y=0, width=2, height=2),
    "mirror": True,
    "orientation_degrees": 0,
    "stabilisation": VideoStabilisation.LOW,
    "denoise_strength": 0.0,
    "sharpen_strength": 0.0,
    "deband_strength": 0.0,
    "crf": 0.0,
    "bitrate_bps": 1000,
    "to_sdr": True,
    "watermark": Watermark(image=b"x", scale_factor=1.0, rotation_degrees=0, x=0, y=0, width=0, height=0),
    "conceal_damage": True,
    "moov_first": False,
}


def of(setting: ModeSetting, build: BuildInfo = BUILD) -> str:
    stream = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO)
    return fingerprint.of_settings(
        VIDEO, Snapshot(streams=(stream,), mode_setting=setting), PlanSettings(), build
    )


def test_there_is_another_value_of_each_setting() -> None:
    assert OTHERS.keys() == {field.name for field in fields(ModeSetting)}


def test_each_setting_changes_it() -> None:
    made = {name: of(replace(ModeSetting(), **{name: value})) for name, value in OTHERS.items()}
    assert len({*made.values(), of(ModeSetting())}) == len(OTHERS) + 1


def test_where_a_result_is_written_to_does_not() -> None:
    streams = [
        StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, directory=directory)
        for directory in (None, SharedDirectory(root="a"), SharedDirectory(root="b", path="c"))
    ]
    snapshots = [Snapshot(streams=(stream,)) for stream in streams]
    made = {fingerprint.of_settings(VIDEO, each, PlanSettings(), BUILD) for each in snapshots}
    assert made == {of(ModeSetting())}


def test_the_extra_that_workers_have_changes_it() -> None:
    assert (
        len({of(ModeSetting(), replace(BUILD, extras=extras)) for extras in ({}, {"a": "1"}, {"a": "2"})})
        == 3
    )


@pytest.mark.parametrize(
    ("tag", "item_type", "value", "typed"),
    [
        (
            0x10000006,
            1,
            struct.pack("<2i", 24, 30),
            {"frame_rate_range": FrameRateRange(min_fps=24, max_fps=30)},
        ),
        (0x10050001, 3, struct.pack("<f", 1.7), {"zoom_ratio": 1.7}),
        (
            0x10050002,
            1,
            struct.pack("<4i", 1, 2, 30, 40),
            {"zoom_crop_region": Rect(x=1, y=2, width=30, height=40)},
        ),
        (0x30030001, 0, b"\x03", {"video_stabilization": 3}),
        (0x30030001, 0, b"\x00", {}),
        (0x10000019, 0, b"\x01", {"mirror": True}),
        (0x10000019, 0, b"\x00", {"mirror": None}),
        (0x30020003, 1, struct.pack("<i", 90), {"orientation_degrees": 90}),
    ],
)
def test_the_same_request_in_both_forms_has_one(
    tag: int, item_type: int, value: bytes, typed: dict[str, Any]
) -> None:
    count = len(value) // (4 if item_type else 1)
    data = struct.pack("<3I4I", 1, 1, 0, 0, tag, item_type, count) + value
    assert of(from_metadata(data)) == of(from_typed(TypedSettings(**typed)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"denoise_strength": 0.1}, {"denoise_strength": struct.unpack("<f", struct.pack("<f", 0.1))[0]}),
        ({"crf": 20}, {"crf": 20.0}),
        ({"tone_mapping": 1}, {}),
        ({"operation_mode": 10}, {"operation_mode": 10, "video_stabilization": 3}),
    ],
)
def test_what_asks_for_the_same_has_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert of(from_typed(TypedSettings(**one))) == of(from_typed(TypedSettings(**other)))
