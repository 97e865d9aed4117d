"""PostgreSQL connections: how one is opened, what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown, TextLoader

from videoprocess_server.store.postgres_text import escape, escape_json, unescape, unescape_json
from videoprocess_server.store.repository import ConflictError, StoreUnavailableError, UnfitDatabaseError
from videoprocess_server.store.sql.postgres import QUERIES

Connection: TypeAlias = psycopg.Connection[dict[str, Any]]

#: what an address leaves open. A host that is gone without a word is noticed after 10 s.
_DEFAULTS = {
    "application_name": "videoprocess",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
#: of every session. A transaction that stands idle belongs to a host that is gone: its lock must not stay with it.
_SESSION = """
SET search_path = {schema};
SET synchronous_commit = on;
SET lock_timeout = {lock_ms};
SET statement_timeout = {statement_ms};
SET idle_in_transaction_session_timeout = {idle_ms};
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET client_min_messages = warning;
SET jit = off;
"""
_STATEMENT_MS = 60_000
_IDLE_MS = 15_000
#: server versions before have no pg_current_xact_id_if_assigned, or are not kept up any more
OLDEST_VERSION = 14
_ENCODING = "UTF8"


#: every wait ends: a server that answers nothing for longer than it may work is gone
_ANSWER_SECONDS = _STATEMENT_MS / 1000 + 5


class _Patient(psycopg.Connection[dict[str, Any]]):
    """A connection that is closed when an answer does not come."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, _ANSWER_SECONDS)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - psycopg asks callers to turn it into another
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from error


class Document(str):
    """JSON text on its way to a column of type json."""

    __slots__ = ()


class _TextDumper(StrDumperUnknown):
    def dump(self, obj: str) -> Any:  # noqa: ANN401 - a buffer
        return super().dump(escape(obj))


class _DocumentDumper(StrDumperUnknown):
    def dump(self, obj: str) -> Any:  # noqa: ANN401 - a buffer
        return super().dump(escape_json(obj))


class _EscapedTextLoader(TextLoader):
    def load(self, data: Any) -> str:  # noqa: ANN401 - a buffer
        return unescape(bytes(data).decode())


class _DocumentLoader(TextLoader):
    def load(self, data: Any) -> str:  # noqa: ANN401 - a buffer
        return unescape_json(bytes(data).decode())


@dataclass(frozen=True, kw_only=True)
class Opener:
    """Opens connections to one schema of one database."""

    #: postgresql://…; what it leaves open comes from where libpq looks
    url: str
    schema: str
    #: how long a statement waits for a lock
    busy_timeout_seconds: float

    def open(self) -> Connection:
        """Open a connection, in autocommit: BEGIN and COMMIT are ours alone.

        Raises:
            StoreUnavailableError: the server does not answer, or lets nobody in.
            UnfitDatabaseError: the address is none, the server too old, or the database's encoding another.
        """
        try:
            given = conninfo_to_dict(self.url)
            address = make_conninfo("", **{**_DEFAULTS, **given, "client_encoding": _ENCODING})
        except psycopg.Error:  # its text may hold the password
            raise UnfitDatabaseError(
                "the database's address is none: use postgresql://USER@HOST:PORT/DATABASE, with special characters as %XX"
            ) from None
        with database_errors():
            connection = _Patient.connect(address, autocommit=True, row_factory=dict_row)
        try:
            _check_fit(connection)
            self._prepare(connection)
        except BaseException:
            close_quietly(connection)
            raise
        return connection

    def _prepare(self, connection: Connection) -> None:
        adapters = connection.adapters
        adapters.register_dumper(int, Int8Dumper)
        adapters.register_dumper(str, _TextDumper)
        adapters.register_dumper(Document, _DocumentDumper)
        adapters.register_loader("text", _EscapedTextLoader)
        adapters.register_loader("json", _DocumentLoader)
        with database_errors():
            connection.execute(
                sql.SQL(_SESSION).format(
                    schema=sql.Identifier(self.schema),
                    lock_ms=sql.Literal(round(1000 * self.busy_timeout_seconds)),
                    statement_ms=sql.Literal(_STATEMENT_MS),
                    idle_ms=sql.Literal(_IDLE_MS),
                )
            )


def _check_fit(connection: Connection) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST_VERSION:
        raise UnfitDatabaseError(
            f"the server is PostgreSQL {version}, and {OLDEST_VERSION} or newer is needed: upgrade it, or name another server"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != _ENCODING:
        raise UnfitDatabaseError(
            f"the database's encoding is {encoding}, and {_ENCODING} is needed: "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name that one"
        )


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what PostgreSQL says into what a repository says.

    Raises:
        ConflictError: a constraint refused the change.
        StoreUnavailableError: not there, restarting, full, locked, read-only, or no answer in time.
        psycopg.Error: as it is, where the statement itself is wrong.
    """
    try:
        yield
    except psycopg.IntegrityError as error:
        raise ConflictError(error.diag.message_primary or "a constraint refused the change") from error
    except (psycopg.OperationalError, psycopg.InternalError) as error:
        raise StoreUnavailableError(f"the database is unavailable: {one_line(error)}") from error


def one_line(error: psycopg.Error) -> str:
    """Return what an error says, without the statement it is about."""
    return error.diag.message_primary or " ".join(str(error).split())


def begin(connection: Connection, lock: int) -> None:
    """Begin a change, when no other change of this schema is open any more, in whatever process.

    Raises:
        StoreUnavailableError: another stays open for too long, or the database does not answer.
    """
    with database_errors():
        psycopg.ClientCursor(connection).execute(QUERIES["begin"], {"lock": lock})


def take_snapshot(connection: Connection) -> None:
    """See the database as it is now, and keep seeing it so.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    with database_errors():
        psycopg.ClientCursor(connection).execute(QUERIES["take_snapshot"])


def is_privilege_missing(connection: Connection, schema: str) -> bool:
    """Return whether the user may neither make the schema nor, where it is there, objects in it."""
    query = """
        SELECT coalesce(
            has_schema_privilege(to_regnamespace(%(schema)s), 'CREATE'),
            has_database_privilege(current_database(), 'CREATE')
        ) AS may
    """
    with database_errors():
        (row,) = connection.execute(query, {"schema": schema}).fetchall()
    return not row["may"]


def roll_back(connection: Connection) -> bool:
    """Undo the open transaction, if there is one; return whether the connection is good for another."""
    with suppress(psycopg.Error):
        if connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
            connection.execute("ROLLBACK")
        return not connection.closed
    return False


def close_quietly(connection: Connection) -> None:
    """Close a connection that may be broken; that undoes its open transaction."""
    with suppress(psycopg.Error):
        connection.close()
