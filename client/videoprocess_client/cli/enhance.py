"""`videoprocess enhance`: the main job in one command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from videoprocess.v1 import types_pb2
from videoprocess.v1.mode_setting_pb2 import FrameRateRange, ModeSetting
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.options import (
    DEFAULT_USER_ID,
    AsJson,
    Target,
    User,
    parse_rates,
    parse_seconds,
    parse_shared,
    parse_size,
)
from videoprocess_client.cli.output import Output
from videoprocess_client.cli.plain import plain
from videoprocess_client.cli.progress import display
from videoprocess_client.cli.running import Connection, execute
from videoprocess_client.cli.texts import labelled, report_lines
from videoprocess_client.client import Client
from videoprocess_client.enhancement import EnhanceOptions, EnhanceProgress, EnhanceResult
from videoprocess_client.enums import EncodeType
from videoprocess_client.errors import ConnectionFailed, JobAborted

# A restart of the server, an upgrade too, should be over by then.
PATIENCE_SECONDS = 600.0


class Codec(StrEnum):
    """Codecs that can be asked for."""

    H264 = "h264"
    H265 = "h265"


Source: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="IN", help="Video to upload. Not together with --shared.")
]
OutputPath: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="OUT", help="Where the enhanced video goes; its container is the source's."
    ),
]
Shared: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="ROOT:PATH", help="Instead of IN: a file under a shared root of the server."),
]
VideoId: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="Id of the video on the server. Default: the file's name and random digits."
    ),
]
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
Keep: TypeAlias = Annotated[
    bool,
    typer.Option("--keep", help="Leave the video on the server. One that was there before always stays."),
]
ReportPath: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Write the job's whole report there, as JSON.")
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")]


def enhance(
    output: OutputPath,
    source: Source = None,
    shared: Shared = None,
    video_id: VideoId = None,
    zoom: Zoom = None,
    fps: Fps = None,
    max_fps: MaxFps = None,
    codec: CodecOption = None,
    size: Size = None,
    start: From = "0",
    settings_file: SettingsFile = None,
    keep: Keep = False,
    report: ReportPath = None,
    overwrite: Overwrite = False,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Make an enhanced copy of a video.

    Goes on by itself when the server is restarted. Ctrl-C pauses the work on the server.
    """
    width, height = parse_size(size) if size else (0, 0)
    given = _source(source, shared)
    _check_outputs(source, output, report)
    options = EnhanceOptions(
        video_id=video_id,
        settings=_settings(settings_file, zoom, _rates(fps, max_fps)),
        encode_type=EncodeType[codec.name] if codec else EncodeType.NULL,
        width=width,
        height=height,
        timestamp_us=parse_seconds(start),
        keep=keep,
        overwrite=overwrite,
    )
    command = _Command(given, output, options, report)
    execute(Connection(target, user, as_json), command.run, patience_seconds=PATIENCE_SECONDS)


@dataclass(frozen=True)
class _Command:
    """One run of the command."""

    source: Path | types_pb2.FileDescriptor
    output: Path
    options: EnhanceOptions
    report_path: Path | None

    async def run(self, client: Client, output: Output) -> None:
        """Do it, and tell what came of it."""
        last: EnhanceProgress | None = None
        with display(output.stderr) as shown:

            def listen(progress: EnhanceProgress) -> None:
                nonlocal last
                last = progress
                shown.update(progress)

            try:
                result = await client.enhance(self.source, self.output, self.options, on_progress=listen)
            except (asyncio.CancelledError, JobAborted, ConnectionFailed):
                if last is not None and last.stage in ("process", "download"):
                    output.note(
                        f"What is done is kept: the same command with --video-id {last.video_id} goes on. "
                        "If the server was away, it goes on by itself when it is back: see videoprocess status."
                    )
                raise
        if self.report_path is not None:
            text = json.dumps(plain(result.report), indent=2) + "\n"
            await asyncio.to_thread(self.report_path.write_text, text, "utf-8")
        output.result(_values(result), _lines(result))


def _values(result: EnhanceResult) -> dict[str, Any]:
    return {
        "video_id": result.video_id,
        "job_id": result.job_id,
        "output": str(result.output),
        "artifact": plain(result.artifact),
        "kept_on_server": result.kept,
        "report": plain(result.report),
    }


def _lines(result: EnhanceResult) -> Iterator[str]:
    yield str(result.output)
    yield from report_lines(result.report, result.report.source_size_bytes, result.artifact.size_bytes)
    if result.kept:
        yield labelled("on server", f"kept as {result.video_id}")


def _source(path: Path | None, shared: str | None) -> Path | types_pb2.FileDescriptor:
    if (path is None) == (shared is None):
        raise typer.BadParameter("give either IN or --shared ROOT:PATH", param_hint="IN")
    if path is None:
        return parse_shared(shared or "")
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {str(path)!r}", param_hint="IN")
    return path


def _check_outputs(source: Path | None, output: Path, report: Path | None) -> None:
    """Find out now what would spoil a long job at its end."""
    if source is not None and output.exists() and output.samefile(source):
        raise typer.BadParameter("is the same file as IN", param_hint="-o")
    if report is not None and not report.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no directory {str(report.parent)!r}", param_hint="--report")


def _settings(
    path: Path | None, zoom: float | None, rates: FrameRateRange | None
) -> bytes | ModeSetting | None:
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
