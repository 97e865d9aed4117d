"""The `videoprocess-server` command."""

from __future__ import annotations

import logging
import os
import sys
import tomllib
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from videoprocess_server.probe_settings import ProbeSettings
from videoprocess_server.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, ConfigFileError, Settings

EXIT_UNHEALTHY = 1
EXIT_USAGE = 2
EXIT_CANNOT_START = 3

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="The videoprocess service."
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("videoprocess"))
        raise typer.Exit


@app.callback()
def _commands(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """The videoprocess service: makes better pictures of recorded videos, resumably and exactly."""


def _text(name: str) -> str:
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True)
    shown = f" Default: {default}." if default not in ((), None, "") else ""
    return f"{field.description}{shown} [{ENVIRONMENT_PREFIX}{name.upper()}]"


def _option(name: str, **more: Any) -> Any:  # noqa: ANN401 - typer's own type
    return typer.Option(None, help=_text(name), show_default=False, **more)


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(help=f"TOML file with settings. [{CONFIG_VARIABLE}]", show_default=False)
    ] = None,
    listen: str | None = _option("listen"),
    health_listen: str | None = _option("health_listen", metavar="HOST:PORT"),
    insecure_listen_anywhere: bool | None = _option("insecure_listen_anywhere"),
    tls_cert: Path | None = _option("tls_cert"),
    tls_key: Path | None = _option("tls_key"),
    tls_client_ca: Path | None = _option("tls_client_ca"),
    token_file: Path | None = _option("token_file"),
    jwks_file: Path | None = _option("jwks_file"),
    jwt_issuer: str | None = _option("jwt_issuer"),
    jwt_audience: str | None = _option("jwt_audience"),
    jwt_users_claim: str | None = _option("jwt_users_claim"),
    data_dir: Path | None = _option("data_dir"),
    database_url: str | None = _option("database_url", metavar="URL"),
    database_schema: str | None = _option("database_schema"),
    database_connections: int | None = _option("database_connections"),
    blob_url: str | None = _option("blob_url", metavar="s3://BUCKET/PREFIX"),
    s3_endpoint: str | None = _option("s3_endpoint", metavar="URL"),
    s3_region: str | None = _option("s3_region", metavar="REGION"),
    s3_cache_bytes: int | None = _option("s3_cache_bytes"),
    shared_root: list[str] | None = _option("shared_root", metavar="NAME[,rw][,USER_ID...]=PATH"),
    fd_socket: str | None = _option("fd_socket", metavar="PATH|off"),
    fd_users: list[str] | None = _option("fd_users", metavar="USER"),
    address_file: Path | None = _option("address_file"),
    metrics_listen: str | None = _option("metrics_listen", metavar="[HOST:]PORT"),
    otlp_endpoint: str | None = _option("otlp_endpoint", metavar="URL"),
    trace_percent: float | None = _option("trace_percent"),
    workers: int | None = _option("workers"),
    executor: str | None = _option("executor", metavar="local|ray"),
    ray_address: str | None = _option("ray_address", metavar="HOST:PORT|auto"),
    ray_namespace: str | None = _option("ray_namespace"),
    ray_workers: int | None = _option("ray_workers"),
    ray_stage: Path | None = _option("ray_stage"),
    ray_node_dir: Path | None = _option("ray_node_dir"),
    ray_cache_bytes: int | None = _option("ray_cache_bytes"),
    max_running_jobs: int | None = _option("max_running_jobs"),
    segment_seconds: float | None = _option("segment_seconds"),
    longest_gop_seconds: float | None = _option("longest_gop_seconds"),
    memory_budget_bytes: int | None = _option("memory_budget_bytes"),
    parked_seconds: float | None = _option("parked_seconds"),
    max_parked_bytes: int | None = _option("max_parked_bytes"),
    max_blocked_seconds: float | None = _option("max_blocked_seconds"),
    stall_seconds: float | None = _option("stall_seconds"),
    transfer_stall_seconds: float | None = _option("transfer_stall_seconds"),
    session_idle_seconds: float | None = _option("session_idle_seconds"),
    max_sessions: int | None = _option("max_sessions"),
    max_sessions_per_user: int | None = _option("max_sessions_per_user"),
    max_queued_jobs: int | None = _option("max_queued_jobs"),
    max_upload_bytes: int | None = _option("max_upload_bytes"),
    max_pixels: int | None = _option("max_pixels"),
    max_duration_seconds: int | None = _option("max_duration_seconds"),
    max_tracks: int | None = _option("max_tracks"),
    max_packets: int | None = _option("max_packets"),
    max_index_bytes: int | None = _option("max_index_bytes"),
    max_metadata_bytes: int | None = _option("max_metadata_bytes"),
    max_attachment_bytes: int | None = _option("max_attachment_bytes"),
    keep_results_seconds: float | None = _option("keep_results_seconds"),
    keep_removed_results_seconds: float | None = _option("keep_removed_results_seconds"),
    keep_trash_seconds: float | None = _option("keep_trash_seconds"),
    keep_checkpoints_seconds: float | None = _option("keep_checkpoints_seconds"),
    keep_events_seconds: float | None = _option("keep_events_seconds"),
    keep_unfinished_uploads_seconds: float | None = _option("keep_unfinished_uploads_seconds"),
    keep_unused_uploads_seconds: float | None = _option("keep_unused_uploads_seconds"),
    steady_clock_seconds: float | None = _option("steady_clock_seconds"),
    housekeeping_seconds: float | None = _option("housekeeping_seconds"),
    replica_lease_seconds: float | None = _option("replica_lease_seconds"),
    replica_renew_seconds: float | None = _option("replica_renew_seconds"),
    replica_look_seconds: float | None = _option("replica_look_seconds"),
    user_quota_bytes: int | None = _option("user_quota_bytes"),
    disk_reserve_bytes: int | None = _option("disk_reserve_bytes"),
    max_temperature_celsius: float | None = _option("max_temperature_celsius"),
    max_cpu_pressure_percent: float | None = _option("max_cpu_pressure_percent"),
    max_memory_pressure_percent: float | None = _option("max_memory_pressure_percent"),
    quiet_hours: list[str] | None = _option("quiet_hours", metavar="HH:MM-HH:MM"),
    max_connections: int | None = _option("max_connections"),
    max_calls_per_second_per_user: float | None = _option("max_calls_per_second_per_user"),
    max_burst_calls_per_user: int | None = _option("max_burst_calls_per_user"),
    max_calls_per_second_per_peer: float | None = _option("max_calls_per_second_per_peer"),
    max_burst_calls_per_peer: int | None = _option("max_burst_calls_per_peer"),
    shutdown_grace_seconds: float | None = _option("shutdown_grace_seconds"),
    log_level: str | None = _option("log_level", metavar="debug|info|warning|error"),
    log_format: str | None = _option("log_format", metavar="auto|console|json"),
) -> None:
    """Start the service. Flags win over environment variables, those over the file, that over defaults."""
    flags = {name: value for name, value in locals().items() if value is not None and name != "config"}
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    settings = _read(flags)
    # gRPC reads it when it is imported: it would write bytes of callers past our log, a line for each bad header
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from videoprocess_server.app import CannotStartError, run

    try:
        run(settings)
    except CannotStartError as error:
        _die(str(error), EXIT_CANNOT_START)


