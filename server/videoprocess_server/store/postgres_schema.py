"""Brings a schema of a PostgreSQL database to what this build knows."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
from psycopg import sql

from videoprocess_server.store.postgres_connections import Connection, Opener, begin, database_errors
from videoprocess_server.store.repository import UnfitDatabaseError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sql.postgres import MIGRATIONS, QUERIES


def migrate(opener: Opener, lock: int) -> str:
    """Make the schema where there is none, apply the missing migrations, all or none; return the id of the database.

    Raises:
        StoreUnavailableError: the database does not answer.
        SchemaTooNewError: the schema is of a newer build; nothing was changed.
        UnfitDatabaseError: there is no right to make or change it, or something else is in it.
    """
    with closing(opener.open()) as connection:
        begin(connection, lock)
        try:
            with database_errors():
                _apply_missing(connection, opener.schema)
                connection.execute(QUERIES["delete_old_writers"])
                database_id = _installation(connection)["database_id"]
                connection.execute("COMMIT")
        except psycopg.errors.InsufficientPrivilege as error:
            user = connection.info.user
            raise UnfitDatabaseError(
                f"{error.diag.message_primary}: let an administrator make the schema once "
                f"(CREATE SCHEMA {opener.schema} AUTHORIZATION {user}), or name another database or schema"
            ) from error
        except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateFunction) as error:
            raise UnfitDatabaseError(
                f"the schema {opener.schema} holds something else ({error.diag.message_primary}): "
                "name another by --database-schema"
            ) from error
    return str(database_id)


def find_version(connection: Connection) -> int:
    """Return the version of the schema; 0 where there is none."""
    found = connection.execute("SELECT to_regclass('installation') IS NOT NULL AS is_there").fetchall()
    return int(_installation(connection)["schema_version"]) if found[0]["is_there"] else 0


def _apply_missing(connection: Connection, schema: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchall():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    found, known = find_version(connection), MIGRATIONS[-1].version
    if found > known:
        raise SchemaTooNewError(found, known, "database")
    for migration in MIGRATIONS[found:]:
        connection.execute(migration.sql)
        connection.execute("UPDATE installation SET schema_version = %s", (migration.version,))


def _installation(connection: Connection) -> dict[str, Any]:
    (row,) = connection.execute("SELECT * FROM installation").fetchall()
    return row
