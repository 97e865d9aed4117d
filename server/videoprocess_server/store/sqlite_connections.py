"""SQLite connections: how one is opened, what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from videoprocess_server.store.repository import ConflictError, StoreUnavailableError

_WAL_SIZE_LIMIT_BYTES = 64 << 20  # what a WAL file is cut back to once its frames are in the database


@dataclass(frozen=True, kw_only=True)
class Opener:
    """Opens connections to one database file."""

    path: Path
    #: how long a statement waits for a lock of another connection or process
    busy_timeout_seconds: float

    def open_writer(self) -> sqlite3.Connection:
        """Open the connection that writes; the file is made where there is none, with a write-ahead log in any case."""
        connection = self._open("rwc", "PRAGMA journal_mode = WAL", "PRAGMA foreign_keys = ON")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.close()
            raise StoreUnavailableError(f"{self.path} cannot have a write-ahead log")
        return connection

    def open_reader(self) -> sqlite3.Connection:
        """Open a connection that only reads. It never checkpoints either: see `SqliteRepository`."""
        with database_errors():
            return self._open("rw", "PRAGMA query_only = ON")

    def _open(self, mode: str, *pragmas: str) -> sqlite3.Connection:
        # isolation_level None: BEGIN and COMMIT are ours alone. Locks of ours keep a connection to one thread at a time.
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self.busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.row_factory = sqlite3.Row
            for pragma in (
                *pragmas,
                "PRAGMA synchronous = FULL",
                f"PRAGMA journal_size_limit = {_WAL_SIZE_LIMIT_BYTES}",
            ):
                connection.execute(pragma).fetchall()
        except BaseException:
            connection.close()
            raise
        return connection


def sync_log(path: Path) -> None:
    """Make the write-ahead log of a database durable, and its name, where there is one.

    Raises:
        StoreUnavailableError: it cannot be read or synced.
    """
    try:
        for name in (path.with_name(f"{path.name}-wal"), path.parent):
            if name.exists():
                _fsync(name)
    except OSError as error:
        raise StoreUnavailableError(f"{error.filename or path}: {error.strerror}") from error


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what SQLite says into what a repository says.

    Raises:
        ConflictError: a constraint refused the change.
        StoreUnavailableError: locked, full, failing, read-only, gone or damaged.
        sqlite3.Error: as it is, where the statement itself is wrong.
    """
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise ConflictError(str(error)) from error
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.NotSupportedError):
        raise
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise
        raise StoreUnavailableError(f"the database is unavailable: {error}") from error


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the open transaction, if there is one: a full disk may have ended it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def close_quietly(connection: sqlite3.Connection) -> None:
    """Close a connection that may be broken; that undoes its open transaction."""
    with suppress(sqlite3.Error):
        connection.close()


def reset(connection: sqlite3.Connection) -> bool:
    """End what was open on it; return whether that went well."""
    try:
        roll_back(connection)
    except sqlite3.Error:
        return False
    return True


def take_snapshot(connection: sqlite3.Connection) -> None:
    """See the database as it is now, and keep seeing it so.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    with database_errors():
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # BEGIN alone takes no snapshot