@app.command()
@wraps(serve, assigned=("__annotations__",))
def check(**flags: Any) -> None:  # noqa: ANN401 - those of `serve`
    """Tell in a line each whether what the settings name is reachable and fit, and change nothing; takes the flags of `serve`.

    The exit code is 0 if all of it is fit.
    """
    if (config := flags.pop("config")) is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    settings = _read({name: value for name, value in flags.items() if value is not None})
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import structlog

    from videoprocess_server.checks import Verdict, find

    # what a log would tell, a finding does
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    findings = find(settings)
    for finding in findings:
        typer.echo(f"{finding.verdict.value}: {finding.name}: {finding.text}")
    if any(finding.verdict is Verdict.UNFIT for finding in findings):
        raise typer.Exit(EXIT_CANNOT_START)


@app.command()
def move_database(
    to: Annotated[str, typer.Option(help="Address of the database: postgresql://USER@HOST:PORT/DATABASE.")],
    to_schema: Annotated[str, typer.Option(help="Schema of it, empty or not there.")] = Settings.model_fields[
        "database_schema"
    ].default,
    config: Annotated[
        Path | None, typer.Option(help=f"TOML file with settings. [{CONFIG_VARIABLE}]", show_default=False)
    ] = None,
    data_dir: Path | None = _option("data_dir"),
) -> None:
    """Move the rows of a stopped service from its data directory to PostgreSQL, all of them or none; files stay where they are."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    settings = _read({} if data_dir is None else {"data_dir": data_dir})
    target = _read({"data_dir": settings.data_dir, "database_url": to, "database_schema": to_schema})
    from videoprocess_server.database_moving import CannotMoveError, move_database

    try:
        counts = move_database(settings, target)
    except CannotMoveError as error:
        _die(str(error), EXIT_CANNOT_START)
    for table, count in counts.items():
        typer.echo(f"{table}: {count}")


@app.command()
def health(
    config: Annotated[
        Path | None, typer.Option(help=f"TOML file with settings. [{CONFIG_VARIABLE}]", show_default=False)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT or unix:PATH. Default: what environment and file tell of health_listen, or else of listen."
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authorities that sign the service's certificate.")
    ] = None,
    tls_name: Annotated[
        str, typer.Option(help="Name in the service's certificate, where the target's is another.")
    ] = "",
    timeout_seconds: Annotated[float, typer.Option(min=0.1, help="It has so long to answer.")] = 5.0,
) -> None:
    """Ask whether the service is well: exit code 0 if it is SERVING, else 1. Asks the plain port for probes if there is one."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    try:
        roots = tls_ca.read_bytes() if tls_ca else None
        asked = target or ProbeSettings().target(has_tls_ca=roots is not None)
    except (ConfigFileError, OSError, ValueError) as error:
        _die(str(error), EXIT_USAGE)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from videoprocess_server.rpc.health_probe import SERVING, check

    told = check(asked, timeout_seconds, root_certificates=roots, server_name=tls_name)
    typer.echo(told)
    raise typer.Exit(0 if told == SERVING else EXIT_UNHEALTHY)


