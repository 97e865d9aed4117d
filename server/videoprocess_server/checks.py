"""`videoprocess-server check`: a table of what the settings name, and what finds out whether it is reachable and fit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from videoprocess_server import bounds
from videoprocess_server.blob_choice import check_blobs
from videoprocess_server.databases import check_postgres
from videoprocess_server.datadir import DATABASE_NAME, LOCK_NAME
from videoprocess_server.execution.ray_executor import ClusterUnfitError
from videoprocess_server.executors import examine_ray
from videoprocess_server.machine.capacity import available_cores
from videoprocess_server.media.build_info import describe
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.tasks import DescribeTask
from videoprocess_server.preflight import PreflightError, check_build
from videoprocess_server.settings import DATABASE_SCHEMES, Settings
from videoprocess_server.store.database_url import without_credentials
from videoprocess_server.store.inspection import inspect, is_in_use
from videoprocess_server.store.repository import StoreUnavailableError, UnfitDatabaseError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sqlite_connections import database_errors

_GIB = 1 << 30


class Verdict(Enum):
    """How fit something is."""

    #: as it should be
    OK = "ok"
    #: it serves, and somebody should look at it
    WARNING = "warning"
    #: the service would not start, or not work
    UNFIT = "not fit"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found: one line."""

    name: str
    verdict: Verdict
    text: str


#: what a check returns: one line, as `Verdict.OK` or another. It raises an error of `_TOLD` for `Verdict.UNFIT`
Found = tuple[Verdict, str]


def find(settings: Settings) -> list[Finding]:
    """Look at everything the settings name; nothing is made or changed."""
    return [_finding(name, check, settings) for name, check in CHECKS.items()]


def _finding(name: str, check: Callable[[Settings], Found], settings: Settings) -> Finding:
    try:
        verdict, text = check(settings)
    except (PreflightError, SchemaTooNewError, StoreUnavailableError, UnfitDatabaseError) as error:
        verdict, text = Verdict.UNFIT, str(error)
    except OSError as error:
        verdict, text = Verdict.UNFIT, f"{error.filename}: {error.strerror}"
    return Finding(name=name, verdict=verdict, text=text)


def _check_data_directory(settings: Settings) -> Found:
    folder = settings.data_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PreflightError(
            f"{there} is no directory that may be written to: let the service's user, or choose another --data-dir"
        )
    if is_in_use(folder / LOCK_NAME):
        raise PreflightError(f"{folder} is in use by a service: stop it, or choose another --data-dir")
    return Verdict.OK, f"{folder} may be written to and is free"


def _check_space(settings: Settings) -> Found:
    folder = settings.data_dir.absolute()
    usage = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists()))
    reserve_bytes = bounds.gate_limits(settings, usage.total).disk_reserve_bytes
    text = f"{usage.free / _GIB:.1f} GiB free, of which {reserve_bytes / _GIB:.1f} are kept free"
    if usage.free <= reserve_bytes:
        raise PreflightError(f"{text}: free some, or lower --disk-reserve-bytes")
    return Verdict.OK, text


def _check_encoders(_: Settings) -> Found:
    build = describe(DescribeTask(), -1)
    check_build(build)
    return Verdict.OK, ", ".join(sorted(build.video_encoders))


def _check_database(settings: Settings) -> Found:
    return _DATABASE_CHECKS[settings.database_scheme](settings)


def _check_sqlite(settings: Settings) -> Found:
    path = settings.data_dir.absolute() / DATABASE_NAME
    if not path.exists():
        return Verdict.OK, f"{path} will be made"
    with database_errors():
        found = inspect(path, lambda: is_in_use(path.with_name(LOCK_NAME)), most_jobs=0)
    if found.schema_version > found.known_version:
        raise SchemaTooNewError(found.schema_version, found.known_version, "data directory")
    if found.check != "ok":
        raise PreflightError(f"{path} is damaged ({found.check}): restore the data directory from a backup")
    return Verdict.OK, f"{path} has schema version {found.schema_version} of {found.known_version}"


def _check_postgres(settings: Settings) -> Found:
    found = check_postgres(settings)
    version = found.installation.schema_version
    schema = f"version {version}" if version else "will be made"
    ahead_seconds = found.ahead_us / MICROSECONDS_PER_SECOND
    text = (
        f"{without_credentials(settings.database_url)}: PostgreSQL {found.server_version}, schema {settings.database_schema} "
        f"{schema}, clock {ahead_seconds:+.3f} s, round trip {1000 * found.round_trip_seconds:.2f} ms"
    )
    return (
        (Verdict.WARNING, f"{text}: set both clocks by NTP") if found.has_clocks_apart else (Verdict.OK, text)
    )


def _check_blobs(settings: Settings) -> Found:
    for problem in check_blobs(settings):
        raise PreflightError(problem)
    return Verdict.OK, settings.blob_url or f"in {settings.data_dir.absolute()}"


def _check_executor(settings: Settings) -> Found:
    return _EXECUTOR_CHECKS[settings.executor](settings)


def _check_local(settings: Settings) -> Found:
    return Verdict.OK, f"{settings.workers or available_cores()} workers on this machine"


def _check_cluster(settings: Settings) -> Found:
    try:
        workers, remarks = examine_ray(settings)
    except ClusterUnfitError as error:
        raise PreflightError(str(error)) from error
    text = f"{workers} workers on the Ray cluster at {settings.ray_address}"
    return (Verdict.WARNING, "; ".join((text, *remarks))) if remarks else (Verdict.OK, text)


_EXECUTOR_CHECKS: Final[Mapping[str, Callable[[Settings], Found]]] = {
    "local": _check_local,
    "ray": _check_cluster,
}
_DATABASE_CHECKS: Final[Mapping[str, Callable[[Settings], Found]]] = {
    "": _check_sqlite,
    **dict.fromkeys(DATABASE_SCHEMES, _check_postgres),
}

CHECKS: Final[Mapping[str, Callable[[Settings], Found]]] = {
    "data directory": _check_data_directory,
    "free space": _check_space,
    "encoders": _check_encoders,
    "database": _check_database,
    "blobs": _check_blobs,
    "executor": _check_executor,
}
