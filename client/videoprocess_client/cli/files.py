"""The commands that bring a file to the server: `upload`, `prepare`."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from videoprocess.v1 import hdi_enums_pb2, types_pb2
from videoprocess.v1.video_process_session_pb2 import PrepareResponse
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.kept_upload import KeptUpload
from videoprocess_client.cli.options import (
    DEFAULT_USER_ID,
    AsJson,
    Direct,
    PassFd,
    SessionId,
    Shared,
    Target,
    User,
    VideoId,
    parse_shared,
)
from videoprocess_client.cli.output import Output
from videoprocess_client.cli.plain import plain
from videoprocess_client.cli.progress import Display, display
from videoprocess_client.cli.running import LONG_PATIENCE_SECONDS, Connection, execute
from videoprocess_client.cli.session_book import SessionBook, without_enhancing
from videoprocess_client.cli.texts import labelled, megabytes, words
from videoprocess_client.cli.video_texts import video_lines
from videoprocess_client.client import Client
from videoprocess_client.enhancement import EnhanceProgress
from videoprocess_client.errors import ConnectionFailed, DataLoss
from videoprocess_client.names import short_name
from videoprocess_client.passed_files import Source
from videoprocess_client.sources import opened, uploaded
from videoprocess_client.uploads import UploadResult

FilePath: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="Video to upload.")]
AnyFilePath: TypeAlias = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="Video to upload. None, nor --upload or --shared: what the id has."),
]
NewVideoId: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Register the uploaded file as a video of this id; prepare comes next."),
]
OldUploadId: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ID", help="Go on with an upload of the same file that was cut short.")
]
FinishedUpload: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ID", help="Instead of FILE: a finished upload.")
]


def upload(
    file: FilePath,
    video_id: NewVideoId = None,
    upload_id: OldUploadId = None,
    direct: Direct = False,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Upload a file.

    Goes on by itself when the server is restarted, with what is missing; so does the same command after this one was killed.
    """
    _check_file(file)

    connection = Connection(target, user, as_json, direct=direct)

    async def work(client: Client, output: Output) -> None:
        with display(output.stderr) as shown:
            if upload_id is not None:
                done = await _upload(client, output, shown, file, upload_id, video_id)
            else:
                done = await _upload_kept(client, output, shown, connection.book(output), file, video_id)
        values = {
            "upload_id": done.upload_id,
            "size_bytes": done.size_bytes,
            "sha256": done.sha256,
            "sent_bytes": done.sent_bytes,
            "video_id": video_id or "",
        }
        output.result(values, _upload_lines(done, video_id))

    execute(connection, work, patience_seconds=LONG_PATIENCE_SECONDS)


def prepare(
    video_id: VideoId,
    file: AnyFilePath = None,
    upload: FinishedUpload = None,
    shared: Shared = None,
    pass_fd: PassFd = False,
    direct: Direct = False,
    session: SessionId = None,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Register a file as a video."""
    if sum(given is not None for given in (file, upload, shared)) > 1:
        raise typer.BadParameter("give one of FILE, --upload and --shared", param_hint="FILE")
    if file is not None:
        _check_file(file)
    if pass_fd and file is None:
        raise typer.BadParameter("needs FILE", param_hint="--pass-fd")
    known = _known_source(upload, shared)
    connection = Connection(target, user, as_json, session, direct)

    async def work(client: Client, output: Output) -> None:
        source: Source | None = known
        kept = connection.kept_session(client, output)
        with display(output.stderr) as shown, ExitStack() as stack:
            if file is not None and pass_fd:
                source = opened(stack.enter_context(file.open("rb")))
            elif file is not None:
                done = await _upload_kept(client, output, shown, kept.book, file, None)
                source = uploaded(done.upload_id)
            shown.update(EnhanceProgress("prepare", video_id))
            prepared = await kept.call(lambda session: session.prepare(video_id, source))
        # What the user prepares is his own: a later `enhance` of the same id leaves it on the server.
        kept.book.change(lambda entry: without_enhancing(entry, video_id))
        output.result(plain(prepared), _prepared_lines(prepared))

    execute(connection, work, patience_seconds=LONG_PATIENCE_SECONDS)


async def _upload_kept(
    client: Client, output: Output, shown: Display, book: SessionBook, file: Path, video_id: str | None
) -> UploadResult:
    """Upload, or go on with an upload of the same file that was killed."""
    kept = KeptUpload(book, file, video_id or "")
    try:
        done = await _upload(client, output, shown, file, kept.upload_id, video_id)
    except DataLoss:  # the bytes that are there are not this file's: next time they are sent anew
        kept.forget()
        raise
    kept.forget()
    return done


async def _upload(
    client: Client, output: Output, shown: Display, file: Path, used_id: str, video_id: str | None
) -> UploadResult:
    """Upload, and say how to go on if that ends too early."""
    started = False

    def listen(done_bytes: int, total_bytes: int) -> None:
        nonlocal started
        started = True
        shown.update(EnhanceProgress("upload", video_id or "", done_bytes, total_bytes))

    try:
        return await client.upload(file, video_id=video_id, upload_id=used_id, on_progress=listen)
    except (asyncio.CancelledError, ConnectionFailed) as error:
        if started or isinstance(error, asyncio.CancelledError):
            more = f" --video-id {shlex.quote(video_id)}" if video_id else ""
            output.note(
                "What was sent is kept for a day: "
                f"videoprocess upload {shlex.quote(str(file))} --upload-id {used_id}{more} sends the rest."
            )
        raise


def _upload_lines(done: UploadResult, video_id: str | None) -> Iterator[str]:
    yield done.upload_id
    yield labelled("size", megabytes(done.size_bytes))
    yield labelled("sha256", done.sha256)
    if video_id:
        yield labelled("next", f"videoprocess prepare {shlex.quote(video_id)}")
    else:
        yield labelled("next", f"videoprocess prepare VIDEO_ID --upload {done.upload_id}")


def _prepared_lines(prepared: PrepareResponse) -> Iterator[str]:
    yield from video_lines(prepared.video)
    for description in prepared.stream_descs:
        kind = words(short_name(hdi_enums_pb2.MediaStreamType.DESCRIPTOR, description.type))
        yield labelled("stream", f"{description.stream_id}, {kind}")


def _known_source(upload_id: str | None, shared: str | None) -> types_pb2.FileDescriptor | None:
    if upload_id is not None:
        return uploaded(upload_id)
    return parse_shared(shared) if shared is not None else None


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {str(path)!r}", param_hint="FILE")
