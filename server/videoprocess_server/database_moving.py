"""`videoprocess-server move-database`: an embedded installation's rows go to PostgreSQL; its files stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from videoprocess_server.databases import open_repository, postgres_errors
from videoprocess_server.datadir import LOCK_NAME, DataDirectory, DataDirectoryError
from videoprocess_server.settings import Settings
from videoprocess_server.store.filesystem import NetworkFileSystemError
from videoprocess_server.store.repository import UnfitDatabaseError
from videoprocess_server.store.schema import SchemaTooNewError


class CannotMoveError(Exception):
    """The rows cannot be moved; the text is one line that says what to do. Nothing was changed."""


def move_database(settings: Settings, target: Settings) -> Mapping[str, int]:
    """Copy the rows of a stopped service, and note in its data directory where they are from now on.

    Args:
        settings: of the service as it is, with SQLite.
        target: that name the database they go to, and a schema of it that is empty or not there.

    Returns:
        Table → rows.

    Raises:
        CannotMoveError: the service runs, there is nothing to move, or the database is of no use.
    """
    if not (settings.data_dir / LOCK_NAME).exists():
        raise CannotMoveError(f"{settings.data_dir} is no service's data directory: name it by --data-dir")
    try:
        with DataDirectory(settings.data_dir) as data:
            open_repository(settings, data, lambda _job: None).close()  # brings it to this build's schema
            with postgres_errors(target.database_url):
                from videoprocess_server.store.postgres import PostgresRepository
                from videoprocess_server.store.postgres_moving import move

                with closing(
                    PostgresRepository(target.database_url, schema=target.database_schema)
                ) as repository:
                    counts = move(data.database, repository)
            data.note_database(repository.database_id)
    except (DataDirectoryError, NetworkFileSystemError, SchemaTooNewError, UnfitDatabaseError) as error:
        raise CannotMoveError(str(error)) from error
    return counts
