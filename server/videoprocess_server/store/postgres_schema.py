"""Brings a schema of a PostgreSQL database to what this build knows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import psycopg
from psycopg import sql

from videoprocess_server.store.postgres_connections import Connection, Opener, begin, database_errors
from videoprocess_server.store.repository import UnfitDatabaseError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sql.postgres import MIGRATIONS, QUERIES


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is in a schema."""

    #: 0 where there is none
    schema_version: int = 0
    #: of the rows, wherever they move; "" where there are none
    database_id: str = ""


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
                database_id = find_installation(connection).database_id
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
    return database_id


def find_installation(connection: Connection) -> Installation:
    """Return what is in the schema of a connection."""
    (found,) = connection.execute("SELECT to_regclass('installation') IS NOT NULL AS is_there").fetchall()
    if not found["is_there"]:
        return Installation()
    (row,) = connection.execute("SELECT schema_version, database_id FROM installation").fetchall()
    return Installation(**row)


def _apply_missing(connection: Connection, schema: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchall():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    found, known = find_installation(connection).schema_version, MIGRATIONS[-1].version
    if found > known:
        raise SchemaTooNewError(found, known, "database")
    for migration in MIGRATIONS[found:]:
        connection.execute(migration.sql)
        connection.execute("UPDATE installation SET schema_version = %s", (migration.version,))
