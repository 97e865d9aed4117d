"""Moves the rows of a SQLite database into an empty schema of a PostgreSQL database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from psycopg import sql

from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.postgres_connections import Connection, Document, database_errors
from videoprocess_server.store.repository import UnfitDatabaseError

#: in an order that references allow; sums are not here: triggers make them
_TABLES = (
    "sessions", "videos", "plans", "segments", "jobs", "uploads", "artifacts", "events", "requests", "user_counters",
    "service_counters", "tombstones",
)  # fmt: skip
#: what a column's value becomes, where that is another
_CONVERTED = {"document": Document, "detached": bool}


def move(source: Path, repository: PostgresRepository) -> Mapping[str, int]:
    """Copy all rows in one transaction; return how many, by table. The source stays as it is.

    Args:
        source: SQLite's file, of this build's schema, which nobody else has open.
        repository: the rows' new place.

    Raises:
        UnfitDatabaseError: there are rows already.
        StoreUnavailableError: the database went away; nothing was changed.
    """
    with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reading:
        reading.row_factory = sqlite3.Row
        with repository.writing() as connection, database_errors():
            connection.execute("SET LOCAL statement_timeout = 0")
            for table in _TABLES:
                if connection.execute(
                    sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table))
                ).fetchall():
                    raise UnfitDatabaseError(
                        f"there are {table} already: name an empty schema by --to-schema, or drop this one"
                    )
            return {table: _copy(reading, table, connection) for table in _TABLES}


def _copy(reading: sqlite3.Connection, table: str, connection: Connection) -> int:
    cursor = reading.execute(f"SELECT * FROM {table}")  # noqa: S608 - a name of the list above
    names = [column[0] for column in cursor.description]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with connection.cursor() as writing:
        with writing.copy(statement) as copy:
            for row in _converted(cursor, names):
                copy.write_row(row)
        return writing.rowcount


def _converted(cursor: sqlite3.Cursor, names: list[str]) -> Iterator[list[Any]]:
    for row in cursor:
        yield [_CONVERTED.get(name, _as_it_is)(value) for name, value in zip(names, row, strict=True)]


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    return value
