"""Looks into a schema of a PostgreSQL database without being a service of it: nothing is made or changed there."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from psycopg.rows import tuple_row

from videoprocess_server.model.clock import MICROSECONDS_PER_SECOND
from videoprocess_server.model.records import Job
from videoprocess_server.store.codec import from_row
from videoprocess_server.store.inspection import COUNTS, LAST_JOBS, Inspection
from videoprocess_server.store.postgres_connections import (
    Connection,
    Opener,
    database_errors,
    is_privilege_missing,
    take_snapshot,
)
from videoprocess_server.store.postgres_schema import Installation, find_installation
from videoprocess_server.store.postgres_statements import PostgresStatements
from videoprocess_server.store.repository import UnfitDatabaseError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sql.postgres import MIGRATIONS

#: that clocks may be apart unremarked
MOST_CLOCK_DIFFERENCE_US = MICROSECONDS_PER_SECOND
_BUSY_SECONDS = 5.0
_ROUND_TRIPS = 5


@dataclass(frozen=True, kw_only=True)
class Fitness:
    """What a server is like from here."""

    server_version: str
    #: what a start would go on with
    installation: Installation
    #: replica_ids of the services that live on it
    living: Collection[str]
    #: of the server's clock, ahead of `now_us` that was passed
    ahead_us: int
    #: the quickest of some
    round_trip_seconds: float

    @property
    def has_clocks_apart(self) -> bool:
        """Whether somebody should set them."""
        return abs(self.ahead_us) >= MOST_CLOCK_DIFFERENCE_US


def inspect(url: str, schema: str, most_jobs: int) -> Inspection:
    """Look into a schema.

    Raises:
        StoreUnavailableError: the database does not answer.
        UnfitDatabaseError: the address, the server or the database is of no use.
    """
    with closing(_open(url, schema)) as connection:
        take_snapshot(connection)
        with database_errors():
            found, known = find_installation(connection).schema_version, MIGRATIONS[-1].version
            same = found == known
            return Inspection(
                schema_version=found,
                known_version=known,
                counts={table: _counts(connection, sql) for table, sql in COUNTS.items() if same},
                jobs=_jobs(connection, most_jobs) if same else (),
                check=f"PostgreSQL {_server_version(connection)} answers",
            )


def examine(url: str, schema: str, now_us: int) -> Fitness:
    """Look whether a service could start with a schema.

    Args:
        url: postgresql://…
        schema: where all objects are, or would be.
        now_us: this machine's clock, microseconds since 1970.

    Raises:
        StoreUnavailableError: the database does not answer.
        UnfitDatabaseError: the address, the server or the database is of no use, there is no right to make the schema, or something
            else is in it.
        SchemaTooNewError: a newer build has made it.
    """
    with closing(_open(url, schema)) as connection:
        begin = time.monotonic()
        statements = PostgresStatements(connection)
        (clock,) = statements.rows("server_now_us", {})
        since_us = round((time.monotonic() - begin) * 500_000)  # it was read half-way
        now_there_us = int(clock["now_us"])
        found, known = find_installation(connection), MIGRATIONS[-1].version
        if found.schema_version > known:
            raise SchemaTooNewError(found.schema_version, known, "database")
        if not found.schema_version and is_privilege_missing(connection, schema):
            raise UnfitDatabaseError(
                f"there is no right to make the schema {schema}: let an administrator run "
                f"CREATE SCHEMA {schema} AUTHORIZATION {connection.info.user}"
            )
        if not found.schema_version and (others := _there(connection, COUNTS)):
            raise UnfitDatabaseError(
                f"the schema {schema} holds something else (table {others[0]}): name another by --database-schema"
            )
        return Fitness(
            server_version=_server_version(connection),
            installation=found,
            living=_living(connection, now_there_us),
            ahead_us=now_there_us - now_us - since_us,
            round_trip_seconds=min(_round_trip_seconds(connection) for _ in range(_ROUND_TRIPS)),
        )


def _open(url: str, schema: str) -> Connection:
    return Opener(url=url, schema=schema, busy_timeout_seconds=_BUSY_SECONDS).open()


def _there(connection: Connection, tables: Iterable[str]) -> Sequence[str]:
    """Return those of the tables that are in the schema."""
    names = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NOT NULL"
    return [row["name"] for row in connection.execute(names, ([*tables],)).fetchall()]


def _living(connection: Connection, now_us: int) -> Collection[str]:
    if not _there(connection, ["replicas"]):  # of an older build
        return ()
    rows = connection.execute("SELECT replica_id FROM replicas WHERE expire_time_us > %s", (now_us,))
    return [row["replica_id"] for row in rows.fetchall()]


def _server_version(connection: Connection) -> str:
    return connection.info.parameter_status("server_version") or ""


def _round_trip_seconds(connection: Connection) -> float:
    begin = time.monotonic()
    with database_errors():
        connection.execute("SELECT 1")
    return time.monotonic() - begin


def _counts(connection: Connection, sql: str) -> dict[str, int]:
    return dict(connection.cursor(row_factory=tuple_row).execute(sql).fetchall())


def _jobs(connection: Connection, most: int) -> list[Job]:
    rows = connection.execute(LAST_JOBS.replace("?", "%s"), (most,)).fetchall()
    return [from_row(Job, row) for row in rows]
