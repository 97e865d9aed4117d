"""Both forms of `mode_setting` come to the same canonical ModeSetting, or are refused for the same reasons."""

from __future__ import annotations

import struct
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soaking import SOAKING
from videoprocess_server.enhance.chains import SUPPORTED_MODES
from videoprocess_server.model.camera_metadata import Item, ItemType, encode
from videoprocess_server.model.hdi import OperationMode, VideoStabilisation
from videoprocess_server.model.mode_setting import (
    SUPPORTED_OPERATION_MODES,
    TAGS,
    SettingError,
    TypedSettings,
    from_metadata,
    from_typed,
    require_extras,
)
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect, Watermark

EXAMPLE = bytes.fromhex(
    "020000000a00000068000000000000000600001001000000020000001e0000001e000000"
    "0100000001000510030000000100000000000040"
)
FPS, AE_FPS, ZOOM, CROP = 0x10000006, 0x10000005, 0x10050001, 0x10050002
STABILIZATION, MIRROR, ORIENTATION = 0x30030001, 0x10000019, 0x30020003

NAN = float("nan")
INF = float("inf")


def metadata(*entries: tuple[int, tuple[int | float, ...]]) -> bytes:
    """Write tags with the type each is known to have."""
    return encode(
        Item(index=index, tag=tag, type=TAGS[tag].type, values=values)
        for index, (tag, values) in enumerate(entries)
    )


def fps(min_fps: int, max_fps: int) -> FrameRateRange:
    return FrameRateRange(min_fps=min_fps, max_fps=max_fps)


def rect(x: int, y: int, width: int, height: int) -> Rect:
    return Rect(x=x, y=y, width=width, height=height)


def metadata_refusal(data: bytes) -> SettingError:
    with pytest.raises(SettingError) as caught:
        from_metadata(data)
    return caught.value


def typed_refusal(**settings: Any) -> SettingError:
    with pytest.raises(SettingError) as caught:
        from_typed(TypedSettings(**settings))
    return caught.value


# what is taken


def test_the_contracts_example_is_30_frames_per_second_and_zoom_2() -> None:
    expected = ModeSetting(frame_rate_range=fps(30, 30), zoom_ratio=2.0)
    assert from_metadata(EXAMPLE) == expected
    assert from_typed(TypedSettings(frame_rate_range=fps(30, 30), zoom_ratio=2.0)) == expected


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="no bytes"),
        pytest.param(metadata(), id="no items"),
        pytest.param(metadata((ZOOM, (1.0,))), id="zoom 1.0"),
        pytest.param(metadata((STABILIZATION, (0,))), id="stabilisation off"),
        pytest.param(metadata((MIRROR, (0,))), id="not mirrored"),
        pytest.param(
            encode([Item(index=0, tag=0x20000001, type=ItemType.RATIONAL, values=((1, 3),))]),
            id="an unknown tag",
        ),
        pytest.param(metadata((ZOOM, (1.0,)), (ZOOM, (1.0,))), id="the same twice"),
    ],
)
def test_metadata_that_asks_for_nothing_is_the_defaults(data: bytes) -> None:
    assert from_metadata(data) == ModeSetting()


@pytest.mark.parametrize(
    "settings",
    [
        TypedSettings(),
        TypedSettings(operation_mode=0),
        TypedSettings(zoom_ratio=1.0),
        TypedSettings(zoom_ratio=1.0 + 1e-9),
        TypedSettings(zoom_ratio=1.0 - 1e-9),
        TypedSettings(video_stabilization=0),
        TypedSettings(mirror=False),
        TypedSettings(tone_mapping=1),
        TypedSettings(damage=1),
    ],
)
def test_typed_settings_that_ask_for_nothing_are_the_defaults(settings: TypedSettings) -> None:
    assert from_typed(settings) == ModeSetting()


@pytest.mark.parametrize("mode", sorted(SUPPORTED_OPERATION_MODES))
def test_a_supported_operation_mode_is_kept(mode: OperationMode) -> None:
    canonical = from_typed(TypedSettings(operation_mode=int(mode)))
    steady = VideoStabilisation.HIGH if mode is OperationMode.SUPER_STAB else VideoStabilisation.OFF
    assert canonical == ModeSetting(operation_mode=mode, stabilisation=steady)
    assert isinstance(canonical.operation_mode, OperationMode)