@app.command()
def support_dump(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write: NAME.tar.gz or NAME.zip.", show_default=False),
    ],
    config: Annotated[
        Path | None, typer.Option(help=f"TOML file with settings. [{CONFIG_VARIABLE}]", show_default=False)
    ] = None,
    data_dir: Path | None = _option("data_dir"),
    log: Annotated[
        Path | None,
        typer.Option(help="File that the service's log lines go to; its end is taken.", show_default=False),
    ] = None,
) -> None:
    """Write a file for support, while the service runs or is dead: versions, settings, disk, gates, the last 100 jobs.

    It holds no video and no credentials; names that callers gave are replaced by digests.
    """
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    settings = _read({} if data_dir is None else {"data_dir": data_dir})
    if not settings.data_dir.is_dir():
        _die(f"there is no data directory {settings.data_dir}: name it with --data-dir", EXIT_USAGE)
    from videoprocess_server.support.dump import CannotDumpError, write_dump
    from videoprocess_server.support.parts import Finder

    try:
        problems = write_dump(output, Finder(settings, log).parts())
    except CannotDumpError as error:
        _die(str(error), EXIT_USAGE)
    for name, problem in problems.items():
        sys.stderr.write(f"videoprocess-server: {name} is missing: {problem}\n")
    typer.echo(output)


@app.command()
def move_blobs(
    to: Annotated[str, typer.Option(help="s3://BUCKET/PREFIX to move to.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option(help=f"TOML file with settings. [{CONFIG_VARIABLE}]", show_default=False)
    ] = None,
    data_dir: Path | None = _option("data_dir"),
    s3_endpoint: str | None = _option("s3_endpoint", metavar="URL"),
    s3_region: str | None = _option("s3_region", metavar="REGION"),
) -> None:
    """Copy what a stopped service keeps in its data directory to S3, each file compared with its digest; may be repeated.

    Then start it with --blob-url. The files stay and count as at hand.
    """
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    flags = {"blob_url": to, "data_dir": data_dir, "s3_endpoint": s3_endpoint, "s3_region": s3_region}
    settings = _read({name: value for name, value in flags.items() if value is not None})
    from videoprocess_server.blob_choice import UnfitBlobsError, check_blobs
    from videoprocess_server.blob_moving import CannotMoveError
    from videoprocess_server.blob_moving import move_blobs as move
    from videoprocess_server.blobs.blob_store import BlobStoreUnavailableError
    from videoprocess_server.datadir import DataDirectoryError

    for problem in check_blobs(settings):
        _die(problem, EXIT_CANNOT_START)
    try:
        moved = move(settings, lambda blob: typer.echo(f"{blob.kind.value}/{blob.key}"))
    except (BlobStoreUnavailableError, CannotMoveError, DataDirectoryError, UnfitBlobsError) as error:
        _die(str(error), EXIT_CANNOT_START)
    for problem in moved.problems:
        sys.stderr.write(f"videoprocess-server: {problem}\n")
    typer.echo(f"{moved.blob_count} files are in {to}")
    raise typer.Exit(EXIT_UNHEALTHY if moved.problems else 0)


def _read(flags: dict[str, Any]) -> Settings:
    try:
        return Settings(**{name: value for name, value in flags.items() if value != []})
    except ValidationError as error:
        _die("; ".join(_problem(problem) for problem in error.errors()), EXIT_USAGE)
    except ConfigFileError as error:
        _die(str(error), EXIT_USAGE)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _die(f"{os.environ.get(CONFIG_VARIABLE)}: {error}", EXIT_USAGE)


def _problem(problem: ErrorDetails) -> str:
    """Say what is wrong with a setting. Flags and variables of other names never get here: only the file's do."""
    name = ".".join(str(part) for part in problem["loc"]) or "settings"
    if problem["type"] == "extra_forbidden":
        return f"{os.environ.get(CONFIG_VARIABLE)}: there is no setting {name}: `serve --help` tells all"
    return f"{name}: {problem['msg'].removeprefix('Value error, ')}"


def _die(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"videoprocess-server: {message}\n")
    raise typer.Exit(code)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
