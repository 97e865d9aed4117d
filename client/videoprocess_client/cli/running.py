"""Runs one command's work against a server and turns every expected error into a message and an exit code."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import typer

from videoprocess_client.cli.exits import Exit, exit_code
from videoprocess_client.cli.output import Output, error_values
from videoprocess_client.client import Client
from videoprocess_client.errors import ConnectionFailed, VideoProcessError
from videoprocess_client.retry import RetryPolicy

Work: TypeAlias = Callable[[Client, Output], Awaitable[None]]

NOTICE_SECONDS = 10.0


@dataclass(frozen=True)
class Connection:
    """The options that every command has."""

    target: str
    user_id: int
    as_json: bool


def execute(connection: Connection, work: Work, *, patience_seconds: float = 15.0) -> None:
    """Do the work; leaves by `typer.Exit` when it fails.

    Args:
        connection: Where and for whom.
        work: What to do.
        patience_seconds: How long the server may be away in the middle of it.
    """
    output = Output(as_json=connection.as_json)
    try:
        asyncio.run(_run(connection, work, output, RetryPolicy(patience_seconds=patience_seconds)))
    except (VideoProcessError, OSError) as error:
        values = error_values(error)
        if isinstance(error, ConnectionFailed):
            values["message"] = f"No answer from the server at {connection.target}: {error.message}"
        output.error(values)
        raise typer.Exit(exit_code(error)) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        output.error({"reason": "INTERRUPTED", "message": "Interrupted."})
        raise typer.Exit(Exit.INTERRUPTED) from None


async def _run(connection: Connection, work: Work, output: Output, retry: RetryPolicy) -> None:
    task = asyncio.current_task()
    if task is not None:  # SIGINT cancels the task already; a service manager sends SIGTERM
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    notice = _Notice(output, connection.target)
    async with Client(connection.target, user_id=connection.user_id, retry=retry, on_retry=notice) as client:
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