def test_either_frame_rate_tag_is_the_frame_rate_range() -> None:
    expected = ModeSetting(frame_rate_range=fps(15, 30))
    assert from_metadata(metadata((FPS, (15, 30)))) == expected
    assert from_metadata(metadata((AE_FPS, (15, 30)))) == expected
    assert from_metadata(metadata((AE_FPS, (15, 30)), (FPS, (15, 30)))) == expected


def test_zoom_is_what_a_float_can_carry_in_both_forms() -> None:
    float32 = struct.unpack("<f", struct.pack("<f", 1.7))[0]
    assert float32 != 1.7
    assert from_metadata(metadata((ZOOM, (1.7,)))) == ModeSetting(zoom_ratio=float32)
    assert from_typed(TypedSettings(zoom_ratio=1.7)) == ModeSetting(zoom_ratio=float32)


def test_zoom_given_as_a_whole_number_becomes_a_float() -> None:
    assert repr(from_typed(TypedSettings(zoom_ratio=2)).zoom_ratio) == "2.0"


def test_zoom_and_its_region_go_together() -> None:
    assert from_metadata(metadata((CROP, (8, 4, 640, 360)), (ZOOM, (2.0,)))) == ModeSetting(
        zoom_ratio=2.0, zoom_crop_region=rect(8, 4, 640, 360)
    )


TAKEN = [
    ({"video_stabilization": 1}, {"stabilisation": VideoStabilisation.LOW}),
    ({"video_stabilization": 4}, {"stabilisation": VideoStabilisation.AUTO}),
    (
        {"operation_mode": 10, "video_stabilization": 1},
        {"operation_mode": OperationMode.SUPER_STAB, "stabilisation": VideoStabilisation.LOW},
    ),
    ({"mirror": True}, {"mirror": True}),
    *[({"orientation_degrees": degrees}, {"orientation_degrees": degrees}) for degrees in (0, 90, 180, 270)],
    *[
        ({f"{name}_strength": value}, {f"{name}_strength": value})
        for name in ("denoise", "sharpen", "deband")
        for value in (0.0, 0.5, 1.0)
    ],
    ({"crf": 0.0}, {"crf": 0.0}),
    ({"crf": 51}, {"crf": 51.0}),
    ({"bitrate_bps": 1000}, {"bitrate_bps": 1000}),
    ({"bitrate_bps": 10**9}, {"bitrate_bps": 10**9}),
    ({"tone_mapping": 2}, {"to_sdr": True}),
    ({"damage": 2}, {"conceal_damage": True}),
]


@pytest.mark.parametrize(("asked", "canonical"), TAKEN)
def test_what_is_asked_for_is_in_the_canonical_form(asked: dict[str, Any], canonical: dict[str, Any]) -> None:
    made = from_typed(TypedSettings(**asked))
    assert made == ModeSetting(**canonical)
    assert repr(made) == repr(ModeSetting(**canonical))


@pytest.mark.parametrize("name", ["denoise_strength", "sharpen_strength", "deband_strength", "crf"])
def test_numbers_are_what_a_float32_can_carry(name: str) -> None:
    float32 = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert float32 != 0.1
    by_double = from_typed(TypedSettings(**{name: 0.1}))
    assert by_double == from_typed(TypedSettings(**{name: float32}))
    assert getattr(by_double, name) == float32
    assert repr(getattr(from_typed(TypedSettings(**{name: -0.0})), name)) == "0.0"


@pytest.mark.parametrize(
    ("tag", "values", "asked"),
    [
        *[(STABILIZATION, (level,), {"video_stabilization": level}) for level in range(5)],
        (MIRROR, (1,), {"mirror": True}),
        *[(ORIENTATION, (degrees,), {"orientation_degrees": degrees}) for degrees in (0, 90, 180, 270)],
    ],
)
def test_a_tag_and_its_field_come_to_the_same(
    tag: int, values: tuple[int, ...], asked: dict[str, Any]
) -> None:
    assert from_metadata(metadata((tag, values))) == from_typed(TypedSettings(**asked))


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (TypedSettings(video_stabilization=1), "video_stabilization"),
        (TypedSettings(operation_mode=10), "operation_mode"),
        (TypedSettings(operation_mode=10, video_stabilization=2), "operation_mode"),
    ],
)
def test_stabilisation_without_its_extra_is_unsupported_and_tells_what_to_install(
    setting: TypedSettings, field: str
) -> None:
    require_extras(from_typed(setting), {"stabilise"})
    with pytest.raises(SettingError) as caught:
        require_extras(from_typed(setting), {"other"})
    assert (caught.value.kind, caught.value.field) == ("unsupported", field)
    assert "pip install -e '.[stabilise]'" in caught.value.message


