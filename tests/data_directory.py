"""A data directory as whoever finds it sees it: its rows and its files, and whether these keep what those promise."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

DATABASE = "videoprocess.sqlite3"
#: what SQLite needs of a database; the -shm file is made anew
DATABASE_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-journal")
ENDED = {"completed", "failed", "aborted"}

Row = dict[str, Any]


@dataclass(frozen=True)
class FileContent:
    """A file's bytes, which are read and digested when asked for."""

    read: Callable[[], bytes]

    @cached_property
    def size(self) -> int:
        return len(self.read())

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.read()).hexdigest()


#: by their paths below the data directory
Files = Mapping[str, FileContent]


def files_below(root: Path) -> Files:
    """The files there are now."""
    return {
        str(path.relative_to(root)): FileContent(path.read_bytes)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Rows:
    """All rows of a database."""

    tables: Mapping[str, list[Row]]

    def __getitem__(self, table: str) -> list[Row]:
        return self.tables.get(table, [])

    def find(self, table: str, **columns: Any) -> Row | None:
        """The row with these values; there is at most one."""
        found = [row for row in self[table] if columns.items() <= row.items()]
        assert len(found) <= 1, found
        return found[0] if found else None


class DamagedDatabaseError(Exception):
    """The database does not open, or is not what it was."""


def read_rows(files: Files) -> Rows:
    """Opens a copy of the database, as a service would that comes after a crash.

    Raises:
        DamagedDatabaseError: it cannot be read, or its pages contradict each other.
    """
    if DATABASE not in files:
        return Rows({})
    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        for name in DATABASE_FILES:
            if name in files:
                (Path(folder) / name).write_bytes(files[name].read())
        try:
            return _read(Path(folder) / DATABASE)
        except sqlite3.DatabaseError as error:
            raise DamagedDatabaseError(str(error)) from error


def _read(path: Path) -> Rows:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA synchronous = OFF")  # it is a copy
        connection.row_factory = sqlite3.Row
        found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise DamagedDatabaseError("; ".join(found))
        if broken := connection.execute("PRAGMA foreign_key_check").fetchall():
            raise DamagedDatabaseError(f"foreign keys: {[tuple(row) for row in broken]}")
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return Rows(
            {name: [_whole(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in names}
        )
    finally:
        connection.close()


def _whole(row: sqlite3.Row) -> Row:
    """Columns and document are one record."""
    columns = dict(row)
    return columns | json.loads(columns.pop("document", "{}"))


def named_files(rows: Rows) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every file that a row promises."""
    named = {}
    for upload in rows["uploads"]:
        if upload["state"] == "finished":
            named[f"uploads/{upload['blob_key'] or upload['upload_id']}"] = (
                upload["size_bytes"],
                upload["sha256"],
            )
    for segment in rows["segments"]:
        if segment["state"] == "done":
            named[f"segments/{segment['path']}"] = (segment["size_bytes"], segment["sha256"])
    for artifact in rows["artifacts"]:
        named[f"results/{artifact['artifact_id']}"] = (artifact["size_bytes"], artifact["sha256"])
    return named


def broken_promises(rows: Rows, files: Files) -> Iterator[str]:
    """What the rows say that is not so."""
    for path, (size_bytes, sha256) in named_files(rows).items():
        if path not in files:
            yield f"{path} is not there"
        elif (files[path].size, files[path].sha256) != (size_bytes, sha256):
            yield f"{path} has other bytes than its row says"
    yield from _broken_events(rows)


def _broken_events(rows: Rows) -> Iterator[str]:
    """G1, as far as rows tell it: numbers without a gap, one event for each job that has ended, none for others."""
    events = Counter(event["job_id"] for event in rows["events"])
    for job in rows["jobs"]:
        if events.pop(job["job_id"], 0) != (job["state"] in ENDED):
            yield f"job {job['job_id']} is {job['state']} with another number of terminal events than that has"
    for job_id in events:
        yield f"an event of job {job_id}, which is not there"
    for counter in rows["user_counters"]:
        numbers = sorted(row["sequence"] for row in rows["events"] if row["user_id"] == counter["user_id"])
        if numbers != list(range(1, counter["last_event_sequence"] + 1)):
            yield f"user {counter['user_id']} has events {numbers}, the newest number is {counter['last_event_sequence']}"


def strays(rows: Rows, root: Path) -> Iterator[str]:
    """Files that no row names, and files that are in two places."""
    named = set(named_files(rows))
    named |= {f"uploads/{upload['blob_key'] or upload['upload_id']}" for upload in rows["uploads"]}
    buried = {f"{stone['kind']}/{stone['key']}" for stone in rows["tombstones"]}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and path.stat().st_nlink != 1:
            yield f"{name} has {path.stat().st_nlink} names"
        if path.parent == root or any(name == key or name.startswith(f"{key}/") for key in buried):
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                yield f"{name} is an empty folder"
        elif name not in named:
            yield f"{name} is named by no row"
    known = {
        "lock",
        *DATABASE_FILES,
        f"{DATABASE}-shm",
        "uploads",
        "segments",
        "results",
        "work",
        "gates",
        "fd.sock",
        "service.json",
    }
    yield from (f"{name} is not known" for name in sorted({path.name for path in root.iterdir()} - known))
