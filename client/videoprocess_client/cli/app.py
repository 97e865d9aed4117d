"""The command's parts put together, and its way out: one exit code, and one JSON object where it was asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, TypeAlias

import typer

from videoprocess_client.cli import enhance, files, manage, process, queries, watch
from videoprocess_client.cli.access_options import with_access
from videoprocess_client.cli.exits import EPILOG, Exit
from videoprocess_client.cli.output import Output

# Every wrong use that the parser finds; Typer exports only this one kind of it.
_WRONG_USE: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="videoprocess",
    help="Makes enhanced copies of camera videos on a videoprocess server.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    enhance.enhance,
    files.upload,
    files.prepare,
    process.process,
    queries.status,
    queries.pending,
    watch.watch,
    manage.interrupt,
    manage.remove,
    manage.restore,
    queries.fetch,
    queries.capabilities,
):
    app.command(epilog=EPILOG)(with_access(command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"videoprocess {version('videoprocess')}")
        raise typer.Exit


Version: TypeAlias = Annotated[
    bool,
    typer.Option("--version", help="Show the version and end.", callback=_show_version, is_eager=True),
]


@app.callback()
def _main(show_version: Version = False) -> None:
    """Makes enhanced copies of camera videos on a videoprocess server."""


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    wants_json = "--json" in arguments
    try:
        code = app(list(arguments), prog_name="videoprocess", standalone_mode=not wants_json)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else Exit.FAILED
    except _WRONG_USE as error:
        message = getattr(error, "format_message", error.__str__)()
        Output(as_json=True).error({"reason": "USAGE", "message": message})
        return Exit.USAGE
    return code if isinstance(code, int) else Exit.OK


def main() -> None:
    """Entry point of the program."""
    sys.exit(run(sys.argv[1:]))
