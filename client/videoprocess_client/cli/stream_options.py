"""The options that say what is made: streams, codec and size, and from where on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from videoprocess.v1.mode_setting_pb2 import ModeSetting
from videoprocess_client.cli.options import parse_point, parse_size
from videoprocess_client.cli.picture_options import PictureOptions
from videoprocess_client.cli.stream_settings import MAX_STREAMS, Publication, StreamSpec
from videoprocess_client.enums import EncodeType, StreamIntent
from videoprocess_client.watermarks import WatermarkFile


class Codec(StrEnum):
    """Codecs that can be asked for."""

    H264 = "h264"
    H265 = "h265"


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
        metavar="FILE",
        help="OpenHarmony's serialised camera metadata, instead of the options of the picture.",
    ),
]


StreamOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--stream",
        metavar="INTENT[:TYPE][:WxH]",
        help="What is made; may be given several times. INTENT: video, preview, still-capture, post-view, analyze, custom; "
        "TYPE: h264, h265, jpeg. Default: the enhanced video. Not with --codec, --size.",
    ),
]
WatermarkOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--watermark", metavar="FILE", help="A picture (PNG, JPEG, WebP) burnt into every frame."),
]
WatermarkAt: TypeAlias = Annotated[
    str | None,
    typer.Option("--watermark-at", metavar="X,Y", help="Its top left corner in pixels. Default: 0,0."),
]
WatermarkSize: TypeAlias = Annotated[
    str | None,
    typer.Option("--watermark-size", metavar="WxH", help="Its size in pixels. Default: the picture's."),
]

PublishOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--publish",
        metavar="ROOT[:FOLDER]",
        help="Have the results written into a shared root of the server as well.",
    ),
]
PublishAs: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--publish-as",
        metavar="NAME",
        help="What they are called there, with {source}, {intent}, {stream_id}, {job_id}, {index}, {ext} filled in.",
    ),
]
PublishOver: TypeAlias = Annotated[
    bool, typer.Option("--publish-over", help="Replace files of these names instead of failing.")
]

_INTENTS = {intent.name.lower().replace("_", "-"): intent for intent in StreamIntent}
_TYPES = {encode_type.name.lower(): encode_type for encode_type in EncodeType if encode_type}


def streams_of(texts: Sequence[str] | None, codec: Codec | None, size: str | None) -> tuple[StreamSpec, ...]:
    """The streams that `--stream` asks for; none without one.

    Raises:
        typer.BadParameter: One cannot be read, or they do not go together with other options.
    """
    if texts and (codec is not None or size is not None):
        raise typer.BadParameter("not together with --codec or --size", param_hint="--stream")
    if texts and len(texts) > MAX_STREAMS:
        raise typer.BadParameter(f"at most {MAX_STREAMS} of them", param_hint="--stream")
    return tuple(parse_stream(text) for text in texts or ())


def parse_stream(text: str) -> StreamSpec:
    """`video:h265:1280x720` as a stream; type and size may be missing."""
    name, *more = text.lower().split(":")
    intent = _INTENTS.get(name)
    encode_type, sizes = EncodeType.NULL, list(more)
    if sizes and sizes[0] in _TYPES:
        encode_type = _TYPES[sizes.pop(0)]
    if intent is None or len(sizes) > 1:
        raise typer.BadParameter(
            f"{text!r} is not INTENT[:TYPE][:WxH], e.g. preview:h264:320x180", param_hint="--stream"
        )
    width, height = parse_size(sizes[0], "--stream") if sizes else (0, 0)
    return StreamSpec(intent=intent, encode_type=encode_type, width=width, height=height)


def publication_of(place: str | None, name: str | None, *, over: bool) -> Publication | None:
    """Where on the server the options have results written to.

    Raises:
        typer.BadParameter: They do not go together, or the place cannot be read.
    """
    if place is None:
        if name is not None or over:
            raise typer.BadParameter(
                "needs --publish", param_hint="--publish-as" if name else "--publish-over"
            )
        return None
    root, path = (*re.split("[:/]", place, maxsplit=1), "")[:2]
    if not root:
        raise typer.BadParameter(f"{place!r} is not ROOT[:FOLDER], e.g. out:trip", param_hint="--publish")
    return Publication(root=root, path=path, name_template=name or "", replace_existing=over)


def watermark_of(
    path: Path | None, at: str | None, size: str | None, settings: bytes | ModeSetting | None
) -> WatermarkFile | None:
    """The watermark that the options ask for.

    Raises:
        typer.BadParameter: They do not go together, or a value or the file cannot be read.
    """
    if path is None:
        if at is not None or size is not None:
            raise typer.BadParameter("needs --watermark", param_hint="--watermark-at")
        return None
    if isinstance(settings, bytes):
        raise typer.BadParameter("not together with --settings-file", param_hint="--watermark")
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {str(path)!r}", param_hint="--watermark")
    x, y = parse_point(at) if at is not None else (0, 0)
    width, height = parse_size(size, "--watermark-size") if size is not None else (0, 0)
    return WatermarkFile(path, x, y, width, height)


def encode_type_of(codec: Codec | None) -> EncodeType:
    """The contract's encode type for a codec; NULL, the source's, for none."""
    return EncodeType[codec.name] if codec else EncodeType.NULL


def settings_of(path: Path | None, options: PictureOptions) -> bytes | ModeSetting | None:
    """The settings that the options ask for: a file's, or the typed form; None for the defaults.

    Raises:
        typer.BadParameter: They do not go together, or a value or the file cannot be read.
    """
    typed = options.setting()
    if path is None:
        return typed
    if typed is not None:
        raise typer.BadParameter(
            "not together with options of the picture, which it tells", param_hint="--settings-file"
        )
    return _read_settings(path)


def _read_settings(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--settings-file") from None
