"""The repository in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from videoprocess_server.model.records import Job
from videoprocess_server.store.connection_pool import ConnectionPool
from videoprocess_server.store.filesystem import refuse_network_file_system
from videoprocess_server.store.repository import Reader, StoreUnavailableError, Transaction
from videoprocess_server.store.schema import migrate
from videoprocess_server.store.sql_reader import SqlReader
from videoprocess_server.store.sql_transaction import SqlTransaction
from videoprocess_server.store.sqlite_connections import (
    Opener,
    close_quietly,
    database_errors,
    reset,
    roll_back,
    sync_log,
    take_snapshot,
)
from videoprocess_server.store.sqlite_statements import SqliteStatements
from videoprocess_server.store.turns import Turns


class SqliteRepository:
    """A database in a file of an existing local directory.

    One connection writes, under a lock, and it alone checkpoints: SQLite before 3.51.3 can damage a WAL that two
    connections checkpoint and reset at once. Keep other programs from writing to the file while the service runs.

    A COMMIT that fails is undone for every reader, but where only its fsync failed, its frames are whole in the WAL file, and
    a recovery after a crash would take them for committed. So the next write must follow at once and overwrite them:
    the fence. Until one has succeeded the outcome is in doubt and no other transaction begins. Nor is the writing
    connection ever replaced by another: where it is the only one, SQLite would run that very recovery.

    A service that was killed may have written a commit and not synced it. Recovery takes it for committed, so it is synced
    before anybody reads it.

    Args:
        path: the file, made where there is none.
        busy_timeout_seconds: how long to wait for another thread or process, each.
        reader_count: how many reads may be open at once.
        job_ended: told of each job whose end has become durable; never raises.

    Raises:
        StoreUnavailableError: the file cannot be opened, or stays locked.
        NetworkFileSystemError: the directory is on a network file system.
        SchemaTooNewError: a newer build has written the database.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_seconds: float = 5.0,
        reader_count: int = 16,
        job_ended: Callable[[Job], None] = lambda _job: None,
    ) -> None:
        refuse_network_file_system(path.parent)
        self._path = path
        self._job_ended = job_ended
        self._opener = Opener(path=path, busy_timeout_seconds=busy_timeout_seconds)
        self._readers = ConnectionPool(
            self._opener.open_reader,
            begin=take_snapshot,
            close=close_quietly,
            reset=reset,
            size=reader_count,
            timeout_seconds=busy_timeout_seconds,
        )
        self._turns = Turns(busy_timeout_seconds)
        self._in_doubt = False
        self._closed = False
        sync_log(path)
        with database_errors():
            self._writer = self._opener.open_writer()
            try:
                migrate(self._writer)
                self._identity = self._identify()
            except BaseException:
                close_quietly(self._writer)
                raise

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """See `Repository`."""
        with self._readers.lent() as connection:
            reader = SqlReader(SqliteStatements(connection))
            try:
                yield reader
            finally:
                reader.end()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See `Repository`. A second one in the same thread raises RuntimeError."""
        ended: Sequence[Job] = ()
        with self._turns.mine():
            if self._closed:
                raise StoreUnavailableError("the repository is closed")
            self._settle()
            try:
                with self._written() as transaction:
                    yield transaction
                ended = transaction.ended_jobs()
            finally:
                with suppress(StoreUnavailableError):  # the failure that led here is the one to tell
                    self._settle()
        for job in ended:
            self._job_ended(job)

    def ping(self) -> None:
        """See `Repository`."""
        if self._identify() != self._identity:
            raise StoreUnavailableError(f"{self._path} is another file than at the start")
        with self.read():
            pass
        if self._in_doubt:
            with self.transaction():
                pass

    def close(self) -> None:
        """Close all connections; reads still open keep theirs until they end. Closing again does nothing."""
        with self._turns.mine():
            if not self._closed:
                self._closed = True
                self._readers.close()
                with suppress(sqlite3.Error):  # the WAL keeps what is not checkpointed
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                close_quietly(self._writer)

    @contextmanager
    def _written(self) -> Iterator[SqlTransaction]:
        """Run a block as one transaction."""
        with database_errors():
            roll_back(self._writer)  # where that failed before
            self._writer.execute("BEGIN IMMEDIATE")
        transaction = SqlTransaction(SqliteStatements(self._writer))
        try:
            yield transaction
            transaction.raise_swallowed()
        except BaseException:
            with suppress(sqlite3.Error):
                roll_back(self._writer)
            raise
        finally:
            transaction.end()
        self._commit()

    def _commit(self) -> None:
        try:
            self._writer.execute("COMMIT")
        except (sqlite3.Error, MemoryError) as error:
            self._in_doubt = True
            with suppress(sqlite3.Error):
                roll_back(self._writer)
            raise StoreUnavailableError(f"the database could not keep a change: {error}") from error

    def _settle(self) -> None:
        """Put an end to a doubt."""
        if self._in_doubt:
            with self._written() as fence:
                fence.count_up("fence")
            self._in_doubt = False

    def _identify(self) -> tuple[int, int]:
        """Return which file there is under the path."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror}") from error
        return status.st_dev, status.st_ino
