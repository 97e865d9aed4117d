"""`videoprocess process`: have a prepared video worked on, and follow the work."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import typer
from msgspec.structs import replace

from videoprocess.v1 import job_pb2
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.kept_session import KeptSession
from videoprocess_client.cli.options import (
    DEFAULT_USER_ID,
    MAX_TIMESTAMP_US,
    AsJson,
    SessionId,
    Target,
    User,
    VideoId,
    parse_seconds,
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
from videoprocess_client.cli.progress import Display, display
from videoprocess_client.cli.running import LONG_PATIENCE_SECONDS, Connection, Detached, execute
from videoprocess_client.cli.session_book import without_enhancing
from videoprocess_client.cli.stream_options import (
    CodecOption,
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
from videoprocess_client.cli.stream_settings import StreamSettings, pack
from videoprocess_client.cli.texts import labelled, published_lines, report_lines
from videoprocess_client.client import Client
from videoprocess_client.enhancement import EnhanceProgress
from videoprocess_client.enums import Priority
from videoprocess_client.errors import ConnectionFailed, JobAborted, JobFailed
from videoprocess_client.events import Event
from videoprocess_client.job_status import JobStatus
from videoprocess_client.jobs import Job, ProcessResult
from videoprocess_client.watermarks import WatermarkFile, with_watermark

TimestampUs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MAX_TIMESTAMP_US,
        metavar="US",
        help="Enhance from here on, in microseconds from the first frame. Work that goes on does not use it.",
    ),
]
From: TypeAlias = Annotated[
    str | None, typer.Option("--from", metavar="SECONDS", help="The same in seconds, e.g. 12.5.")
]
High: TypeAlias = Annotated[bool, typer.Option("--high", help="Before all other work of the user.")]
Wait: TypeAlias = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow the work to its end, or return when it is accepted.")
]
Defaults: TypeAlias = Annotated[
    bool, typer.Option("--defaults", help="Use no settings, whatever this session was asked for before.")
]

# What a stopped job left, by the reason of its OnError(ABORT).
_AFTER_STOP: Mapping[str, str] = {
    "INTERRUPTED": "What is done is kept: videoprocess process {video_id} goes on.",
    "RESET": "What was done is dropped: videoprocess process {video_id} begins anew.",
    "REMOVED": "The video was removed. If it is in the trash: videoprocess restore {video_id}",
}


def process(
    video_id: VideoId,
    timestamp_us: TimestampUs = None,
    start: From = None,
    high: High = False,
    wait: Wait = True,
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
    stream: StreamOption = None,
    watermark: WatermarkOption = None,
    watermark_at: WatermarkAt = None,
    watermark_size: WatermarkSize = None,
    publish: PublishOption = None,
    publish_as: PublishAs = None,
    publish_over: PublishOver = False,
    settings_file: SettingsFile = None,
    defaults: Defaults = False,
    session: SessionId = None,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Enhance a prepared video, or go on with it.

    Settings stay with the session: the next process without any uses the same. Ctrl-C stops the waiting, not the work.
    """
    if timestamp_us is not None and start is not None:
        raise typer.BadParameter("not together with --timestamp-us", param_hint="--from")
    width, height = parse_size(size) if size else (0, 0)
    streams = streams_of(stream, codec, size)
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
    mark = watermark_of(watermark, watermark_at, watermark_size, settings)
    publication = publication_of(publish, publish_as, over=publish_over)
    asked = pack(settings, encode_type_of(codec), width, height, streams, publication)
    is_asked = mark is not None or asked != StreamSettings()
    if defaults and is_asked:
        raise typer.BadParameter("not together with other settings", param_hint="--defaults")
    connection = Connection(target, user, as_json, session)
    command = _Command(
        connection,
        video_id,
        parse_seconds(start) if start is not None else timestamp_us or 0,
        Priority.HIGH if high else Priority.UNSPECIFIED,
        asked if defaults or is_asked else None,
        mark,
        wait,
    )
    execute(connection, command.run, patience_seconds=LONG_PATIENCE_SECONDS)


