"""The commands that look: `status`, `pending`, `fetch`, `capabilities`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from videoprocess.v1 import hdi_enums_pb2, video_pb2
from videoprocess.v1.video_process_service_pb2 import GetCapabilitiesResponse
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.options import DEFAULT_USER_ID, AsJson, Direct, SessionId, Target, User, VideoId
from videoprocess_client.cli.output import Output
from videoprocess_client.cli.plain import plain
from videoprocess_client.cli.progress import display
from videoprocess_client.cli.running import Connection, execute
from videoprocess_client.cli.texts import labelled, megabytes, words
from videoprocess_client.cli.video_texts import STATE_WIDTH, state_of, video_lines
from videoprocess_client.client import Client
from videoprocess_client.enhancement import EnhanceProgress
from videoprocess_client.enums import CamRetCode
from videoprocess_client.errors import NotFound
from videoprocess_client.names import short_name
from videoprocess_client.results import fetch_all, place
from videoprocess_client.session import Session

AnyVideoId: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="VIDEO_ID", help="Id of a video. None: list all.")
]
Trash: TypeAlias = Annotated[bool, typer.Option("--trash", help="List the videos that restore brings back.")]
OutputPath: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Where the enhanced video goes; what else was made goes beside it. A directory: all goes into it.",
    ),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")]


def status(
    video_id: AnyVideoId = None,
    trash: Trash = False,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Show a video, or list all."""
    if trash and video_id is not None:
        raise typer.BadParameter("not together with VIDEO_ID", param_hint="--trash")

    async def work(client: Client, output: Output) -> None:
        if video_id is not None:
            video = await client.get_video(video_id)
            output.result({"video": plain(video)}, video_lines(video))
        else:
            states = (video_pb2.VIDEO_STATE_DELETED,) if trash else ()
            videos = [video async for video in client.list_videos(states=states)]
            lines = (f"{state_of(video):<{STATE_WIDTH}} {video.video_id}" for video in videos)
            output.result({"videos": [plain(video) for video in videos]}, lines if videos else ["no videos"])

    execute(Connection(target, user, as_json), work)


def pending(
    session: SessionId = None,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """List the videos without a result."""
    connection = Connection(target, user, as_json, session)

    async def work(client: Client, output: Output) -> None:
        video_ids = await connection.kept_session(client, output).call(_pending)
        output.result({"video_ids": video_ids}, video_ids or ["no videos without a result"])

    execute(connection, work)


def fetch(
    video_id: VideoId,
    output: OutputPath,
    overwrite: Overwrite = False,
    direct: Direct = False,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Fetch the files that the newest job made."""

    async def work(client: Client, out: Output) -> None:
        artifacts = (await client.get_video(video_id)).artifacts
        if not artifacts:
            raise NotFound(
                "ARTIFACT_NOT_FOUND",
                f"The video {video_id} has no result to fetch.",
                cam_ret_code=CamRetCode.INVALID_ARGUMENT,
            )
        with display(out.stderr) as shown:
            files = await fetch_all(
                client,
                place(artifacts, output),
                overwrite=overwrite,
                on_progress=lambda done, total: shown.update(
                    EnhanceProgress("download", video_id, done, total)
                ),
            )
        values = {
            "video_id": video_id,
            "output": str(files[0].path),
            "artifact": plain(files[0].artifact),
            "files": [{"path": str(file.path), "artifact": plain(file.artifact)} for file in files],
        }
        out.result(values, [f"{file.path}: {megabytes(file.artifact.size_bytes)}" for file in files])

    execute(Connection(target, user, as_json, direct=direct), work)


async def _pending(session: Session) -> list[str]:
    return [video_id async for video_id in session.get_pending()]


def capabilities(
    target: Target = DEFAULT_TARGET, user: User = DEFAULT_USER_ID, as_json: AsJson = False
) -> None:
    """Show what the server can do."""

    async def work(client: Client, output: Output) -> None:
        answer = await client.capabilities()
        output.result(plain(answer), _capability_lines(answer))

    execute(Connection(target, user, as_json), work)


def _capability_lines(answer: GetCapabilitiesResponse) -> Iterator[str]:
    yield from (labelled("version", f"{version.name} {version.version}") for version in answer.versions)
    encoders = (f"{encoder.name} ({encoder.codec})" for encoder in answer.encoders)
    yield labelled("encoders", ", ".join(encoders) or "none")
    yield labelled("decoders", ", ".join(answer.decoders) or "none")
    yield labelled("filters", ", ".join(answer.filters) or "none")
    for mode in answer.operation_modes:
        name = words(short_name(hdi_enums_pb2.OperationMode.DESCRIPTOR, mode.mode))
        yield labelled("mode", f"{name}: {mode.description}")
    for intent in answer.intents:
        name = words(short_name(hdi_enums_pb2.StreamIntent.DESCRIPTOR, intent.intent))
        if intent.encode_types:
            yield labelled("stream", f"{name}: {intent.description}")
    for setting in answer.settings:
        if setting.supported:
            yield labelled("setting", f"{setting.name}: {setting.accepted_values}")
    for root in answer.shared_roots:
        yield labelled("root", f"{root.name}, {'writable' if root.writable else 'read only'}")
