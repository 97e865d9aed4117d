"""Turns both forms of `mode_setting` into the one canonical ModeSetting, under the same rules.

    serialised metadata -> TAGS -> TypedSettings
    protobuf (rpc)               -> TypedSettings -> rules -> ModeSetting

What is asked for is done or refused, never ignored: a value that nobody could fulfil is "invalid", one that this version
cannot is "unsupported", one that changes nothing (stabilisation off, zoom 1.0) is taken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from videoprocess_server.model.camera_metadata import Item, ItemType, SettingError, parse
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect, Watermark

__all__ = [
    "MAX_COORDINATE",
    "MAX_FPS",
    "MAX_SCALE_FACTOR",
    "MAX_ZOOM_RATIO",
    "MIN_CROP_SIDE",
    "SUPPORTED_OPERATION_MODES",
    "TAGS",
    "KnownTag",
    "SettingError",
    "TypedSettings",
    "from_metadata",
    "from_typed",
]

SUPPORTED_OPERATION_MODES = frozenset({OperationMode.NORMAL, OperationMode.VIDEO})
MAX_FPS = 1000
MAX_ZOOM_RATIO = 100.0
MAX_SCALE_FACTOR = 100.0
_RIGHT_ANGLE = 90  # degrees
_FULL_TURN = 360
#: numbers of the typed form → whether damage is concealed
_CONCEALS = {1: False, 2: True}
MIN_CROP_SIDE = 2  # pixels; less is not a 4:2:0 picture
MAX_COORDINATE = 65535  # pixels; whether a region is inside the picture is known only with the video


@dataclass(frozen=True, kw_only=True)
class TypedSettings:
    """The typed form as the caller gave it, unchecked; None is absent and asks for nothing."""

    operation_mode: int | None = None
    frame_rate_range: FrameRateRange | None = None
    zoom_ratio: float | None = None
    zoom_crop_region: Rect | None = None
    video_stabilization: int | None = None
    mirror: bool | None = None
    #: clockwise, for display
    orientation_degrees: int | None = None
    denoise_strength: float | None = None
    sharpen_strength: float | None = None
    deband_strength: float | None = None
    crf: float | None = None
    bitrate_bps: int | None = None
    #: 0 is none
    tone_mapping: int | None = None
    #: without its picture, which is no number
    watermark: Watermark | None = None
    #: 1 is to fail, 2 to conceal
    damage: int | None = None
    moov_first: bool | None = None


@dataclass(frozen=True)
class KnownTag:
    """A tag of camera metadata that is a setting."""

    #: in TypedSettings
    field: str
    type: ItemType
    count: int
    #: values of that type and count → the field's value
    read: Callable[[tuple[Any, ...]], Any]


def _read_fps(values: tuple[int, int]) -> FrameRateRange:
    return FrameRateRange(min_fps=values[0], max_fps=values[1])


def _read_rect(values: tuple[int, int, int, int]) -> Rect:
    return Rect(x=values[0], y=values[1], width=values[2], height=values[3])


def _read_number(values: tuple[float]) -> float:
    return values[0]


def _read_mirror(values: tuple[int]) -> bool:
    if values[0] > 1:
        raise SettingError("invalid", "mirror", f"{values[0]} is neither 0 nor 1")
    return values[0] == 1


TAGS: Mapping[int, KnownTag] = {
    0x10000006: KnownTag("frame_rate_range", ItemType.INT32, 2, _read_fps),
    0x10000005: KnownTag("frame_rate_range", ItemType.INT32, 2, _read_fps),
    0x10050001: KnownTag("zoom_ratio", ItemType.FLOAT, 1, _read_number),
    0x10050002: KnownTag("zoom_crop_region", ItemType.INT32, 4, _read_rect),
    0x30030001: KnownTag("video_stabilization", ItemType.BYTE, 1, _read_number),
    0x10000019: KnownTag("mirror", ItemType.BYTE, 1, _read_mirror),
    0x30020003: KnownTag("orientation_degrees", ItemType.INT32, 1, _read_number),
}


@dataclass(frozen=True)
class _NotSupported:
    """A setting that this version knows but cannot fulfil."""

    #: its path in the typed form
    field: str
    get: Callable[[TypedSettings], float | None]
    is_valid: Callable[[float], bool]
    #: the valid values, for people
    valid: str
    #: the values that ask for nothing
    nothing: frozenset[float] = frozenset()


def _is_strength(value: float) -> bool:
    return 0 <= value <= 1


_OFF = frozenset({0.0})
_NOT_SUPPORTED = (
    _NotSupported(
        "video_stabilization",
        lambda s: s.video_stabilization,
        lambda v: v in range(5),
        "0 (off) to 4 (auto)",
        _OFF,
    ),
    _NotSupported("mirror", lambda s: s.mirror, lambda v: v in {0, 1}, "false or true", _OFF),
    _NotSupported(
        "orientation_degrees",
        lambda s: s.orientation_degrees,
        lambda v: v in {0, 90, 180, 270},
        "0, 90, 180 or 270",
        _OFF,
    ),
    _NotSupported("enhancement.denoise_strength", lambda s: s.denoise_strength, _is_strength, "0.0 to 1.0"),
    _NotSupported("enhancement.sharpen_strength", lambda s: s.sharpen_strength, _is_strength, "0.0 to 1.0"),
    _NotSupported("enhancement.deband_strength", lambda s: s.deband_strength, _is_strength, "0.0 to 1.0"),
    _NotSupported("quality.crf", lambda s: s.crf, lambda v: 0 <= v <= 51, "0 to 51"),
    _NotSupported("quality.bitrate_bps", lambda s: s.bitrate_bps, lambda v: v > 0, "more than 0"),
    _NotSupported("tone_mapping", lambda s: s.tone_mapping, lambda _: True, "any", _OFF),
)


def from_metadata(data: bytes) -> ModeSetting:
    """Read OpenHarmony's serialised camera metadata; unknown tags are passed over, no bytes are the defaults.

    A setting that comes twice, be it under one tag or under both frame rate tags, must say the same both times: to choose
    one would be to ignore the other.

    Raises:
        SettingError: of any kind.
    """
    settings = TypedSettings()
    for item in parse(data):
        known = TAGS.get(item.tag)
        if known is not None:
            settings = _with_item(settings, known, item)
    return from_typed(settings)


def from_typed(settings: TypedSettings) -> ModeSetting:
    """Check the typed form and make it canonical: what asks for the same is equal.

    Raises:
        SettingError: "invalid" or "unsupported", about the first field that is wrong.
    """
    canonical = ModeSetting(
        operation_mode=_operation_mode(settings.operation_mode),
        frame_rate_range=_frame_rate_range(settings.frame_rate_range),
        zoom_ratio=_zoom_ratio(settings.zoom_ratio),
        zoom_crop_region=_zoom_crop_region(settings.zoom_crop_region),
        watermark=_watermark(settings.watermark),
        conceal_damage=_conceal_damage(settings.damage),
        moov_first=settings.moov_first,
    )
    for row in _NOT_SUPPORTED:
        _refuse_unless_nothing(row, row.get(settings))
    return canonical


def _with_item(settings: TypedSettings, known: KnownTag, item: Item) -> TypedSettings:
    """Add what a known tag asks for."""
    if (item.type, len(item.values)) != (known.type, known.count):
        raise SettingError(
            "invalid",
            known.field,
            f"tag {item.tag:#010x} has {len(item.values)} of {item.type.name}, not {known.count} of {known.type.name}",
        )
    value = known.read(item.values)
    before = getattr(settings, known.field)
    if before is not None and before != value:
        raise SettingError(
            "invalid", known.field, f"it comes twice, as {before} and, by tag {item.tag:#010x}, as {value}"
        )
    return replace(settings, **{known.field: value})


def _operation_mode(number: int | None) -> OperationMode:
    if number is None:
        return OperationMode.NORMAL
    try:
        mode = OperationMode(number)
    except ValueError:
        raise SettingError("invalid", "operation_mode", f"{number} is no operation mode") from None
    if mode not in SUPPORTED_OPERATION_MODES:
        raise SettingError("unsupported", "operation_mode", f"no enhancement is known for {mode.name}")
    return mode


def _frame_rate_range(asked: FrameRateRange | None) -> FrameRateRange | None:
    if asked is not None:
        _check_between("frame_rate_range.min_fps", asked.min_fps, 1, MAX_FPS)
        _check_between("frame_rate_range.max_fps", asked.max_fps, asked.min_fps, MAX_FPS)
    return asked


def _zoom_ratio(asked: float | None) -> float:
    if asked is None:
        return ModeSetting.zoom_ratio
    ratio = _to_float32(asked)
    _check_between("zoom_ratio", ratio, 1.0, MAX_ZOOM_RATIO)
    return ratio


def _zoom_crop_region(asked: Rect | None) -> Rect | None:
    if asked is not None:
        _check_between("zoom_crop_region.x", asked.x, 0, MAX_COORDINATE)
        _check_between("zoom_crop_region.y", asked.y, 0, MAX_COORDINATE)
        _check_between("zoom_crop_region.width", asked.width, MIN_CROP_SIDE, MAX_COORDINATE)
        _check_between("zoom_crop_region.height", asked.height, MIN_CROP_SIDE, MAX_COORDINATE)
    return asked


def _watermark(asked: Watermark | None) -> Watermark | None:
    """A factor of 0 is 1; turns are counted within a circle."""
    if asked is None:
        return None
    factor = asked.scale_factor or 1.0
    if not 0 < factor <= MAX_SCALE_FACTOR:
        raise SettingError(
            "invalid", "watermark.scale_factor", f"{factor} is not within 0 to {MAX_SCALE_FACTOR}"
        )
    if asked.rotation_degrees % _RIGHT_ANGLE:
        raise SettingError(
            "unsupported", "watermark.rotation_degrees", f"{asked.rotation_degrees} is no multiple of 90"
        )
    _check_between("watermark.x", asked.x, -MAX_COORDINATE, MAX_COORDINATE)
    _check_between("watermark.y", asked.y, -MAX_COORDINATE, MAX_COORDINATE)
    _check_between("watermark.width", asked.width, 0, MAX_COORDINATE)
    _check_between("watermark.height", asked.height, 0, MAX_COORDINATE)
    return replace(asked, scale_factor=factor, rotation_degrees=asked.rotation_degrees % _FULL_TURN)


def _conceal_damage(number: int | None) -> bool:
    if number is None:
        return ModeSetting.conceal_damage
    if number not in _CONCEALS:
        raise SettingError("invalid", "damage", f"{number} is no way to handle damage")
    return _CONCEALS[number]


def _refuse_unless_nothing(row: _NotSupported, value: float | None) -> None:
    if value is None:
        return
    if not row.is_valid(value):
        raise SettingError("invalid", row.field, f"{value} is not valid; valid is {row.valid}")
    if value not in row.nothing:
        raise SettingError("unsupported", row.field, f"this version cannot do {value}")


def _check_between(field: str, value: float, lowest: float, highest: float) -> None:
    # NaN is between nothing
    if not lowest <= value <= highest:
        raise SettingError("invalid", field, f"{value} is not within {lowest} to {highest}")


def _to_float32(value: float) -> float:
    """Round to what both forms can carry, so that the same zoom is equal whichever form it came in."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf")
    return rounded
