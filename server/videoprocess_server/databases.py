"""Where the rows are: a table of repositories by the scheme of the database's address. A library is loaded when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from videoprocess_server.datadir import DATABASE_NAME, DataDirectory, find_database_id
from videoprocess_server.model.clock import SystemClock
from videoprocess_server.model.records import Job
from videoprocess_server.settings import DATABASE_SCHEMES, Settings
from videoprocess_server.store.database_url import without_credentials
from videoprocess_server.store.repository import Repository, StoreUnavailableError, UnfitDatabaseError
from videoprocess_server.store.sqlite import SqliteRepository

if TYPE_CHECKING:
    from videoprocess_server.store.postgres_inspection import Fitness

_FILE_REMEDY = "end whatever else uses the file, or restore the data directory from a backup (docs/backup-and-upgrade.md)"
_SERVER_REMEDY = "start it, or correct --database-url and what libpq reads (docs/postgresql.md)"

JobEnded = Callable[[Job], None]


def check_database(settings: Settings) -> None:
    """Return if it is worth while to open the rows; looked at before anything is made, and again when they are opened.

    Raises:
        UnfitDatabaseError: they cannot be had, or belong to other files.
        SchemaTooNewError: a newer build has written them.
    """
    _CHECKS[settings.database_scheme](settings)


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
    check_postgres(settings)
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


_OPENERS: Final[Mapping[str, Callable[[Settings, DataDirectory, JobEnded], Repository]]] = {
    "": _open_sqlite,
    **dict.fromkeys(DATABASE_SCHEMES, _open_postgres),
}


def _fit(_settings: Settings) -> None:
    """SQLite's file is looked at when it is opened."""


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
        UnfitDatabaseError: it cannot be used, or they belong to others.
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
    return found


_CHECKS: Final[Mapping[str, Callable[[Settings], object]]] = {
    "": _fit,
    **dict.fromkeys(DATABASE_SCHEMES, check_postgres),
}
