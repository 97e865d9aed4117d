"""What a killed service left on the disk: rows and files, looked at without changing them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

DATABASE = "videoprocess.sqlite3"
#: rows of segments are deleted with their plan: what they said last
_WITNESS = """
CREATE TABLE witness (plan_id TEXT, "index" INTEGER, attempt_count INTEGER);
CREATE TRIGGER witness AFTER DELETE ON segments BEGIN
    INSERT INTO witness VALUES (old.plan_id, old."index", old.attempt_count);
END;
"""


def rows(data_dir: Path, query: str) -> list[tuple[Any, ...]]:
    """Reads the rows of a service that is dead or stopped.

    Of a copy: a dead one's database would be recovered, and thereby changed, when it is opened.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in (DATABASE, f"{DATABASE}-wal"):
            if (data_dir / name).exists():
                shutil.copy(data_dir / name, folder)
        with closing(sqlite3.connect(Path(folder) / DATABASE)) as connection:
            return connection.execute(query).fetchall()


def files(data_dir: Path, kind: str) -> list[Path]:
    """All files of a kind of blob, such as `segments`; the service may be deleting some meanwhile."""
    return [Path(folder) / name for folder, _, names in os.walk(data_dir / kind) for name in names]


def call_witness(data_dir: Path) -> None:
    """Has the database of a service that does not run remember how often each segment was attempted."""
    with closing(sqlite3.connect(data_dir / DATABASE)) as connection:
        connection.executescript(_WITNESS)


def attempts(data_dir: Path) -> dict[tuple[str, int], int]:
    """How often each segment of each plan that is gone was attempted, as the witness has it."""
    found = rows(data_dir, 'SELECT plan_id, "index", attempt_count FROM witness')
    return {(plan_id, index): count for plan_id, index, count in found}


def open_segments(data_dir: Path) -> frozenset[tuple[str, int]]:
    """The segments that are leased: a worker makes them, or will."""
    found = rows(data_dir, """SELECT plan_id, "index" FROM segments WHERE state = 'leased'""")
    return frozenset(found)
