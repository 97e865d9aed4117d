"""Runs one command's work against a server and turns every expected error into a message and an exit code."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import typer

from videoprocess_client.cli.access_options import access
from videoprocess_client.cli.exits import Exit, exit_code
from videoprocess_client.cli.kept_session import KeptSession
from videoprocess_client.cli.output import Output, error_values
from videoprocess_client.cli.session_book import SessionBook, state_directory
from videoprocess_client.client import Client
from videoprocess_client.errors import ConnectionFailed, VideoProcessError
from videoprocess_client.retry import RetryPolicy

Work: TypeAlias = Callable[[Client, Output], Awaitable[None]]

NOTICE_SECONDS = 10.0
# For commands that go on over a restart of the server: an upgrade, too, should be over by then.
LONG_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Connection:
    """The options that every command has."""

    target: str
    user_id: int
    as_json: bool
    #: a session to use instead of the remembered one
    session_id: str | None = None
    #: whether files go past the server
    direct: bool = False

    def book(self, output: Output) -> SessionBook:
        """What is remembered of this server and user."""

        def fail(error: OSError) -> None:
            name = f"{error.filename}: " if error.filename else ""
            output.note(f"The session is not remembered ({name}{error.strerror or error}).")

        return SessionBook(state_directory(), self.target, self.user_id, fail)

    def kept_session(self, client: Client, output: Output) -> KeptSession:
        """The session of this server and user."""
        return KeptSession(client, self.book(output), self.session_id)


class Detached(Exception):  # noqa: N818 - it ends the command, and nothing went wrong
    """The user stopped waiting for work that goes on."""


def execute(connection: Connection, work: Work, *, patience_seconds: float = 15.0) -> None:
    """Do the work; leaves by `typer.Exit` when it fails.

    Args:
        connection: Where and for whom.
        work: What to do.
        patience_seconds: How long the server may be away in the middle of it.
    """
    output = Output(as_json=connection.as_json)
    access().check(connection.target)
    try:
        asyncio.run(_run(connection, work, output, RetryPolicy(patience_seconds=patience_seconds)))
    except (VideoProcessError, OSError) as error:
        values = error_values(error)
        if isinstance(error, ConnectionFailed):
            values["message"] = f"No answer from the server at {connection.target}: {error.message}"
        output.error(values)
        raise typer.Exit(exit_code(error)) from None
    except Detached as error:
        output.error({"reason": "DETACHED", "message": str(error)})
        raise typer.Exit(Exit.INTERRUPTED) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        output.error({"reason": "INTERRUPTED", "message": "Interrupted."})
        raise typer.Exit(Exit.INTERRUPTED) from None


async def _run(connection: Connection, work: Work, output: Output, retry: RetryPolicy) -> None:
    task = asyncio.current_task()
    if task is not None:  # SIGINT cancels the task already; a service manager sends SIGTERM
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    notice = _Notice(output, connection.target)
    client = Client(
        connection.target,
        user_id=connection.user_id,
        credentials=access().credentials,
        token=access().token,
        retry=retry,
        on_retry=notice,
        direct=connection.direct,
        on_detour=lambda reason: output.note(f"The file goes through the server ({reason})."),
    )
    async with client:
        await work(client, output)


class _Notice:
    """Tells that the server is away, now and then."""

    def __init__(self, output: Output, target: str) -> None:
        self._output = output
        self._target = target
        self._next_time = 0.0

    def __call__(self, error: VideoProcessError) -> None:
        now = time.monotonic()
        if now >= self._next_time:
            self._next_time = now + NOTICE_SECONDS
            self._output.note(f"Waiting for the server at {self._target} ({error.reason}).")