def test_what_does_not_stabilise_needs_no_extra() -> None:
    require_extras(from_typed(TypedSettings(operation_mode=2, video_stabilization=0)), ())


@given(
    st.integers(1, 1000),
    st.integers(0, 999),
    st.floats(1.0, 100.0),
    st.tuples(*[st.integers(0, 65535)] * 2, *[st.integers(2, 65535)] * 2),
)
def test_both_forms_come_to_the_same(
    min_fps: int, more_fps: int, zoom: float, region: tuple[int, int, int, int]
) -> None:
    rates = (min_fps, min(1000, min_fps + more_fps))
    typed = from_typed(
        TypedSettings(frame_rate_range=fps(*rates), zoom_ratio=zoom, zoom_crop_region=rect(*region))
    )
    assert from_metadata(metadata((FPS, rates), (ZOOM, (zoom,)), (CROP, region))) == typed
    assert typed.frame_rate_range == fps(*rates)
    assert typed.zoom_ratio == pytest.approx(zoom, rel=1e-6)
    assert typed.zoom_crop_region == rect(*region)


@given(st.floats(1.0, 100.0))
def test_a_canonical_zoom_is_canonical_already(zoom: float) -> None:
    once = from_typed(TypedSettings(zoom_ratio=zoom))
    assert from_typed(TypedSettings(zoom_ratio=once.zoom_ratio)) == once


# what is refused, in either form

IN_BOTH_FORMS = [
    (FPS, (0, 30), {"frame_rate_range": fps(0, 30)}, "invalid", "frame_rate_range.min_fps"),
    (FPS, (-1, 30), {"frame_rate_range": fps(-1, 30)}, "invalid", "frame_rate_range.min_fps"),
    (FPS, (30, 29), {"frame_rate_range": fps(30, 29)}, "invalid", "frame_rate_range.max_fps"),
    (FPS, (30, 1001), {"frame_rate_range": fps(30, 1001)}, "invalid", "frame_rate_range.max_fps"),
    (FPS, (1001, 1001), {"frame_rate_range": fps(1001, 1001)}, "invalid", "frame_rate_range.min_fps"),
    (AE_FPS, (0, 30), {"frame_rate_range": fps(0, 30)}, "invalid", "frame_rate_range.min_fps"),
    (ZOOM, (0.5,), {"zoom_ratio": 0.5}, "invalid", "zoom_ratio"),
    (ZOOM, (0.0,), {"zoom_ratio": 0.0}, "invalid", "zoom_ratio"),
    (ZOOM, (-0.0,), {"zoom_ratio": -0.0}, "invalid", "zoom_ratio"),
    (ZOOM, (-2.0,), {"zoom_ratio": -2.0}, "invalid", "zoom_ratio"),
    (ZOOM, (100.5,), {"zoom_ratio": 100.5}, "invalid", "zoom_ratio"),
    (ZOOM, (NAN,), {"zoom_ratio": NAN}, "invalid", "zoom_ratio"),
    (ZOOM, (INF,), {"zoom_ratio": INF}, "invalid", "zoom_ratio"),
    (ZOOM, (-INF,), {"zoom_ratio": -INF}, "invalid", "zoom_ratio"),
    (CROP, (-1, 0, 2, 2), {"zoom_crop_region": rect(-1, 0, 2, 2)}, "invalid", "zoom_crop_region.x"),
    (CROP, (65536, 0, 2, 2), {"zoom_crop_region": rect(65536, 0, 2, 2)}, "invalid", "zoom_crop_region.x"),
    (CROP, (0, -1, 2, 2), {"zoom_crop_region": rect(0, -1, 2, 2)}, "invalid", "zoom_crop_region.y"),
    (CROP, (0, 65536, 2, 2), {"zoom_crop_region": rect(0, 65536, 2, 2)}, "invalid", "zoom_crop_region.y"),
    (CROP, (0, 0, 1, 2), {"zoom_crop_region": rect(0, 0, 1, 2)}, "invalid", "zoom_crop_region.width"),
    (CROP, (0, 0, 65536, 2), {"zoom_crop_region": rect(0, 0, 65536, 2)}, "invalid", "zoom_crop_region.width"),
    (CROP, (0, 0, 2, 0), {"zoom_crop_region": rect(0, 0, 2, 0)}, "invalid", "zoom_crop_region.height"),
    (
        CROP,
        (0, 0, 2, 65536),
        {"zoom_crop_region": rect(0, 0, 2, 65536)},
        "invalid",
        "zoom_crop_region.height",
    ),
    (STABILIZATION, (5,), {"video_stabilization": 5}, "invalid", "video_stabilization"),
    (STABILIZATION, (255,), {"video_stabilization": 255}, "invalid", "video_stabilization"),
    *[
        (ORIENTATION, (degrees,), {"orientation_degrees": degrees}, "invalid", "orientation_degrees")
        for degrees in (-90, 1, 45, 360, -(2**31), 2**31 - 1)
    ],
]


