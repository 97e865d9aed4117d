"""The options that say how the picture is made: the typed settings, from the command line and back to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, TypeAlias

import typer

from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1.mode_setting_pb2 import (
    TONE_MAPPING_TO_SDR,
    TONE_MAPPING_UNSPECIFIED,
    Enhancement,
    FrameRateRange,
    ModeSetting,
    Quality,
    Rect,
)
from videoprocess_client.cli.options import parse_rates

#: letters after a bit rate → what it is multiplied by
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
_MIN_BITRATE_BPS, _MAX_BITRATE_BPS = 1_000, 1_000_000_000


class Mode(StrEnum):
    """Operation modes that can be asked for."""

    NORMAL = "normal"
    VIDEO = "video"
    NIGHT = "night"
    SLOW_MOTION = "slow-motion"
    SUPER_STAB = "super-stab"
    PROFESSIONAL_VIDEO = "professional-video"
    HIGH_FRAME_RATE = "high-frame-rate"


class Stabilise(StrEnum):
    """How much a shaking picture is to be held still."""

    OFF = "off"
    LOW = "low"
    MIDDLE = "middle"
    HIGH = "high"
    AUTO = "auto"


ModeOption: TypeAlias = Annotated[
    Mode | None, typer.Option(help="What was recorded, which decides how it is enhanced. Default: normal.")
]
StabiliseOption: TypeAlias = Annotated[
    Stabilise | None,
    typer.Option(
        help="Hold a shaking picture still; the server needs an extra for it. Default: off, with super-stab high."
    ),
]
Denoise: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, metavar="0-1", help="Noise removal, 0 is off. Default: as much as is measured."
    ),
]
Sharpen: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, metavar="0-1", help="Sharpening, 0 is off. Default: the mode's."),
]
Deband: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="0-1",
        help="Removal of banding in smooth areas, 0 is off. Default: the mode's.",
    ),
]
Crf: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=51.0,
        metavar="0-51",
        help="Constant quality, 0 is best, whatever the size. Not with --bitrate.",
    ),
]
Bitrate: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="BPS", help="Average bits per second of the picture, e.g. 800k or 5M."),
]
ToSdr: TypeAlias = Annotated[
    bool, typer.Option("--to-sdr", help="Map a high dynamic range to the standard one.")
]
Mirror: TypeAlias = Annotated[bool, typer.Option("--mirror", help="Mirror the picture left to right.")]
OrientationOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--orientation",
        metavar="0|90|180|270",
        help="Show it turned clockwise by so many degrees. Default: as it is.",
    ),
]
Zoom: TypeAlias = Annotated[
    float | None, typer.Option(min=1.0, metavar="RATIO", help="Zoom into the middle, 1.0 or more.")
]
Crop: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,W,H",
        help="Part of the picture that is shown, in pixels as it is coded. With --zoom: its middle.",
    ),
]
Fps: TypeAlias = Annotated[
    str | None, typer.Option(metavar="MIN[-MAX]", help="Frame rate of the result, e.g. 60 or 24-30.")
]
MaxFps: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=1000, metavar="FPS", help="Highest frame rate of the result.")
]


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """What was given; None and False are not."""

    mode: Mode | None = None
    stabilise: Stabilise | None = None
    denoise: float | None = None
    sharpen: float | None = None
    deband: float | None = None
    crf: float | None = None
    bitrate: str | None = None
    to_sdr: bool = False
    mirror: bool = False
    orientation: int | None = None
    zoom: float | None = None
    crop: str | None = None
    fps: str | None = None
    max_fps: int | None = None

    def setting(self) -> ModeSetting | None:
        """The settings in typed form; None where nothing was given.

        Raises:
            typer.BadParameter: A value cannot be read, or two do not go together.
        """
        if self == PictureOptions():
            return None
        return ModeSetting(
            operation_mode=_mode(self.mode),
            video_stabilization=_stabilisation(self.stabilise),
            enhancement=_strengths(self.denoise, self.sharpen, self.deband),
            quality=_quality(self.crf, self.bitrate),
            tone_mapping=TONE_MAPPING_TO_SDR if self.to_sdr else TONE_MAPPING_UNSPECIFIED,
            mirror=self.mirror or None,
            orientation_degrees=_degrees(self.orientation),
            zoom_ratio=self.zoom,
            zoom_crop_region=None if self.crop is None else parse_region(self.crop),
            frame_rate_range=_rates(self.fps, self.max_fps),
        )


def described(setting: ModeSetting) -> Iterator[str]:
    """Give the options that ask for a setting."""
    for name, write in _WRITERS.items():
        if setting.HasField(name):  # type: ignore[arg-type]
            yield write(getattr(setting, name))
    if setting.tone_mapping == TONE_MAPPING_TO_SDR:
        yield "--to-sdr"
    for name in ("denoise", "sharpen", "deband"):
        if setting.enhancement.HasField(f"{name}_strength"):  # type: ignore[arg-type]
            yield f"--{name} {getattr(setting.enhancement, f'{name}_strength'):g}"
    if setting.quality.HasField("crf"):
        yield f"--crf {setting.quality.crf:g}"
    if setting.quality.HasField("bitrate_bps"):
        yield f"--bitrate {setting.quality.bitrate_bps}"


def _name(option: str, names: Mapping[int, str]) -> Callable[[int], str]:
    """Give what writes a number by its name, or as it is where this version has none for it."""
    return lambda number: f"--{option} {names.get(number, str(number))}"


def _names(items: Iterable[tuple[str, int]], prefix: str) -> dict[int, str]:
    return {number: name.removeprefix(prefix).lower().replace("_", "-") for name, number in items}


def _region(region: Rect) -> str:
    return f"--crop {region.x},{region.y},{region.width},{region.height}"


#: field → what writes its option
_WRITERS: Mapping[str, Callable[[Any], str]] = {
    "operation_mode": _name("mode", _names(hdi.OperationMode.items(), "OPERATION_MODE_")),
    "video_stabilization": _name("stabilise", _names(hdi.VideoStabilization.items(), "VIDEO_STABILIZATION_")),
    "zoom_ratio": lambda ratio: f"--zoom {ratio:g}",
    "zoom_crop_region": _region,
    "frame_rate_range": lambda rates: f"--fps {rates.min_fps}-{rates.max_fps}",
    "mirror": lambda _: "--mirror",
    "orientation_degrees": lambda degrees: f"--orientation {degrees}",
}


def parse_region(text: str) -> Rect:
    """`8,4,640,360` as left, top, width and height in pixels.

    Raises:
        typer.BadParameter: It cannot be read, or has no extent.
    """
    found = re.fullmatch(r"(\d{1,5}),(\d{1,5}),([1-9]\d{0,4}),([1-9]\d{0,4})", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not X,Y,W,H in pixels, e.g. 8,4,640,360", param_hint="--crop")
    x, y, width, height = map(int, found.groups())
    return Rect(x=x, y=y, width=width, height=height)


def parse_bitrate(text: str) -> int:
    """`800k`, `2.5M` or `800000` as bits per second.

    Raises:
        typer.BadParameter: It cannot be read, or no encoder keeps it.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)(k|K|M)?", text)
    rate = int(Fraction(found[1]) * _UNITS[(found[2] or "").replace("K", "k")]) if found else 0
    if not _MIN_BITRATE_BPS <= rate <= _MAX_BITRATE_BPS:
        raise typer.BadParameter(
            f"{text!r} is not a bit rate from 1k to 1000M, e.g. 800k or 5M", param_hint="--bitrate"
        )
    return rate


