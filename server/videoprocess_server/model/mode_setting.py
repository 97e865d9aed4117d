"""Turns both forms of `mode_setting` into the one canonical ModeSetting, under the same rules.

    serialised metadata -> TAGS -> TypedSettings
    protobuf (rpc)               -> TypedSettings -> rules -> ModeSetting

What is asked for is done or refused, never ignored: a value that nobody could fulfil, or that contradicts another, is
"invalid", one that this version cannot is "unsupported", one that changes nothing (stabilisation off, zoom 1.0) is taken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

from videoprocess_server.model.camera_metadata import Item, ItemType, SettingError, parse
from videoprocess_server.model.hdi import OperationMode, VideoStabilisation
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect, Watermark

__all__ = [
    "MAX_BITRATE_BPS",
    "MAX_COORDINATE",
    "MAX_CRF",
    "MAX_FPS",
    "MAX_SCALE_FACTOR",
    "MAX_ZOOM_RATIO",
    "MIN_BITRATE_BPS",
    "MIN_CROP_SIDE",
    "ORIENTATIONS_DEGREES",
    "STABILISE_EXTRA",
    "SUPPORTED_OPERATION_MODES",
    "TAGS",
    "TONE_MAPPING_FILTER",
    "KnownTag",
    "SettingError",
    "TypedSettings",
    "from_metadata",
    "from_typed",
    "require_extras",
    "require_filters",
]

#: what each does: `enhance/chains.py`
SUPPORTED_OPERATION_MODES = frozenset(
    {
        OperationMode.NORMAL,
        OperationMode.VIDEO,
        OperationMode.NIGHT,
        OperationMode.SLOW_MOTION,
        OperationMode.SUPER_STAB,
        OperationMode.PROFESSIONAL_VIDEO,
        OperationMode.HIGH_FRAME_RATE,
    }
)
MAX_FPS = 1000
MAX_ZOOM_RATIO = 100.0
MAX_SCALE_FACTOR = 100.0
MAX_CRF = 51.0
MIN_BITRATE_BPS = 1_000  # encoders cannot even say that nothing changes with less
MAX_BITRATE_BPS = 1_000_000_000
ORIENTATIONS_DEGREES = (0, 90, 180, 270)
#: the extra that brings what stabilisation needs, as `BuildInfo.extras` names it
STABILISE_EXTRA = "stabilise"
#: the filter that maps a high dynamic range to the standard one, as `BuildInfo.filters` names it
TONE_MAPPING_FILTER = "tone_map"
_RIGHT_ANGLE = 90  # degrees
_FULL_TURN = 360
#: numbers of the typed form → whether damage is concealed
_CONCEALS = {1: False, 2: True}
#: numbers of the typed form → whether a high dynamic range becomes the standard one
_MAPS_TO_SDR = {1: False, 2: True}
#: stabilisation of a mode where none is asked for; off in all others
_STABILISATION_OF_MODE = {OperationMode.SUPER_STAB: VideoStabilisation.HIGH}
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
    #: 1 keeps the dynamic range, 2 maps it to the standard one
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
    mode = _operation_mode(settings.operation_mode)
    if settings.crf is not None and settings.bitrate_bps is not None:
        raise SettingError("invalid", "quality", "a quality and a bit rate are both asked for")
    return ModeSetting(
        operation_mode=mode,
        frame_rate_range=_frame_rate_range(settings.frame_rate_range),
        zoom_ratio=_zoom_ratio(settings.zoom_ratio),
        zoom_crop_region=_zoom_crop_region(settings.zoom_crop_region),
        mirror=bool(settings.mirror),
        orientation_degrees=_orientation(settings.orientation_degrees),
        stabilisation=_stabilisation(settings.video_stabilization, mode),
        denoise_strength=_strength("enhancement.denoise_strength", settings.denoise_strength),
        sharpen_strength=_strength("enhancement.sharpen_strength", settings.sharpen_strength),
        deband_strength=_strength("enhancement.deband_strength", settings.deband_strength),
        crf=_within_float32("quality.crf", settings.crf, 0.0, MAX_CRF),
        bitrate_bps=_bitrate(settings.bitrate_bps),
        to_sdr=_chosen("tone_mapping", settings.tone_mapping, _MAPS_TO_SDR, default=ModeSetting.to_sdr),
        watermark=_watermark(settings.watermark),
        conceal_damage=_chosen("damage", settings.damage, _CONCEALS, default=ModeSetting.conceal_damage),
        moov_first=settings.moov_first,
    )


def require_extras(setting: ModeSetting, extras: Container[str]) -> None:
    """Refuse settings that need an extra which is not there.

    Raises:
        SettingError: "unsupported", which names the setting and the extra.
    """
    if setting.stabilisation is VideoStabilisation.OFF or STABILISE_EXTRA in extras:
        return
    by_mode = setting.operation_mode in _STABILISATION_OF_MODE
    raise SettingError(
        "unsupported",
        "operation_mode" if by_mode else "video_stabilization",
        f"stabilisation needs an extra that the server lacks: pip install -e '.[{STABILISE_EXTRA}]'",
    )


def require_filters(setting: ModeSetting, filters: Container[str]) -> None:
    """Refuse settings that need a filter which is not there.

    Raises:
        SettingError: "unsupported", which names the setting.
    """
    if setting.to_sdr and TONE_MAPPING_FILTER not in filters:
        raise SettingError(
            "unsupported", "tone_mapping", "the server's FFmpeg cannot map tones: it has no haldclut"
        )


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
    ratio = _within_float32("zoom_ratio", asked, 1.0, MAX_ZOOM_RATIO)
    return ModeSetting.zoom_ratio if ratio is None else ratio


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


def _orientation(asked: int | None) -> int | None:
    if asked is not None and asked not in ORIENTATIONS_DEGREES:
        raise SettingError("invalid", "orientation_degrees", f"{asked} is not 0, 90, 180 or 270")
    return asked


def _stabilisation(number: int | None, mode: OperationMode) -> VideoStabilisation:
    """A mode that stabilises does so as asked, or by itself; to ask it not to is to ask for two things at once."""
    by_mode = _STABILISATION_OF_MODE.get(mode, VideoStabilisation.OFF)
    if number is None:
        return by_mode
    try:
        asked = VideoStabilisation(number)
    except ValueError:
        raise SettingError(
            "invalid", "video_stabilization", f"{number} is not 0 (off), 1, 2, 3 or 4 (auto)"
        ) from None
    if asked is VideoStabilisation.OFF and by_mode is not VideoStabilisation.OFF:
        raise SettingError(
            "invalid", "video_stabilization", f"it is off, and the operation mode is {mode.name}"
        )
    return asked


def _strength(field: str, asked: float | None) -> float | None:
    return _within_float32(field, asked, 0.0, 1.0)


def _bitrate(asked: int | None) -> int | None:
    if asked is not None:
        _check_between("quality.bitrate_bps", asked, MIN_BITRATE_BPS, MAX_BITRATE_BPS)
    return asked


def _chosen(field: str, number: int | None, meanings: Mapping[int, bool], *, default: bool) -> bool:
    if number is None:
        return default
    if number not in meanings:
        raise SettingError("invalid", field, f"{number} is none of {', '.join(map(str, meanings))}")
    return meanings[number]


def _check_between(field: str, value: float, lowest: float, highest: float) -> None:
    # NaN is between nothing
    if not lowest <= value <= highest:
        raise SettingError("invalid", field, f"{value} is not within {lowest} to {highest}")


def _within_float32(field: str, asked: float | None, lowest: float, highest: float) -> float | None:
    """Check a number and round it to what both forms can carry, so that the same is equal whichever form it came in."""
    if asked is None:
        return None
    try:
        # -0.0 is 0.0
        rounded: float = struct.unpack("<f", struct.pack("<f", asked))[0] + 0.0
    except OverflowError:
        rounded = float("inf")
    _check_between(field, rounded, lowest, highest)
    return rounded
