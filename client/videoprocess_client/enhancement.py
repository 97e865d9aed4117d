"""The main job in one call: upload, prepare, process, fetch, verify, clean up."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from videoprocess.v1 import types_pb2
from videoprocess.v1.job_pb2 import JobProgress
from videoprocess.v1.mode_setting_pb2 import ModeSetting
from videoprocess.v1.report_pb2 import Artifact
from videoprocess_client.enums import EncodeType, ErrorCode, ExecutionMode, Priority
from videoprocess_client.errors import JobFailed, NotFound, ServiceError, SessionClosed, VideoProcessError
from videoprocess_client.events import Event
from videoprocess_client.job_status import JobStatus
from videoprocess_client.jobs import Job, ProcessResult
from videoprocess_client.passed_files import OpenFile, Source
from videoprocess_client.results import FetchedFile, fetch_all, place
from videoprocess_client.session import Session
from videoprocess_client.sources import stream, uploaded
from videoprocess_client.watermarks import WatermarkFile, with_watermark

if TYPE_CHECKING:
    from videoprocess_client.client import Client

# How long a cancelled enhancement may still take to pause its work on the server.
PAUSE_SECONDS = 3.0
# How many sessions are tried when the service closes one after the other.
SESSIONS = 5
STREAM_ID = 0


@dataclass(frozen=True)
class EnhanceOptions:
    """What is asked of `Client.enhance`."""

    #: id of the video on the server; None: drawn from the file's name and 64 random bits
    video_id: str | None = None
    #: serialised camera metadata, the typed form, or None for the defaults
    settings: bytes | ModeSetting | None = None
    #: a picture that is burnt into every frame; not together with serialised metadata
    watermark: WatermarkFile | None = None
    #: what is made, see `stream`; none: the enhanced video alone, as the next three fields say
    streams: tuple[types_pb2.StreamInfoV11, ...] = ()
    #: codec of the result; NULL: the source's
    encode_type: EncodeType = EncodeType.NULL
    #: width of the result in pixels; 0: the source's
    width: int = 0
    #: height of the result in pixels; 0: the source's
    height: int = 0
    #: media time in microseconds where enhancement starts
    timestamp_us: int = 0
    priority: Priority = Priority.UNSPECIFIED
    execution_mode: ExecutionMode = ExecutionMode.DEFAULT
    #: True: the video stays on the server. A video that was there before stays anyway, unless it is `own`.
    keep: bool = False
    #: True: a video that is there already is what an interrupted call left, and is removed like a new one
    own: bool = False
    #: True: a file at the output is replaced
    overwrite: bool = False


@dataclass(frozen=True)
class EnhanceProgress:
    """How far an enhancement is."""

    #: `upload`, `prepare`, `process` or `download`
    stage: str
    video_id: str
    #: bytes of the file that were sent or fetched; for `upload` and `download`
    bytes_done: int = 0
    bytes_total: int = 0
    #: how far the job is; for `process`
    job: JobProgress | None = None
    #: what holds the work back, e.g. `SPACE_LIMIT`; empty when nothing does
    blocked_by: str = ""
    #: whether the user had the video before
    was_there: bool = False


@dataclass(frozen=True)
class EnhanceResult(ProcessResult):
    """What `Client.enhance` made.

    Attributes:
        files: What was written, the enhanced video first.
        kept: Whether the video is still on the server.
    """

    files: tuple[FetchedFile, ...] = ()
    kept: bool = False

    @property
    def output(self) -> Path:
        """The first file: the enhanced video, where one was asked for."""
        return self.files[0].path

    @property
    def artifact(self) -> Artifact:
        """The first file as the service described it, with size in bytes and SHA-256."""
        return self.files[0].artifact


ProgressListener: TypeAlias = Callable[[EnhanceProgress], None]


class Enhancement:
    """One run of `Client.enhance`."""

    def __init__(
        self,
        client: Client,
        source: str | Path | types_pb2.FileDescriptor | OpenFile,
        output: Path,
        options: EnhanceOptions,
        on_progress: ProgressListener | None,
    ) -> None:
        self._client = client
        self._source = Path(source) if isinstance(source, str) else source
        self._output = output
        self._options = options
        self._on_progress = on_progress
        self._video_id = options.video_id or draw_video_id(source)
        self._session: Session | None = None
        self._was_there = False

    async def run(self) -> EnhanceResult:
        """Do all of it."""
        check_output(self._output, self._source, overwrite=self._options.overwrite)
        self._was_there = await self._is_there()
        try:
            result = await self._made(await self._descriptor())
            files = await self._fetch(result)
            stays = self._options.keep or (self._was_there and not self._options.own)
            kept = stays or not await self._removed()
        finally:
            await self._close()
        return EnhanceResult(
            result.video_id, result.job_id, result.report, result.meta_data, tuple(files), kept
        )

    async def _is_there(self) -> bool:
        """Whether the user had the video before: then it may not be ours to remove."""
        try:
            await self._client.get_video(self._video_id)
        except NotFound:
            return False
        return True

    async def _descriptor(self) -> Source:
        if not isinstance(self._source, Path):
            return self._source
        self._tell("upload")
        upload = await self._client.upload(
            self._source, on_progress=lambda done, total: self._tell("upload", done, total)
        )
        return uploaded(upload.upload_id)

    async def _made(self, descriptor: Source) -> ProcessResult:
        try:
            return await self._process(await self._accepted(descriptor))
        except (ServiceError, JobFailed) as error:
            # A video whose id only this call knows is of no more use when it cannot be processed as asked for.
            may_go_on = isinstance(error, JobFailed) and error.error_code != ErrorCode.PROCESS
            if not (may_go_on or self._options.keep or self._options.video_id):
                await self._removed()
            raise

    async def _accepted(self, descriptor: Source) -> Job:
        """The accepted job. A session that the service closes meanwhile is replaced by a new one."""
        self._tell("prepare")
        for _ in range(SESSIONS - 1):
            with suppress(SessionClosed):
                return await self._accepted_in_new_session(descriptor)
        return await self._accepted_in_new_session(descriptor)

    async def _accepted_in_new_session(self, descriptor: Source) -> Job:
        options = self._options
        session = self._session = await self._client.open_session(options.execution_mode)
        await session.prepare(self._video_id, descriptor)
        video = stream(STREAM_ID, encode_type=options.encode_type, width=options.width, height=options.height)
        await session.create_streams(options.streams or [video])
        settings = options.settings
        if options.watermark is not None:
            settings = await with_watermark(self._client, settings, options.watermark)
        await session.commit_streams(settings)
        return await session.process(self._video_id, options.timestamp_us, priority=options.priority)

    async def _process(self, job: Job) -> ProcessResult:
        status = JobStatus(job)
        self._tell("process", status=status)

        def listen(event: Event) -> None:
            status.hear(event)
            self._tell("process", status=status)

        try:
            return await job.wait(listen)
        except asyncio.CancelledError:
            with suppress(VideoProcessError, TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS), self._client.session() as session:
                    await session.interrupt([self._video_id])
            raise

    async def _fetch(self, result: ProcessResult) -> list[FetchedFile]:
        artifacts = result.report.artifacts
        if not artifacts:
            raise NotFound("ARTIFACT_NOT_FOUND", "The job made no file.")
        return await fetch_all(
            self._client,
            place(artifacts, self._output),
            overwrite=self._options.overwrite,
            on_progress=lambda done, total: self._tell("download", done, total),
        )

    async def _removed(self) -> bool:
        """Remove the video from the server; whether that worked. The result is safe either way."""
        try:
            session = self._session or await self._client.open_session()
            try:
                await session.remove(self._video_id)
            except SessionClosed:
                self._session = await self._client.open_session()
                await self._session.remove(self._video_id)
        except VideoProcessError:
            return False
        return True

    async def _close(self) -> None:
        if self._session is not None:
            await self._client.close_session_quietly(self._session.session_id)

    def _tell(
        self, stage: str, bytes_done: int = 0, bytes_total: int = 0, *, status: JobStatus | None = None
    ) -> None:
        if self._on_progress is None:
            return
        self._on_progress(
            EnhanceProgress(
                stage,
                self._video_id,
                bytes_done,
                bytes_total,
                job=status.progress if status else None,
                blocked_by=status.blocked_by if status else "",
                was_there=self._was_there,
            )
        )


def draw_video_id(source: str | Path | types_pb2.FileDescriptor | OpenFile) -> str:
    """An id that nobody has: the file's name and 64 random bits."""
    match source:
        case types_pb2.FileDescriptor():
            name = source.shared_path.path
        case OpenFile():
            name = source.file_name
        case _:
            name = str(source)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).stem)[:64].strip("-.") or "video"
    return f"{stem}-{secrets.token_hex(8)}"


def check_output(output: Path, source: Path | Source, *, overwrite: bool) -> None:
    """Find out before the work whether its result can be written.

    Raises:
        OSError: It cannot; the subclass and the text say why.
    """
    folder = output if output.is_dir() else output.parent
    if not folder.is_dir():
        raise _os_error(errno.ENOENT, folder)
    if not os.access(folder, os.W_OK):
        raise _os_error(errno.EACCES, folder)
    if folder is output:
        return  # the names in it are the service's to choose
    if _is_same_file(output, source) or (os.path.lexists(output) and not overwrite):
        raise _os_error(errno.EEXIST, output)


def _is_same_file(output: Path, source: Path | Source) -> bool:
    if isinstance(source, types_pb2.FileDescriptor) or not output.exists():
        return False
    if isinstance(source, OpenFile):
        return os.path.samestat(output.stat(), os.fstat(source.descriptor))
    return source.exists() and output.samefile(source)


def _os_error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
