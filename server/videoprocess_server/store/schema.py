"""Brings a SQLite database to the schema this build knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from videoprocess_server.store.sql import MIGRATIONS


class SchemaTooNewError(Exception):
    """A newer build has written the database; this one would not understand it."""

    def __init__(self, found_version: int, known_version: int, kept_in: str) -> None:
        super().__init__(
            f"the database has schema version {found_version}, this build knows versions up to {known_version}: "
            f"start the newer build again, or restore the {kept_in} from before the upgrade"
        )
        self.found_version = found_version
        self.known_version = known_version


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing migrations, all or none.

    Raises:
        SchemaTooNewError: the database is of a newer schema; nothing was changed.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply_missing(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply_missing(connection: sqlite3.Connection) -> None:
    found, known = connection.execute("PRAGMA user_version").fetchone()[0], MIGRATIONS[-1].version
    if found > known:
        raise SchemaTooNewError(found, known, "data directory")
    for migration in MIGRATIONS[found:]:
        for statement in _statements(migration.sql):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {migration.version}")


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script. sqlite3's executescript would commit the transaction they belong to."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
