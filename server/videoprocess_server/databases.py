"""Where the rows are: a table of repositories by the scheme of the database's address. A library is loaded when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from videoprocess_server.datadir import DATABASE_NAME, DataDirectory, find_database_id, find_replica_id
from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND, SystemClock
from videoprocess_server.model.records import Job
from videoprocess_server.settings import DATABASE_SCHEMES, Settings
from videoprocess_server.store.database_url import without_credentials
from videoprocess_server.store.repository import Repository, StoreUnavailableError, UnfitDatabaseError
from videoprocess_server.store.sqlite import SqliteRepository

log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from videoprocess_server.store.postgres_inspection import Fitness

_FILE_REMEDY = "end whatever else uses the file, or restore the data directory from a backup (docs/backup-and-upgrade.md)"
_SERVER_REMEDY = "start it, or correct --database-url and what libpq reads (docs/postgresql.md)"

JobEnded = Callable[[Job], None]


def open_repository(settings: Settings, data: DataDirectory, job_ended: JobEnded) -> Repository:
    """Open the rows that the settings name and that belong to the data directory.

    Raises:
        UnfitDatabaseError: they cannot be had, or belong to other files.
        SchemaTooNewError: a newer build has written them.
        NetworkFileSystemError: SQLite's file would be on one.
    """
    return _OPENERS[settings.database_scheme](settings, data, job_ended)


def _open_sqlite(_: Settings, data: DataDirectory, job_ended: JobEnded) -> Repository:
    if data.database_id:
        raise UnfitDatabaseError(
            f"the rows of data directory {data.path} are in PostgreSQL: name it by --database-url, or choose another --data-dir"
        )
    try:
        return SqliteRepository(data.database, job_ended=job_ended)
    except StoreUnavailableError as error:
        raise UnfitDatabaseError(f"{data.database}: {error}: {_FILE_REMEDY}") from error


def _open_postgres(settings: Settings, data: DataDirectory, job_ended: JobEnded) -> Repository:
    found = check_postgres(settings)
    if found.has_clocks_apart:
        ahead_seconds = found.ahead_us / MICROSECONDS_PER_SECOND
        log.warning("clocks_apart", database_ahead_seconds=ahead_seconds, remedy="set both clocks by NTP")
    with postgres_errors(settings.database_url):
        from videoprocess_server.store.postgres import PostgresRepository

        repository = PostgresRepository(
            settings.database_url,
            schema=settings.database_schema,
            reader_count=settings.database_connections,
            job_ended=job_ended,
        )
    if not data.database_id:
        data.note_database(repository.database_id)
    return repository


def check_database(settings: Settings) -> None:
    """Return if nothing that can be seen without a data directory speaks against the rows. Nothing is made.

    Raises:
        UnfitDatabaseError: they cannot be had, or belong to other files.
        SchemaTooNewError: a newer build has written them.
    """
    if settings.database_scheme:
        check_postgres(settings)


_OPENERS: Final[Mapping[str, Callable[[Settings, DataDirectory, JobEnded], Repository]]] = {
    "": _open_sqlite,
    **dict.fromkeys(DATABASE_SCHEMES, _open_postgres),
}


@contextmanager
def postgres_errors(url: str) -> Iterator[None]:
    """Have every failure say which server it is about, and what to do.

    Raises:
        UnfitDatabaseError: the extra is not installed, or the server cannot be used.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise UnfitDatabaseError(
            "--database-url needs the extra postgres: pip install 'videoprocess[postgres]'"
        ) from error
    except StoreUnavailableError as error:
        raise UnfitDatabaseError(f"{without_credentials(url)}: {error}: {_SERVER_REMEDY}") from error
    except UnfitDatabaseError as error:
        raise UnfitDatabaseError(f"{without_credentials(url)}: {error}") from error


def check_postgres(settings: Settings) -> Fitness:
    """Look at the server, and whether the data directory's files belong to its rows: what no row names is swept. Nothing is made.

    Raises:
        UnfitDatabaseError: it cannot be used, or they belong to others, or another service has its rows, and files that this one cannot see.
        SchemaTooNewError: a newer build has written the rows.
    """
    with postgres_errors(settings.database_url):
        from videoprocess_server.store.postgres_inspection import examine

        found = examine(settings.database_url, settings.database_schema, SystemClock().now_us())
    folder = settings.data_dir.absolute()
    noted = find_database_id(folder)
    if not noted and (folder / DATABASE_NAME).exists():
        raise UnfitDatabaseError(
            f"data directory {folder} has rows of its own: `videoprocess-server move-database` moves them to PostgreSQL, "
            "or choose another --data-dir"
        )
    if noted and noted != found.installation.database_id:
        raise UnfitDatabaseError(
            f"the files of data directory {folder} belong to other rows than those of schema {settings.database_schema} "
            f"of {without_credentials(settings.database_url)}: name theirs, or choose another --data-dir"
        )
    if {*found.living} - {find_replica_id(folder)} and not settings.blob_url:
        raise UnfitDatabaseError(
            "another service has these rows, and its files are in its own data directory: stop it (after a kill wait 20 s), "
            "or keep the files of both in S3 (--blob-url)"
        )
    return found
