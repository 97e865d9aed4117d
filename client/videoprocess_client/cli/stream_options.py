"""The options that say what is made: settings, codec and size, and from where on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from videoprocess.v1.mode_setting_pb2 import FrameRateRange, ModeSetting
from videoprocess_client.cli.options import parse_rates
from videoprocess_client.enums import EncodeType


class Codec(StrEnum):
    """Codecs that can be asked for."""

    H264 = "h264"
    H265 = "h265"


Zoom: TypeAlias = Annotated[
    float | None, typer.Option(min=1.0, metavar="RATIO", help="Zoom into the middle, 1.0 or more.")
]
Fps: TypeAlias = Annotated[
    str | None, typer.Option(metavar="MIN-MAX", help="Frame rate of the result, e.g. 24-30.")
]
MaxFps: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=9999, metavar="FPS", help="Highest frame rate of the result.")
]
CodecOption: TypeAlias = Annotated[
    Codec | None, typer.Option(help="Codec of the result. Default: the source's.")
]
Size: TypeAlias = Annotated[
    str | None, typer.Option(metavar="WxH", help="Size of the result in pixels. Default: the source's.")
]
From: TypeAlias = Annotated[
    str,
    typer.Option("--from", metavar="SECONDS", help="Enhance from here on; what is before stays as it is."),
]
SettingsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="OpenHarmony's serialised camera metadata. Not with --zoom, --fps, --max-fps."
    ),
]


def encode_type_of(codec: Codec | None) -> EncodeType:
    """The contract's encode type for a codec; NULL, the source's, for none."""
    return EncodeType[codec.name] if codec else EncodeType.NULL


def settings_of(
    path: Path | None, zoom: float | None, fps: str | None, max_fps: int | None
) -> bytes | ModeSetting | None:
    """The settings that the options ask for; None for the defaults.

    Raises:
        typer.BadParameter: They do not go together, or a value or the file cannot be read.
    """
    rates = _rates(fps, max_fps)
    if zoom is None and rates is None:
        return _read_settings(path) if path is not None else None
    if path is not None:
        raise typer.BadParameter("not together with --zoom, --fps or --max-fps", param_hint="--settings-file")
    return ModeSetting(zoom_ratio=zoom, frame_rate_range=rates)


def _read_settings(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--settings-file") from None


def _rates(fps: str | None, max_fps: int | None) -> FrameRateRange | None:
    if fps is not None and max_fps is not None:
        raise typer.BadParameter("not together with --fps", param_hint="--max-fps")
    if fps is not None:
        low, high = parse_rates(fps)
        return FrameRateRange(min_fps=low, max_fps=high)
    return FrameRateRange(min_fps=1, max_fps=max_fps) if max_fps is not None else None
