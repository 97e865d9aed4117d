"""The commands that stop and clear away: `interrupt`, `remove`, `restore`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Annotated, TypeAlias

import typer

from videoprocess.v1 import video_pb2
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.options import DEFAULT_USER_ID, AsJson, SessionId, Target, User, VideoId
from videoprocess_client.cli.output import Output
from videoprocess_client.cli.plain import plain
from videoprocess_client.cli.running import Connection, execute
from videoprocess_client.cli.session_book import without_enhancing
from videoprocess_client.cli.video_texts import video_lines
from videoprocess_client.client import Client
from videoprocess_client.errors import NotFound

ACTIVE = (video_pb2.VIDEO_STATE_QUEUED, video_pb2.VIDEO_STATE_RUNNING)

VideoIds: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEO_ID", help="Videos of the user, whoever started the work. None: see above."),
]
Restorable: TypeAlias = Annotated[
    bool, typer.Option("--restorable", help="Into the trash, from where restore brings it back.")
]


def interrupt(
    video_ids: VideoIds = None,
    session: SessionId = None,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Pause work; process goes on with it.

    What is done is kept. Without an id: all that this command has started for this server and user, in whatever terminal, by process or enhance.
    """
    connection = Connection(target, user, as_json, session)
    named = list(video_ids or ())

    async def work(client: Client, output: Output) -> None:
        kept = connection.kept_session(client, output)
        job_ids = await kept.call(lambda session: session.interrupt(named))
        enhancing = list(kept.book.read().enhancing)
        if not named and session is None and enhancing:
            job_ids += await kept.call(lambda session: session.interrupt(enhancing))
        others = [] if job_ids else [video.video_id async for video in client.list_videos(states=ACTIVE)]
        output.result({"job_ids": job_ids, "still_active": others}, _stopped_lines(job_ids, named, others))

    execute(connection, work)


def remove(
    video_id: VideoId,
    restorable: Restorable = False,
    session: SessionId = None,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Stop the work on a video and remove it. A video that is not there is no error."""
    connection = Connection(target, user, as_json, session)

    async def work(client: Client, output: Output) -> None:
        video = await _found(client, video_id)
        kept = connection.kept_session(client, output)
        removed = await kept.call(lambda session: session.remove(video_id, restorable=restorable))
        kept.book.change(lambda entry: without_enhancing(entry, video_id))
        until = removed.expire_time.ToJsonString() if removed.HasField("expire_time") else ""
        values = {
            "video_id": video_id,
            "was_there": video is not None,
            "restorable": restorable,
            **({"expire_time": until} if until else {}),
        }
        output.result(values, _removed_lines(video_id, video, restorable, until))

    execute(connection, work)


def restore(
    video_id: VideoId,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsJson = False,
) -> None:
    """Bring a video back from the trash. One that is not in it stays as it is."""

    async def work(client: Client, output: Output) -> None:
        video = await client.restore_video(video_id)
        output.result({"video": plain(video)}, video_lines(video))

    execute(Connection(target, user, as_json), work)


async def _found(client: Client, video_id: str) -> video_pb2.Video | None:
    try:
        return await client.get_video(video_id)
    except NotFound:
        return None


def _stopped_lines(job_ids: Sequence[str], named: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    if job_ids:
        count = f"{len(job_ids)} job{'s' if len(job_ids) > 1 else ''}"
        yield f"{count} told to stop; what is done is kept: videoprocess process VIDEO_ID goes on"
        return
    yield f"nothing to interrupt{' on these videos' if named else ''}"
    active = [video_id for video_id in others if video_id not in named]
    if active:
        yield f"queued or running elsewhere, name them to pause them: {' '.join(map(shlex.quote, active))}"


def _removed_lines(
    video_id: str, video: video_pb2.Video | None, restorable: bool, until: str
) -> Iterator[str]:
    if video is None:
        yield f"there was no video {video_id}"
    elif restorable:
        yield f"{video_id} is in the trash{f' until {until}' if until else ''}: videoprocess restore {shlex.quote(video_id)}"
    else:
        yield f"{video_id} is removed"
