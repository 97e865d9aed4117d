"""`videoprocess enhance`: the main job in one command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from videoprocess.v1 import types_pb2
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.options import (
    DEFAULT_USER_ID,
    AsJson,
    Direct,
    PassFd,
    Shared,
    Target,
    User,
    parse_seconds,
    parse_shared,
    parse_size,
)
from videoprocess_client.cli.output import Output
from videoprocess_client.cli.picture_options import (
    Bitrate,
    Crf,
    Crop,
    Deband,
    Denoise,
    Fps,
    MaxFps,
    Mirror,
    ModeOption,
    OrientationOption,
    PictureOptions,
    Sharpen,
    StabiliseOption,
    ToSdr,
    Zoom,
)
from videoprocess_client.cli.plain import plain
from videoprocess_client.cli.progress import display
from videoprocess_client.cli.running import LONG_PATIENCE_SECONDS, Connection, execute
from videoprocess_client.cli.session_book import SessionBook, with_enhancing, without_enhancing
from videoprocess_client.cli.stream_options import (
    CodecOption,
    From,
    PublishAs,
    PublishOption,
    PublishOver,
    SettingsFile,
    Size,
    StreamOption,
    WatermarkAt,
    WatermarkOption,
    WatermarkSize,
    encode_type_of,
    publication_of,
    settings_of,
    streams_of,
    watermark_of,
)
from videoprocess_client.cli.stream_settings import pack
from videoprocess_client.cli.texts import labelled, published_lines, report_lines
from videoprocess_client.client import Client
from videoprocess_client.enhancement import EnhanceOptions, EnhanceProgress, EnhanceResult
from videoprocess_client.errors import ConnectionFailed, JobAborted
from videoprocess_client.passed_files import OpenFile
from videoprocess_client.sources import opened

Source: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="IN", help="Video to upload. Not together with --shared.")
]
OutputPath: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Where the enhanced video goes; what else is made goes beside it. A directory: all goes into it.",
    ),
]
VideoId: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="Id of the video on the server. Default: the file's name and random digits."
    ),
]
Keep: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep", help="Leave the video on the server. One that enhance did not bring stays anyway."
    ),
]
ReportPath: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Write the job's whole report there, as JSON.")
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")]


def enhance(
    output: OutputPath,
    source: Source = None,
    shared: Shared = None,
    pass_fd: PassFd = False,
    direct: Direct = False,
    video_id: VideoId = None,
    mode: ModeOption = None,
    stabilise: StabiliseOption = None,
    denoise: Denoise = None,
    sharpen: Sharpen = None,
    deband: Deband = None,
    zoom: Zoom = None,
    crop: Crop = None,
    mirror: Mirror = False,
    orientation: OrientationOption = None,
    fps: Fps = None,
    max_fps: MaxFps = None,
    to_sdr: ToSdr = False,
    crf: Crf = None,
    bitrate: Bitrate = None,
    codec: CodecOption = None,
    size: Size = None,
    start: From = "0",
    stream: StreamOption = None,
    watermark: WatermarkOption = None,
    watermark_at: WatermarkAt = None,
    watermark_size: WatermarkSize = None,
    publish: PublishOption = None,
    publish_as: PublishAs = None,
    publish_over: PublishOver = False,
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
    if pass_fd and source is None:
        raise typer.BadParameter("needs IN", param_hint="--pass-fd")
    _check_outputs(source, output, report)
    settings = settings_of(
        settings_file,
        PictureOptions(
            mode=mode,
            stabilise=stabilise,
            denoise=denoise,
            sharpen=sharpen,
            deband=deband,
            zoom=zoom,
            crop=crop,
            mirror=mirror,
            orientation=orientation,
            fps=fps,
            max_fps=max_fps,
            to_sdr=to_sdr,
            crf=crf,
            bitrate=bitrate,
        ),
    )
    publication = publication_of(publish, publish_as, over=publish_over)
    streams = streams_of(stream, codec, size)
    asked = pack(settings, encode_type_of(codec), width, height, streams, publication)
    options = EnhanceOptions(
        video_id=video_id,
        settings=settings,
        watermark=watermark_of(watermark, watermark_at, watermark_size, settings),
        streams=tuple(asked.messages()),
        timestamp_us=parse_seconds(start),
        keep=keep,
        overwrite=overwrite,
    )
    connection = Connection(target, user, as_json, direct=direct)
    command = _Command(connection, given, output, options, report, pass_fd)
    execute(connection, command.run, patience_seconds=LONG_PATIENCE_SECONDS)


@dataclass(frozen=True)
class _Command:
    """One run of the command."""

    connection: Connection
    source: Path | types_pb2.FileDescriptor
    output: Path
    options: EnhanceOptions
    report_path: Path | None
    passes_file: bool

    @contextmanager
    def _given(self) -> Iterator[Path | types_pb2.FileDescriptor | OpenFile]:
        if not self.passes_file or not isinstance(self.source, Path):
            yield self.source
            return
        with self.source.open("rb") as file:
            yield opened(file)

    async def run(self, client: Client, output: Output) -> None:
        """Do it, and tell what came of it."""
        work = _Remembered(self.connection.book(output))
        options = replace(self.options, own=work.is_own(self.options.video_id))
        with display(output.stderr) as shown:

            def listen(progress: EnhanceProgress) -> None:
                work.hear(progress)
                shown.update(progress)

            try:
                with self._given() as source:
                    result = await client.enhance(source, self.output, options, on_progress=listen)
            except (asyncio.CancelledError, JobAborted, ConnectionFailed) as error:
                if not isinstance(error, JobAborted) or error.reason == "INTERRUPTED":
                    work.tell_how_to_go_on(output)
                raise
        work.forget()
        if self.report_path is not None:
            text = json.dumps(plain(result.report), indent=2) + "\n"
            await asyncio.to_thread(self.report_path.write_text, text, "utf-8")
        output.result(_values(result), _lines(result))


class _Remembered:
    """What another terminal, and the next run, should know of this one."""

    def __init__(self, book: SessionBook) -> None:
        self._book = book
        self._last: EnhanceProgress | None = None

    def is_own(self, video_id: str | None) -> bool:
        """Whether an interrupted run of this command brought the video."""
        return video_id is not None and self._book.read().enhancing.get(video_id, False)

    def hear(self, progress: EnhanceProgress) -> None:
        """Take in how far it is; from the first word on `interrupt` knows of the video."""
        if self._last is None:
            video_id = progress.video_id
            brought = not progress.was_there or self.is_own(video_id)
            self._book.change(lambda entry: with_enhancing(entry, video_id, brought=brought))
        self._last = progress

    def forget(self) -> None:
        """There is nothing left to go on with."""
        if self._last is not None:
            video_id = self._last.video_id
            self._book.change(lambda entry: without_enhancing(entry, video_id))

    def tell_how_to_go_on(self, output: Output) -> None:
        """Name the video whose work is kept, if there is any."""
        if self._last is not None and self._last.stage in ("process", "download"):
            output.note(
                f"What is done is kept: the same command with --video-id {self._last.video_id} goes on. "
                "If the server was away, it goes on by itself when it is back: see videoprocess status."
            )


def _values(result: EnhanceResult) -> dict[str, Any]:
    return {
        "video_id": result.video_id,
        "job_id": result.job_id,
        "output": str(result.output),
        "artifact": plain(result.artifact),
        "files": [{"path": str(file.path), "artifact": plain(file.artifact)} for file in result.files],
        "kept_on_server": result.kept,
        "report": plain(result.report),
    }


def _lines(result: EnhanceResult) -> Iterator[str]:
    yield from (str(file.path) for file in result.files)
    yield from report_lines(result.report, result.report.source_size_bytes, result.artifact.size_bytes)
    yield from published_lines(result.report)
    if result.kept:
        yield labelled("on server", f"kept as {result.video_id}, until videoprocess remove {result.video_id}")


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