@pytest.mark.parametrize(("tag", "values", "settings", "kind", "field"), IN_BOTH_FORMS)
def test_a_setting_is_refused_alike_in_both_forms(
    tag: int, values: tuple[int | float, ...], settings: dict[str, Any], kind: str, field: str
) -> None:
    by_metadata = metadata_refusal(metadata((tag, values)))
    by_type = typed_refusal(**settings)
    assert (by_metadata.kind, by_metadata.field) == (kind, field)
    assert (by_type.kind, by_type.field, by_type.message) == (kind, field, by_metadata.message)


@pytest.mark.parametrize(
    ("settings", "kind", "field"),
    [
        ({"zoom_ratio": 1e300}, "invalid", "zoom_ratio"),  # more than a float32 can say
        ({"operation_mode": -1}, "invalid", "operation_mode"),
        ({"operation_mode": 25}, "invalid", "operation_mode"),
        ({"video_stabilization": -1}, "invalid", "video_stabilization"),
        *[
            ({f"{name}_strength": value}, kind, f"enhancement.{name}_strength")
            for name in ("denoise", "sharpen", "deband")
            for value, kind in [
                (-0.1, "invalid"),
                (1.1, "invalid"),
                (7.0, "invalid"),
                (NAN, "invalid"),
                (INF, "invalid"),
                (-INF, "invalid"),
                (1e300, "invalid"),
            ]
        ],
        ({"crf": -0.5}, "invalid", "quality.crf"),
        ({"crf": 51.5}, "invalid", "quality.crf"),
        ({"crf": 60.0}, "invalid", "quality.crf"),
        ({"crf": NAN}, "invalid", "quality.crf"),
        ({"bitrate_bps": 0}, "invalid", "quality.bitrate_bps"),
        ({"bitrate_bps": -1}, "invalid", "quality.bitrate_bps"),
        ({"bitrate_bps": 999}, "invalid", "quality.bitrate_bps"),
        ({"bitrate_bps": 1_000_000_001}, "invalid", "quality.bitrate_bps"),
        ({"bitrate_bps": 2**63 - 1}, "invalid", "quality.bitrate_bps"),
        ({"crf": 20.0, "bitrate_bps": 1_000_000}, "invalid", "quality"),
        ({"video_stabilization": 9}, "invalid", "video_stabilization"),
        ({"tone_mapping": 3}, "invalid", "tone_mapping"),
        ({"damage": 3}, "invalid", "damage"),
        (
            {"operation_mode": OperationMode.SUPER_STAB, "video_stabilization": 0},
            "invalid",
            "video_stabilization",
        ),
    ],
)
def test_a_setting_of_the_typed_form_alone_is_refused(
    settings: dict[str, Any], kind: str, field: str
) -> None:
    error = typed_refusal(**settings)
    assert (error.kind, error.field) == (kind, field)


@pytest.mark.parametrize("mode", sorted(set(OperationMode) - SUPPORTED_OPERATION_MODES))
def test_an_operation_mode_without_an_enhancement_is_unsupported(mode: OperationMode) -> None:
    error = typed_refusal(operation_mode=int(mode))
    assert (error.kind, error.field) == ("unsupported", "operation_mode")
    assert mode.name in error.message


# what only metadata can get wrong


