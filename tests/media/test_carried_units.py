"""What H.265 packets say of their pictures is in the result's packets, byte for byte and at the same time stamps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_tasks import VIDEO_STREAM, encode, plan_file
from videoprocess_server.media.carried_units import (
    Units,
    UnitStore,
    carried_units,
    has_second_layer,
    length_size,
    with_units,
)
from videoprocess_server.model.hdi import EncodeType, PixelFormat
from videoprocess_server.model.losses import Loss

DOLBY_VISION = "iphone14pro_hlg_noaudio_opengop_rot90.mov"
PICTURE = bytes((1 << 1, 1)) + b"picture"
HDR10_PLUS = b"\xb5\x00\x3c\x00\x01\x04\x01" + b"\x00\x00\x01\x00\x00\x00" * 3
CAPTIONS = b"\xb5\x00\x31GA94\x03\xc1"
METADATA = bytes((62 << 1, 1)) + b"\x19\x08\x09"


def _escape(payload: bytes) -> bytes:
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", payload)


def _messages(*messages: tuple[int, bytes], kind: int = 39) -> bytes:
    payload = b"".join(bytes((number, len(message))) + message for number, message in messages)
    return bytes((kind << 1, 1)) + _escape(payload + b"\x80")


def _packet(*units: bytes, size: int = 4) -> bytes:
    return b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)


def _split(packet: bytes) -> list[bytes]:
    return packet.split(b"\x00\x00\x00\x01")[1:]


def test_kinds_that_hold_are_taken_and_others_left() -> None:
    source = _packet(
        _messages(
            (4, HDR10_PLUS), (4, CAPTIONS), (132, b"hash" * 4), (136, b"\x40\x01\x02"), (5, b"x265" * 5)
        ),
        PICTURE,
        _messages((148, b"\x00\x00\x00\x02" * 2), kind=40),
        METADATA,
    )
    units = carried_units(source, 4)
    assert _split(units.before) == [
        _messages((4, HDR10_PLUS), (136, b"\x40\x01\x02"), (148, b"\x00\x00\x00\x02" * 2))
    ]
    assert _split(units.after) == [METADATA]


def test_units_go_around_the_picture() -> None:
    parameters = bytes((33 << 1, 1)) + b"set"
    encoded = b"".join(b"\x00\x00\x00\x01" + unit for unit in (parameters, PICTURE, PICTURE))
    units = carried_units(_packet(_messages((4, HDR10_PLUS)), PICTURE, METADATA), 4)
    assert _split(with_units(encoded, units)) == [
        parameters,
        _messages((4, HDR10_PLUS)),
        PICTURE,
        PICTURE,
        METADATA,
    ]


def test_metadata_of_two_layers_is_left() -> None:
    source = _packet(PICTURE, bytes((63 << 1, 1)) + b"layer", METADATA, size=2)
    assert has_second_layer(source, 2)
    assert not carried_units(source, 2)


@given(packet=st.binary(max_size=200), size=st.integers(min_value=0, max_value=4))
def test_no_packet_of_a_stranger_is_too_much(packet: bytes, size: int) -> None:
    units = carried_units(packet, size)
    assert with_units(b"\x00\x00\x00\x01" + PICTURE, units).count(PICTURE) >= 1


@given(message=st.binary(max_size=120))
def test_messages_survive_their_escapes(message: bytes) -> None:
    made = carried_units(_packet(_messages((136, message)), PICTURE), 4).before
    (unit,) = _split(made)
    assert carried_units(_packet(unit, PICTURE), 4).before == made
    assert unit == _messages((136, message))
    assert b"\x00\x00\x01" not in unit


def test_a_store_forgets_what_was_passed() -> None:
    store = UnitStore(4)
    for pts in (0, 30, 10, 20):
        store.note(pts, _packet(PICTURE, METADATA))
    assert store.take(20)
    assert not store.take(10)
    assert store.take(30)
    assert not store.take(30)


def _metadata_by_time(path: Path) -> dict[object, Units]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        size = length_size(stream.codec_context.extradata or b"")
        return {
            packet.pts * packet.time_base: carried_units(bytes(packet), size)
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None
        }


@pytest.mark.slow
def test_dolby_vision_is_in_the_segments(clips: Path, tmp_path: Path) -> None:
    plan = plan_file(clips / DOLBY_VISION)
    assert plan.renditions[0].carried_length_size == 4
    assert not [lost for lost in plan.not_kept if lost.what is Loss.HDR_METADATA]
    encode(clips / DOLBY_VISION, plan, plan.segments, tmp_path)
    before = _metadata_by_time(clips / DOLBY_VISION)
    after: dict[object, Units] = {}
    for segment in plan.segments:
        after |= _metadata_by_time(tmp_path / f"{segment.index}.mp4")
    assert len(after) == plan.frame_count
    assert all(after.values())
    assert after == {at: before[at] for at in after}
    with av.open(str(tmp_path / "0.mp4")) as made:
        assert {"DOVI_METADATA"} <= {kind.type.name for kind in next(made.decode(video=0)).side_data}


@pytest.mark.parametrize("change", ["size", "codec"])
def test_what_no_longer_holds_is_named(clips: Path, change: str) -> None:
    changed = {
        "size": replace(VIDEO_STREAM, width=320, height=180),
        "codec": replace(VIDEO_STREAM, encode_type=EncodeType.H264, format=PixelFormat.YCBCR_P010),
    }
    plan = plan_file(clips / DOLBY_VISION, streams=[changed[change]])
    assert plan.renditions[0].carried_length_size == 0
    assert [lost.reason for lost in plan.not_kept if lost.what is Loss.HDR_METADATA] == [
        "Dolby Vision metadata of single pictures is not written."
    ]
