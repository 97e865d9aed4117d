"""The named queries on a SQLite connection."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice

from videoprocess_server.store.codec import SqlValue
from videoprocess_server.store.sql import QUERIES
from videoprocess_server.store.sql_reader import Row
from videoprocess_server.store.sqlite_connections import database_errors


class SqliteStatements:
    """See `Statements`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, parameters: Mapping[str, SqlValue]) -> Sequence[Row]:
        """See `Statements`."""
        with database_errors():
            return [dict(row) for row in self._connection.execute(QUERIES[query], parameters)]

    def rows_in_states(
        self, query: str, states: Collection[str], parameters: Mapping[str, SqlValue], limit: int
    ) -> Sequence[Row]:
        """See `Statements`."""
        with database_errors(), ExitStack() as cursors:
            parts = [
                cursors.enter_context(
                    closing(self._connection.execute(QUERIES[query], {**parameters, "state": state}))
                )
                for state in states
            ]
            merged = heapq.merge(*parts, key=lambda row: (row["create_time_us"], row["video_id"]))
            return [dict(row) for row in islice(merged, limit)]

    def run(self, query: str, parameters: Mapping[str, SqlValue]) -> int:
        """See `Statements`."""
        with database_errors():
            return self._connection.execute(QUERIES[query], parameters).rowcount

    def run_each(self, query: str, rows: Sequence[Mapping[str, SqlValue]]) -> None:
        """See `Statements`."""
        with database_errors():
            self._connection.executemany(QUERIES[query], rows)