@pytest.mark.parametrize(
    ("tag", "item_type", "count"),
    [
        (tag, item_type, count)
        for tag, known in TAGS.items()
        for item_type in ItemType
        for count in range(6)
        if (item_type, count) != (known.type, known.count)
    ],
)
def test_a_known_tag_of_another_type_or_count_is_invalid(tag: int, item_type: ItemType, count: int) -> None:
    one: Any = (1, 1) if item_type is ItemType.RATIONAL else 1
    error = metadata_refusal(encode([Item(index=0, tag=tag, type=item_type, values=(one,) * count)]))
    assert (error.kind, error.field) == ("invalid", TAGS[tag].field)
    assert f"{tag:#010x}" in error.message


def test_a_mirror_byte_over_one_is_invalid() -> None:
    error = metadata_refusal(metadata((MIRROR, (2,))))
    assert (error.kind, error.field) == ("invalid", "mirror")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(metadata((ZOOM, (1.0,)), (ZOOM, (2.0,))), "zoom_ratio", id="one tag"),
        pytest.param(metadata((MIRROR, (0,)), (MIRROR, (1,))), "mirror", id="off, then on"),
        pytest.param(
            metadata((FPS, (30, 30)), (AE_FPS, (15, 30))), "frame_rate_range", id="both frame rate tags"
        ),
        pytest.param(metadata((AE_FPS, (15, 30)), (FPS, (30, 30))), "frame_rate_range", id="the other order"),
    ],
)
def test_a_setting_that_comes_twice_and_differs_is_invalid(data: bytes, field: str) -> None:
    error = metadata_refusal(data)
    assert (error.kind, error.field) == ("invalid", field)


@pytest.mark.parametrize("length", range(1, len(EXAMPLE)))
def test_the_example_cut_anywhere_is_malformed(length: int) -> None:
    assert metadata_refusal(EXAMPLE[:length]).kind == "malformed"


def test_too_many_bytes_are_too_large() -> None:
    assert metadata_refusal(bytes(256 * 1024 + 1)).kind == "too_large"


def outcome(data: bytes) -> ModeSetting | SettingError:
    try:
        return from_metadata(data)
    except SettingError as error:
        return error


ITEM_BYTES = st.builds(
    lambda tag, item_type, count, values: struct.pack("<4I", 0, tag, item_type, count) + values,
    st.sampled_from([*TAGS, 0x20000001]),
    st.integers(0, 7),
    st.integers(0, 5),
    st.binary(max_size=40),
)


@given(st.integers(0, 4), st.lists(ITEM_BYTES, max_size=3))
def test_any_bytes_become_a_setting_or_a_refusal(tag_count: int, item_bytes: list[bytes]) -> None:
    result = outcome(struct.pack("<3I", tag_count, 4, 0) + b"".join(item_bytes))
    assert isinstance(result, ModeSetting) or result.kind in {"malformed", "invalid", "unsupported"}


@given(st.sampled_from(sorted(TAGS)), st.binary(min_size=16, max_size=16))
def test_any_value_of_a_known_tag_becomes_a_setting_or_a_refusal_of_its_field(
    tag: int, values: bytes
) -> None:
    known = TAGS[tag]
    size = known.count * (1 if known.type is ItemType.BYTE else 4)
    result = outcome(struct.pack("<3I4I", 1, 1, 0, 0, tag, known.type, known.count) + values[:size])
    if isinstance(result, SettingError):
        assert result.kind in {"invalid", "unsupported"}
        assert result.field.split(".")[0] == known.field


SETTINGS_OF_EVERY_TAG = metadata(
    (FPS, (24, 30)),
    (AE_FPS, (24, 30)),
    (ZOOM, (1.5,)),
    (CROP, (0, 0, 64, 48)),
    (STABILIZATION, (2,)),
    (MIRROR, (1,)),
    (ORIENTATION, (90,)),
)


