"""Looks into a database without being its service: nothing is changed, made or recovered there."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from videoprocess_server.model.records import Job
from videoprocess_server.store.codec import from_row
from videoprocess_server.store.sql import MIGRATIONS

#: what SQLite needs of a database; the index of the log is made anew
_FILES = ("", "-wal")
#: a service that begins just when its files are copied
_TRIES = 3
_BUSY_SECONDS = 5.0
#: a person asks for these, once: they may read whole tables, as the service's own queries may not
LAST_JOBS = "SELECT * FROM jobs ORDER BY accept_number DESC LIMIT ?"
COUNTS = {
    "jobs": "SELECT state, count(*) FROM jobs GROUP BY state",
    "videos": "SELECT state, count(*) FROM videos GROUP BY state",
    "segments": "SELECT state, count(*) FROM segments GROUP BY state",
    "uploads": "SELECT state, count(*) FROM uploads GROUP BY state",
    "events": "SELECT kind, count(*) FROM events GROUP BY kind",
    "sessions": "SELECT CASE WHEN close_time_us IS NULL THEN 'open' ELSE 'closed' END AS state, count(*) FROM sessions GROUP BY 1",
    "tombstones": "SELECT kind, count(*) FROM tombstones GROUP BY kind",
}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What there is."""

    #: of the database, and the newest that this build knows
    schema_version: int
    known_version: int
    #: table → state or kind → rows; empty where the schema is another
    counts: Mapping[str, Mapping[str, int]]
    #: those that were accepted last, the newest first; empty where the schema is another
    jobs: Sequence[Job]
    #: what SQLite's quick check found, "ok" for nothing; of PostgreSQL that it answers
    check: str


def is_in_use(lock: Path) -> bool:
    """Return whether a service has the data directory of this lock; taken, if at all, for an instant."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def inspect(database: Path, in_use: Callable[[], bool], most_jobs: int) -> Inspection:
    """Look into a database.

    Args:
        database: its file.
        in_use: tells whether a service has it. If so this is one reader more of that service; if not, a copy is read, since
            opening the files themselves would recover the log and leave an index that belongs to whoever looked.
        most_jobs: that are read.

    Raises:
        sqlite3.Error: it cannot be read.
        OSError: its files cannot be.
    """
    with _connected(database, in_use) as connection:
        connection.execute("BEGIN")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        known = MIGRATIONS[-1].version
        same = found == known
        return Inspection(
            schema_version=found,
            known_version=known,
            counts={table: dict(connection.execute(sql).fetchall()) for table, sql in COUNTS.items() if same},
            jobs=_jobs(connection, most_jobs) if same else (),
            check=str(connection.execute("PRAGMA quick_check(1)").fetchone()[0]),
        )


def _jobs(connection: sqlite3.Connection, most: int) -> Sequence[Job]:
    cursor = connection.execute(LAST_JOBS, (most,))
    names = [column[0] for column in cursor.description]
    return [from_row(Job, dict(zip(names, row, strict=True))) for row in cursor]


@contextmanager
def _connected(database: Path, in_use: Callable[[], bool]) -> Iterator[sqlite3.Connection]:
    if in_use():
        with closing(_open(database)) as connection:
            yield connection
        return
    with tempfile.TemporaryDirectory(prefix="videoprocess-support-") as folder:
        for _ in range(_TRIES):
            copy = Path(folder, database.name)
            _copy(database, copy)
            if not in_use():
                break
        with closing(_open(copy)) as connection:
            yield connection


def _copy(database: Path, copy: Path) -> None:
    for ending in _FILES:
        source = database.with_name(database.name + ending)
        target = copy.with_name(copy.name + ending)
        target.unlink(missing_ok=True)
        if source.exists() or not ending:
            shutil.copyfile(source, target)


def _open(database: Path) -> sqlite3.Connection:
    """Open a database to read it. Of a reader no log is ever checkpointed."""
    return sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
    )
