"""The named queries on a PostgreSQL connection."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from videoprocess_server.store.codec import SqlValue
from videoprocess_server.store.postgres_connections import Connection, Document, database_errors
from videoprocess_server.store.sql.postgres import QUERIES
from videoprocess_server.store.sql_reader import Row


class PostgresStatements:
    """See `Statements`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, query: str, parameters: Mapping[str, SqlValue]) -> Sequence[Row]:
        """See `Statements`."""
        with database_errors():
            return self._connection.execute(QUERIES[query], parameters).fetchall()

    def rows_in_states(
        self, query: str, states: Collection[str], parameters: Mapping[str, SqlValue], limit: int
    ) -> Sequence[Row]:
        """See `Statements`."""
        return self.rows(query, {**parameters, "states": json.dumps(sorted(states)), "limit": limit})

    def run(self, query: str, parameters: Mapping[str, SqlValue]) -> int:
        """See `Statements`."""
        with database_errors():
            return self._connection.execute(QUERIES[query], _with_document(parameters)).rowcount

    def run_each(self, query: str, rows: Sequence[Mapping[str, SqlValue]]) -> None:
        """See `Statements`."""
        with database_errors(), self._connection.cursor() as cursor:
            cursor.executemany(QUERIES[query], [_with_document(row) for row in rows])


def _with_document(row: Mapping[str, SqlValue]) -> Mapping[str, SqlValue]:
    """Return a row whose document is told from other text."""
    document = row.get("document")
    return {**row, "document": Document(document)} if isinstance(document, str) else row