@dataclass(frozen=True)
class _Command:
    """One run of the command."""

    connection: Connection
    video_id: str
    timestamp_us: int
    priority: Priority
    #: None: what the session has
    settings: StreamSettings | None
    watermark: WatermarkFile | None
    wait: bool

    async def run(self, client: Client, output: Output) -> None:
        """Do it, and tell what came of it."""
        kept = self.connection.kept_session(client, output)
        job = await self._accepted(client, kept, output)
        # What the user has processed is his own: a later `enhance` of the same id leaves it on the server.
        kept.book.change(lambda entry: without_enhancing(entry, self.video_id))
        if not self.wait:
            _raise_slip(job)
            output.result(_accepted_values(job), self._accepted_lines(job))
            return
        with display(output.stderr) as shown:
            result = await self._followed(job, shown, output)
        output.result(_values(result), self._lines(result))

    async def _accepted(self, client: Client, kept: KeptSession, output: Output) -> Job:
        settings = self.settings
        if settings is None:
            earlier = kept.settings()
            if earlier is not None and earlier.describe():
                output.note(f"As asked for before: {earlier.describe()} (--defaults uses none).")
        elif self.watermark is not None:
            typed = await with_watermark(client, settings.settings(), self.watermark)
            settings = replace(settings, mode_setting=typed.SerializeToString(deterministic=True))
        return await kept.process(self.video_id, self.timestamp_us, self.priority, settings)

    async def _followed(self, job: Job, shown: Display, output: Output) -> ProcessResult:
        status = JobStatus(job)

        def show() -> None:
            shown.update(
                EnhanceProgress("process", self.video_id, job=status.progress, blocked_by=status.blocked_by)
            )

        def listen(event: Event) -> None:
            status.hear(event)
            show()

        show()
        quoted = shlex.quote(self.video_id)
        try:
            return await job.wait(listen)
        except asyncio.CancelledError:
            raise Detached(
                f"No longer waiting; the work on {self.video_id} goes on on the server. To follow it: "
                f"videoprocess process {quoted}. To pause it: videoprocess interrupt {quoted}"
            ) from None
        except JobAborted as error:
            output.note(_AFTER_STOP.get(error.reason, "").format(video_id=quoted))
            raise
        except ConnectionFailed:
            output.note(
                f"The work goes on when the server is back: videoprocess process {quoted} follows it."
            )
            raise

    def _accepted_lines(self, job: Job) -> Iterator[str]:
        quoted = shlex.quote(self.video_id)
        yield job.job_id
        yield labelled("follow", f"videoprocess watch --after {job.event_sequence}")
        yield labelled("pause", f"videoprocess interrupt {quoted}")
        yield labelled("result", f"videoprocess fetch {quoted} -o OUT")

    def _lines(self, result: ProcessResult) -> Iterator[str]:
        report = result.report
        yield self.video_id
        yield from report_lines(report, report.source_size_bytes, report.output_size_bytes)
        if report.artifacts:
            yield from (labelled("made", file.file_name) for file in report.artifacts)
            yield from published_lines(report)
            yield labelled("result", f"videoprocess fetch {shlex.quote(self.video_id)} -o OUT")


def _raise_slip(job: Job) -> None:
    """A caller's slip is in the answer already: nobody has to wait to learn of it."""
    accepted = job.accepted
    if accepted.state == job_pb2.JOB_STATE_FAILED:
        error = accepted.error
        raise JobFailed(
            error.error_code, error.reason, error.message, video_id=job.video_id, job_id=job.job_id
        )


def _accepted_values(job: Job) -> dict[str, Any]:
    return {
        "video_id": job.video_id,
        "job_id": job.job_id,
        "event_sequence": job.event_sequence,
        "job": plain(job.accepted),
    }


def _values(result: ProcessResult) -> dict[str, Any]:
    artifact = result.video_artifact
    return {
        "video_id": result.video_id,
        "job_id": result.job_id,
        "artifact": plain(artifact) if artifact is not None else None,
        "artifacts": [plain(file) for file in result.report.artifacts],
        "report": plain(result.report),
        "meta_data": dict(result.meta_data),
    }
