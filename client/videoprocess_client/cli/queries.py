"""The commands that look: `status`, `pending`, `fetch`, `capabilities`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from videoprocess.v1 import hdi_enums_pb2, job_pb2, video_pb2
from videoprocess.v1.video_process_service_pb2 import GetCapabilitiesResponse
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.options import DEFAULT_USER_ID, AsJson, Target, User
from videoprocess_client.cli.output import Output
from videoprocess_client.cli.plain import plain
from videoprocess_client.cli.progress import display
from videoprocess_client.cli.running import Connection, execute
from videoprocess_client.cli.texts import labelled, megabytes, report_lines, words
from videoprocess_client.client import Client
from videoprocess_client.enhancement import EnhanceProgress
from videoprocess_client.enums import CamRetCode
from videoprocess_client.errors import NotFound
from videoprocess_client.jobs import find_video
from videoprocess_client.names import short_name

# Wide enough for `queued (store unreachable)`.
_STATE_WIDTH = 26

VideoId: TypeAlias = Annotated[str, typer.Argument(metavar="VIDEO_ID", help="Id of the video.")]
AnyVideoId: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="VIDEO_ID", help="Id of a video. None: list all.")
]
OutputPath: TypeAlias = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Where the enhanced video goes.")
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")]


def status(
    video_id: AnyVideoId = None,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Show a video, or list all: state, progress, results."""

    async def work(client: Client, output: Output) -> None:
        if video_id is not None:
            video = await client.get_video(video_id)
            output.result({"video": plain(video)}, _video_lines(video))
        else:
            videos = [video async for video in client.list_videos()]
            lines = (f"{_state(video):<{_STATE_WIDTH}} {video.video_id}" for video in videos)
            output.result({"videos": [plain(video) for video in videos]}, lines if videos else ["no videos"])

    execute(Connection(target, user, as_json), work)


def pending(target: Target = DEFAULT_TARGET, user: User = DEFAULT_USER_ID, as_json: AsJson = False) -> None:
    """List the ids of the videos without a result, oldest first."""

    async def work(client: Client, output: Output) -> None:
        async with client.session() as session:
            video_ids = [video_id async for video_id in session.get_pending()]
        output.result({"video_ids": video_ids}, video_ids or ["no videos without a result"])

    execute(Connection(target, user, as_json), work)


def fetch(
    video_id: VideoId,
    output: OutputPath,
    overwrite: Overwrite = False,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Fetch the enhanced video of an earlier job."""

    async def work(client: Client, out: Output) -> None:
        artifact = find_video((await client.get_video(video_id)).artifacts)
        if artifact is None:
            raise NotFound(
                "ARTIFACT_NOT_FOUND",
                f"The video {video_id} has no result to fetch.",
                cam_ret_code=CamRetCode.INVALID_ARGUMENT,
            )
        with display(out.stderr) as shown:
            fetched = await client.download(
                artifact.artifact_id,
                output,
                overwrite=overwrite,
                on_progress=lambda done, total: shown.update(
                    EnhanceProgress("download", video_id, done, total)
                ),
            )
        values = {"video_id": video_id, "output": str(output), "artifact": plain(fetched)}
        out.result(values, [f"{output}: {megabytes(fetched.size_bytes)}"])

    execute(Connection(target, user, as_json), work)


def capabilities(
    target: Target = DEFAULT_TARGET, user: User = DEFAULT_USER_ID, as_json: AsJson = False
) -> None:
    """Show what the server can do."""

    async def work(client: Client, output: Output) -> None:
        answer = await client.capabilities()
        output.result(plain(answer), _capability_lines(answer))

    execute(Connection(target, user, as_json), work)


def _state(video: video_pb2.Video) -> str:
    state = words(short_name(video_pb2.VideoState.DESCRIPTOR, video.state))
    if video.blocked_by:
        return f"{state} ({words(short_name(job_pb2.BlockReason.DESCRIPTOR, video.blocked_by))})"
    if video.state in (video_pb2.VIDEO_STATE_RUNNING, video_pb2.VIDEO_STATE_PAUSED):
        return f"{state} {video.progress.percent:.1f} %"
    return state


def _video_lines(video: video_pb2.Video) -> Iterator[str]:
    yield video.video_id
    yield labelled("state", _state(video))
    for source in video.sources:
        media = source.media
        what = f", {media.video_codec} {media.width}x{media.height}" if source.HasField("media") else ""
        yield labelled("source", f"{source.file_name or 'file'}, {megabytes(source.size_bytes)}{what}")
    if video.HasField("progress") and video.state != video_pb2.VIDEO_STATE_COMPLETED:
        progress = video.progress
        yield labelled(
            "progress", f"{progress.percent:.1f} %, {progress.frames_done}/{progress.frames_total} frames"
        )
    if video.HasField("last_error"):
        yield labelled("error", f"{video.last_error.message} ({video.last_error.reason})")
    for artifact in video.artifacts:
        yield labelled(
            "result", f"{artifact.file_name}, {megabytes(artifact.size_bytes)}, {artifact.artifact_id}"
        )
    if video.HasField("report"):
        report = video.report
        yield from report_lines(report, report.source_size_bytes, report.output_size_bytes)
    if video.HasField("expire_time"):
        yield labelled("expires", video.expire_time.ToJsonString())


def _capability_lines(answer: GetCapabilitiesResponse) -> Iterator[str]:
    yield from (labelled("version", f"{version.name} {version.version}") for version in answer.versions)
    encoders = (f"{encoder.name} ({encoder.codec})" for encoder in answer.encoders)
    yield labelled("encoders", ", ".join(encoders) or "none")
    yield labelled("decoders", ", ".join(answer.decoders) or "none")
    yield labelled("filters", ", ".join(answer.filters) or "none")
    for mode in answer.operation_modes:
        name = words(short_name(hdi_enums_pb2.OperationMode.DESCRIPTOR, mode.mode))
        yield labelled("mode", f"{name}: {mode.description}")
    for setting in answer.settings:
        if setting.supported:
            yield labelled("setting", f"{setting.name}: {setting.accepted_values}")
    for root in answer.shared_roots:
        yield labelled("root", f"{root.name}, {'writable' if root.writable else 'read only'}")