@given(
    st.lists(st.tuples(st.integers(0, len(SETTINGS_OF_EVERY_TAG) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(SETTINGS_OF_EVERY_TAG)),
    st.binary(max_size=24),
)
@settings(max_examples=400 if SOAKING else 100)
def test_valid_metadata_that_is_changed_cut_and_added_to_becomes_a_setting_or_a_refusal(
    changes: list[tuple[int, int]], length: int, more: bytes
) -> None:
    data = bytearray(SETTINGS_OF_EVERY_TAG)
    for position, value in changes:
        data[position] = value
    result = outcome(bytes(data[:length]) + more)
    assert isinstance(result, ModeSetting) or result.kind in {"malformed", "invalid", "unsupported"}


@pytest.mark.parametrize(
    ("item", "kind", "field"),
    [
        pytest.param(
            (CROP, 1, struct.pack("<4i", 0, 0, -4, 4)), "invalid", "zoom_crop_region.width", id="negative"
        ),
        pytest.param(
            (CROP, 1, struct.pack("<4i", 0, 0, 4, 0)), "invalid", "zoom_crop_region.height", id="empty"
        ),
        pytest.param(
            (CROP, 1, struct.pack("<4i", 2**31 - 1, 0, 2**31 - 1, 4)),
            "invalid",
            "zoom_crop_region.x",
            id="huge",
        ),
        pytest.param(
            (ZOOM, 6, struct.pack("<2i", 2, 0)), "invalid", "zoom_ratio", id="a rational of nothing"
        ),
        pytest.param(
            (ZOOM, 3, struct.pack("<I", 0x7FC00001)), "invalid", "zoom_ratio", id="a NaN with a load"
        ),
        pytest.param(
            (ZOOM, 3, struct.pack("<I", 0x7F800001)), "invalid", "zoom_ratio", id="a signalling NaN"
        ),
        pytest.param((ZOOM, 3, struct.pack("<I", 1)), "invalid", "zoom_ratio", id="the smallest float"),
        pytest.param((STABILIZATION, 0, b"\xff"), "invalid", "video_stabilization", id="a strength of 255"),
    ],
)
def test_hostile_values_are_refused_by_the_name_of_their_field(
    item: tuple[int, int, bytes], kind: str, field: str
) -> None:
    tag, item_type, values = item
    count = len(values) // (1, 4, 4, 4, 8, 8, 8)[item_type]
    error = metadata_refusal(struct.pack("<3I4I", 1, 1, 0, 0, tag, item_type, count) + values)
    assert (error.kind, error.field) == (kind, field)


def test_a_rational_of_nothing_under_an_unknown_tag_is_passed_over() -> None:
    data = encode([Item(index=0, tag=0x20000001, type=ItemType.RATIONAL, values=((1, 0),))])
    assert from_metadata(data) == ModeSetting()


@pytest.mark.parametrize("count", [2**32 - 1, 2**31, 2**30, 48_001])
@pytest.mark.parametrize("item_type", ItemType)
def test_a_count_whose_bytes_would_overflow_is_malformed(item_type: ItemType, count: int) -> None:
    """Times 8 these wrap around to few bytes in 32 bits."""
    data = struct.pack("<3I4I", 1, 1, 0, 0, ZOOM, item_type, count) + bytes(8)
    assert metadata_refusal(data).kind == "malformed"


def calls_made_for(data: bytes) -> int:
    """Count the calls that reading takes, of Python's and of C's functions: a clock would count the machine's other work."""
    made = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal made
        made += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        outcome(data)
    finally:
        sys.setprofile(None)
    return made


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(struct.pack("<4I", 0, 0x20000001, 0, 0), id="unknown and empty"),
        pytest.param(struct.pack("<4If", 0, ZOOM, 3, 1, 2.0), id="a setting again and again"),
        pytest.param(struct.pack("<4I4i", 0, CROP, 1, 4, 0, 0, 64, 48), id="a region again and again"),
    ],
)
@pytest.mark.parametrize("cut", [0, 1])
def test_work_is_in_proportion_to_the_number_of_items(item: bytes, cut: int) -> None:
    few, many = (
        calls_made_for((struct.pack("<3I", count, count, 0) + item * count)[: -cut or None])
        for count in (100, 1000)
    )
    assert few > 100
    assert many < 11 * few


def test_work_does_not_grow_with_an_items_values() -> None:
    few, many = (
        calls_made_for(encode([Item(index=0, tag=0x20000001, type=ItemType.BYTE, values=(7,) * count)]))
        for count in (10, 48_000)
    )
    assert few == many


NUMBERS = st.one_of(st.none(), st.floats(), st.floats(-1, 60))
INTEGERS = st.one_of(st.none(), st.integers(-2, 30), st.integers(-(2**63), 2**63 - 1))
TYPED = st.builds(
    TypedSettings,
    operation_mode=INTEGERS,
    frame_rate_range=st.one_of(st.none(), st.builds(fps, st.integers(-1, 1001), st.integers(-1, 1001))),
    zoom_ratio=NUMBERS,
    zoom_crop_region=st.one_of(st.none(), st.builds(rect, *[st.integers(-1, 65536)] * 4)),
    video_stabilization=INTEGERS,
    mirror=st.one_of(st.none(), st.booleans()),
    orientation_degrees=st.one_of(st.sampled_from([0, 90, 180, 270]), INTEGERS),
    denoise_strength=NUMBERS,
    sharpen_strength=NUMBERS,
    deband_strength=NUMBERS,
    crf=NUMBERS,
    bitrate_bps=INTEGERS,
    tone_mapping=INTEGERS,
    damage=INTEGERS,
    moov_first=st.one_of(st.none(), st.booleans()),
)


