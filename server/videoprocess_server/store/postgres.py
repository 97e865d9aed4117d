"""The repository in a schema of a PostgreSQL database, which several processes may share."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import psycopg

from videoprocess_server.model.records import Job
from videoprocess_server.store.connection_pool import ConnectionPool
from videoprocess_server.store.postgres_connections import (
    Connection,
    Opener,
    begin,
    close_quietly,
    one_line,
    roll_back,
    take_snapshot,
)
from videoprocess_server.store.postgres_notices import PostgresNotices
from videoprocess_server.store.postgres_schema import migrate
from videoprocess_server.store.postgres_statements import PostgresStatements
from videoprocess_server.store.repository import (
    CommitInDoubtError,
    Reader,
    StoreUnavailableError,
    Transaction,
)
from videoprocess_server.store.sql.postgres import QUERIES
from videoprocess_server.store.sql_reader import SqlReader
from videoprocess_server.store.sql_transaction import SqlTransaction
from videoprocess_server.store.turns import Turns

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


@dataclass(kw_only=True)
class _Doubt:
    """A change of which nobody knows whether it was kept, since the connection was lost in its COMMIT."""

    change_number: int
    ended_jobs: Sequence[Job]
    #: None until it is known
    kept: bool | None = None


class PostgresRepository(PostgresNotices):
    """A schema, made where there is none.

    Changes of all processes are serialised by one advisory lock of the schema, which each takes as its first statement. Reads are
    snapshots on connections of their own, and wait for nobody.

    A COMMIT whose connection is lost may have been kept. Each change notes its number in the row of its process (`writers`), so a
    new connection finds out, once it has the lock: then the lost session has ended. Nobody else changes that row, and unlike a
    transaction's id the number is never given twice, whatever crash comes between. What is not found out within
    `settle_seconds` is told as unavailable, and settled before the next change.

    Args:
        url: postgresql://…
        schema: where all objects are.
        busy_timeout_seconds: how long to wait for another thread, process or connection, each.
        settle_seconds: how long to wait for a server that went away in a COMMIT.
        reader_count: how many reads may be open at once.
        job_ended: told of each job whose end has become durable; never raises.

    Raises:
        StoreUnavailableError: the server does not answer, or lets nobody in.
        UnfitDatabaseError: the address, the server or the database is of no use.
        SchemaTooNewError: a newer build has made the schema.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "videoprocess",
        busy_timeout_seconds: float = 5.0,
        settle_seconds: float = 30.0,
        reader_count: int = 16,
        job_ended: Callable[[Job], None] = lambda _job: None,
    ) -> None:
        super().__init__(Opener(url=url, schema=schema, busy_timeout_seconds=busy_timeout_seconds))
        self._settle_seconds = settle_seconds
        self._job_ended = job_ended
        self._readers = ConnectionPool(
            self._opener.open,
            begin=take_snapshot,
            close=close_quietly,
            reset=roll_back,
            size=reader_count,
            timeout_seconds=busy_timeout_seconds,
        )
        self._turns = Turns(busy_timeout_seconds)
        self._lock = int.from_bytes(
            hashlib.sha256(f"videoprocess {schema}".encode()).digest()[:8], signed=True
        )
        self._writer: Connection | None = None
        self._writer_id = uuid.uuid4().hex
        self._change_number = 0
        self._doubt: _Doubt | None = None
        self._closing = threading.Event()
        #: of these rows, wherever they move: the same for all who share them
        self.database_id = migrate(self._opener, self._lock)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """See `Repository`."""
        with self._readers.lent() as connection:
            reader = SqlReader(PostgresStatements(connection))
            try:
                yield reader
            finally:
                reader.end()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See `Repository`. A second one in the same thread raises RuntimeError."""
        ended: list[Job] = []
        with self.writing(ended) as connection:
            transaction = SqlTransaction(PostgresStatements(connection))
            try:
                yield transaction
                transaction.raise_swallowed()
            finally:
                transaction.end()
            ended += transaction.ended_jobs()
        for job in ended:
            self._job_ended(job)

    @contextmanager
    def writing(self, ended_jobs: Sequence[Job] = ()) -> Iterator[Connection]:
        """Lend the connection that writes, with a change begun that is durable when the block ends.

        Args:
            ended_jobs: those that the change has ended when the block ends.

        Raises:
            StoreUnavailableError: it could not be begun, or not made durable.
            CommitInDoubtError: nobody knows whether it is durable.
        """
        with self._turns.mine():
            if self._closing.is_set():
                raise StoreUnavailableError("the repository is closed")
            self._settle_earlier()
            connection = self._begun()
            try:
                yield connection
            except BaseException:
                roll_back(connection)
                raise
            self._commit(connection, ended_jobs)

    def ping(self) -> None:
        """See `Repository`."""
        with self.read():
            pass
        if self._doubt:
            with self.transaction():
                pass

    def server_now_us(self) -> int:
        """Return the server's clock, microseconds since 1970.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        with self._readers.lent() as connection:
            ((now_us,),) = (row.values() for row in PostgresStatements(connection).rows("server_now_us", {}))
        return int(now_us)

    def close(self) -> None:
        """Close all connections; reads still open keep theirs until they end. Closing again does nothing."""
        self._closing.set()
        self.close_notices()
        with self._turns.mine():
            self._readers.close()
            if self._writer is not None:
                with suppress(psycopg.Error):
                    self._writer.execute(QUERIES["delete_writer"], {"writer_id": self._writer_id})
                self._drop_writer()

    def _begun(self) -> Connection:
        """Return the writing connection with a change begun; one that was lost meanwhile is replaced."""
        if self._writer is not None and roll_back(self._writer):  # what an interrupt left open
            try:
                begin(self._writer, self._lock)
            except StoreUnavailableError:
                if roll_back(self._writer):
                    raise
            else:
                return self._writer
        self._drop_writer()
        self._writer = self._opener.open()
        try:
            begin(self._writer, self._lock)
        except BaseException:
            self._drop_writer()
            raise
        return self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            close_quietly(self._writer)
            self._writer = None

    def _commit(self, connection: Connection, ended_jobs: Sequence[Job]) -> None:
        self._change_number += 1
        parameters = {"writer_id": self._writer_id, "change_number": self._change_number}
        try:
            psycopg.ClientCursor(connection).execute(QUERIES["commit"], parameters)
        except psycopg.Error as error:
            if roll_back(connection):
                raise StoreUnavailableError(
                    f"the database could not keep a change: {one_line(error)}"
                ) from error
            self._drop_writer()
            self._doubt = _Doubt(change_number=self._change_number, ended_jobs=ended_jobs)
            if not self._settle_patiently(self._doubt):
                raise StoreUnavailableError(
                    "the database was lost in a COMMIT, which it did not keep"
                ) from error

    def _settle_patiently(self, doubt: _Doubt) -> bool:
        """Find out whether the last change was kept; the server may take a while to come back.

        Raises:
            CommitInDoubtError: it did not come back in time.
        """
        deadline, pause_seconds = time.monotonic() + self._settle_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._settle()
            except StoreUnavailableError as error:
                if time.monotonic() >= deadline or self._closing.wait(pause_seconds):
                    raise CommitInDoubtError(
                        f"the database was lost in a COMMIT, and it is not known yet whether that was kept: {error}",
                        partial(self._was_kept, doubt),
                    ) from error
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _was_kept(self, doubt: _Doubt) -> bool:
        with self._turns.mine():
            if self._closing.is_set():
                raise StoreUnavailableError("the repository is closed")
            self._settle_earlier()
            assert doubt.kept is not None
            return doubt.kept

    def _settle_earlier(self) -> None:
        """Find out about a change that was given up, and tell of the jobs that it ended after all."""
        if (doubt := self._doubt) and self._settle():
            for job in doubt.ended_jobs:
                self._job_ended(job)

    def _settle(self) -> bool:
        """Put an end to a doubt: with the lock, the session that was lost has ended."""
        assert self._doubt is not None
        connection = self._begun()
        try:
            found = PostgresStatements(connection).rows("get_change", {"writer_id": self._writer_id})
        finally:
            roll_back(connection)
        kept = any(row["change_number"] == self._doubt.change_number for row in found)
        self._doubt.kept, self._doubt = kept, None
        return kept
