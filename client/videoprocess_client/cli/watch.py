"""`videoprocess watch`: what happens, as it happens."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import aclosing
from typing import Annotated, Any, TypeAlias

import typer

from videoprocess.v1.job_pb2 import JobPhase
from videoprocess_client.channel import DEFAULT_TARGET
from videoprocess_client.cli.options import DEFAULT_USER_ID, Target, User
from videoprocess_client.cli.output import Output
from videoprocess_client.cli.plain import plain
from videoprocess_client.cli.progress import job_detail
from videoprocess_client.cli.running import LONG_PATIENCE_SECONDS, Connection, execute
from videoprocess_client.cli.texts import blocked, megabytes, words
from videoprocess_client.client import Client
from videoprocess_client.enums import ErrorCode, SessionStatus
from videoprocess_client.events import Event, ProcessDone, ProcessError, ProgressChanged, StatusChanged
from videoprocess_client.names import short_name

# Four lines a second for each video would hide what matters.
PROGRESS_SECONDS = 5.0

After: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Begin with the events after number N; 0: all that are kept. Default: new ones.",
    ),
]
OfSession: TypeAlias = Annotated[
    str | None,
    typer.Option("--session", metavar="ID", help="Only events of this session, until it is closed."),
]
Mine: TypeAlias = Annotated[
    bool, typer.Option("--mine", help="Only events of the session that this command remembers.")
]
AsLines: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write one JSON object for each event, on a line of its own.")
]


def watch(
    after: After = None,
    session: OfSession = None,
    mine: Mine = False,
    target: Target = DEFAULT_TARGET,
    user: User = DEFAULT_USER_ID,
    as_json: AsLines = False,
) -> None:
    """Show what happens, until Ctrl-C.

    Ends of jobs have numbers; between them comes progress, and what holds work back. Comes back by itself when the server is restarted, and misses no numbered event.
    """
    if mine and session is not None:
        raise typer.BadParameter("not together with --session", param_hint="--mine")
    connection = Connection(target, user, as_json, session)

    async def work(client: Client, output: Output) -> None:
        session_id = session
        if mine:
            session_id = connection.book(output).read().session_id
            if not session_id:
                raise typer.BadParameter("no session is remembered for this server and user")
        lines = _Lines()
        try:
            async with aclosing(client.subscribe(after, session_id)) as events:
                async for event in events:
                    if as_json or lines.is_worth_one(event):
                        output.item(values_of(event), line_of(event))
        except asyncio.CancelledError:
            return  # that is how it is meant to end
        except BrokenPipeError:
            # Nobody reads any more, e.g. `| head`. Python would complain of the rest at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    execute(connection, work, patience_seconds=LONG_PATIENCE_SECONDS)


class _Lines:
    """Chooses what people want to read: progress only now and then."""

    def __init__(self) -> None:
        self._job_id = ""
        self._phase = 0
        self._written = 0.0

    def is_worth_one(self, event: Event) -> bool:
        if not isinstance(event, ProgressChanged):
            return True
        now = time.monotonic()
        same = (self._job_id, self._phase) == (event.job_id, event.progress.phase)
        if same and now - self._written < PROGRESS_SECONDS:
            return False
        self._job_id, self._phase, self._written = event.job_id, event.progress.phase, now
        return True


def line_of(event: Event) -> str:
    """An event for people: local time, number, video, what happened."""
    moment = event.create_time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    number = f"#{event.sequence}" if event.sequence else ""
    about = f"{event.video_id}: " if event.video_id else ""
    return f"{moment} {number:>6} {about}{_text(event)}"


def values_of(event: Event) -> dict[str, Any]:
    """An event as a JSON object."""
    head = {
        "sequence": event.sequence,
        "create_time": event.create_time.isoformat(),
        "session_id": event.session_id,
        "video_id": event.video_id,
        "job_id": event.job_id,
    }
    return head | _values(event)


def _text(event: Event) -> str:
    match event:
        case StatusChanged():
            text = (
                f"waiting, {blocked(event.blocked_by)}" if event.blocked_by else _status(event.status).lower()
            )
            return f"{text}: {event.message}" if event.message else text
        case ProgressChanged(progress=progress):
            return f"{words(short_name(JobPhase.DESCRIPTOR, progress.phase))}, {job_detail(progress)}"
        case ProcessDone(report=report):
            return f"done, {report.frames.encoded} frames, {megabytes(report.output_size_bytes)}"
        case ProcessError():
            verb = "stopped" if event.error_code == ErrorCode.ABORT else "failed"
            return f"{verb}: {event.message} ({event.reason})"
        case _:
            return "something that this version does not know"


def _values(event: Event) -> dict[str, Any]:
    match event:
        case StatusChanged():
            return {
                "event": "status_changed",
                "status": _status(event.status),
                "blocked_by": event.blocked_by,
                "message": event.message,
            }
        case ProgressChanged():
            return {"event": "progress", "progress": plain(event.progress)}
        case ProcessDone():
            return {
                "event": "process_done",
                "report": plain(event.report),
                "meta_data": dict(event.meta_data),
            }
        case ProcessError():
            name = (
                ErrorCode(event.error_code).name if event.error_code in set(ErrorCode) else event.error_code
            )
            return {
                "event": "error",
                "error_code": name,
                "reason": event.reason,
                "message": event.message,
            }
        case _:
            return {"event": "unknown"}


def _status(number: int) -> str:
    return SessionStatus(number).name if number in set(SessionStatus) else str(number)