@given(TYPED)
@settings(max_examples=400 if SOAKING else 100)
def test_any_typed_settings_become_a_setting_or_a_refusal_of_one_of_their_fields(
    asked: TypedSettings,
) -> None:
    made = typed_outcome(asked)
    if isinstance(made, SettingError):
        given_fields = {field.name for field in fields(asked) if getattr(asked, field.name) is not None}
        assert made.kind in {"invalid", "unsupported"}
        assert made.field == "quality" or {*made.field.split(".")} & given_fields
        return
    for value in (made.denoise_strength, made.sharpen_strength, made.deband_strength):
        assert value is None or 0 <= value <= 1
    assert made.crf is None or made.bitrate_bps is None
    assert made.operation_mode in SUPPORTED_OPERATION_MODES


def typed_outcome(asked: TypedSettings) -> ModeSetting | SettingError:
    try:
        return from_typed(asked)
    except SettingError as error:
        return error


# the tables


def test_every_field_of_the_typed_form_is_looked_at() -> None:
    """A field that no rule reads would be ignored silently."""
    impossible: dict[str, Any] = {
        "frame_rate_range": fps(0, 0),
        "zoom_crop_region": rect(0, 0, 0, 0),
        "watermark": watermark(width=-1),
    }
    for field in fields(TypedSettings):
        if field.name in {"moov_first", "mirror"}:  # either value is fine
            taken = from_typed(replace(TypedSettings(), **{field.name: True}))
            assert taken == replace(ModeSetting(), **{field.name: True})
            continue
        settings = replace(TypedSettings(), **{field.name: impossible.get(field.name, -1)})
        with pytest.raises(SettingError) as caught:
            from_typed(settings)
        assert field.name in caught.value.field


def watermark(**changes: Any) -> Watermark:
    place = Watermark(image=b"", scale_factor=2.0, rotation_degrees=0, x=0, y=0, width=0, height=0)
    return replace(place, **changes)


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        ({}, {}),
        ({"scale_factor": 0.0}, {"scale_factor": 1.0}),
        ({"rotation_degrees": -90}, {"rotation_degrees": 270}),
        ({"rotation_degrees": 450}, {"rotation_degrees": 90}),
        ({"x": -5, "y": -65535, "width": 65535}, {"x": -5, "y": -65535, "width": 65535}),
    ],
)
def test_watermarks_that_look_alike_are_equal(asked: dict[str, Any], canonical: dict[str, Any]) -> None:
    assert from_typed(TypedSettings(watermark=watermark(**asked))).watermark == watermark(**canonical)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("invalid", "scale_factor", -1.0),
        ("invalid", "scale_factor", float("nan")),
        ("invalid", "scale_factor", float("inf")),
        ("unsupported", "rotation_degrees", 45),
        ("invalid", "x", -65536),
        ("invalid", "y", 65536),
        ("invalid", "width", -1),
        ("invalid", "height", 65536),
    ],
)
def test_a_watermark_that_nobody_could_place_is_refused(kind: str, field: str, value: float) -> None:
    refusal = typed_refusal(watermark=watermark(**{field: value}))
    assert (refusal.kind, refusal.field) == (kind, f"watermark.{field}")


@pytest.mark.parametrize(("number", "conceal"), [(None, False), (1, False), (2, True)])
def test_damage_is_concealed_only_where_that_is_asked_for(number: int | None, *, conceal: bool) -> None:
    assert from_typed(TypedSettings(damage=number)).conceal_damage is conceal


def test_the_modes_that_are_taken_are_those_that_have_a_chain() -> None:
    assert set(SUPPORTED_MODES) == SUPPORTED_OPERATION_MODES


def test_every_tag_fills_a_field_of_the_typed_form() -> None:
    assert {known.field for known in TAGS.values()} <= {field.name for field in fields(TypedSettings)}