def _mode(asked: Mode | None) -> hdi.OperationMode.ValueType | None:
    return None if asked is None else hdi.OperationMode.Value(f"OPERATION_MODE_{asked.name}")


def _stabilisation(asked: Stabilise | None) -> hdi.VideoStabilization.ValueType | None:
    return None if asked is None else hdi.VideoStabilization.Value(f"VIDEO_STABILIZATION_{asked.name}")


def _strengths(denoise: float | None, sharpen: float | None, deband: float | None) -> Enhancement | None:
    if denoise is None and sharpen is None and deband is None:
        return None
    return Enhancement(denoise_strength=denoise, sharpen_strength=sharpen, deband_strength=deband)


def _quality(crf: float | None, bitrate: str | None) -> Quality | None:
    if crf is not None and bitrate is not None:
        raise typer.BadParameter("not together with --crf", param_hint="--bitrate")
    if bitrate is not None:
        return Quality(bitrate_bps=parse_bitrate(bitrate))
    return None if crf is None else Quality(crf=crf)


def _degrees(orientation: int | None) -> int | None:
    if orientation not in (None, 0, 90, 180, 270):
        raise typer.BadParameter(f"{orientation} is not 0, 90, 180 or 270", param_hint="--orientation")
    return orientation


def _rates(fps: str | None, max_fps: int | None) -> FrameRateRange | None:
    if fps is not None and max_fps is not None:
        raise typer.BadParameter("not together with --fps", param_hint="--max-fps")
    if fps is not None:
        low, high = parse_rates(fps)
        return FrameRateRange(min_fps=low, max_fps=high)
    return FrameRateRange(min_fps=1, max_fps=max_fps) if max_fps is not None else None
