"""What is SQLite's own: the schema, and where it may be kept."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from repository_records import a_video

from videoprocess_server.store import filesystem
from videoprocess_server.store.filesystem import NetworkFileSystemError, file_system_type
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sql import MIGRATIONS, QUERIES, parse_queries
from videoprocess_server.store.sqlite import SqliteRepository

SCHEMA = Path(filesystem.__file__).parent / "sql" / "schema.sql"


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "odd %20?#name.sqlite3"


@pytest.fixture(name="repository")
def _repository(path: Path) -> Iterator[SqliteRepository]:
    repository = SqliteRepository(path)
    yield repository
    repository.close()


class TestSchema:
    def test_the_migrations_add_up_to_the_schema(self, repository: SqliteRepository, path: Path) -> None:
        """After a new migration, write the printed dump into schema.sql."""
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(
                "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid"
            ).fetchall()
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        dump = "\n\n".join(f"{sql};" for (sql,) in rows) + "\n"
        assert SCHEMA.read_text().split("\n\n", 1)[1] == dump
        assert version == MIGRATIONS[-1].version

    def test_a_newer_schema_is_refused_and_left_alone(self, path: Path) -> None:
        newer = MIGRATIONS[-1].version + 1
        SqliteRepository(path).close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {newer}")
        with pytest.raises(SchemaTooNewError, match=f"version {newer}, .* up to {newer - 1}"):
            SqliteRepository(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone()[0] == newer

    def test_a_migration_that_fails_leaves_nothing(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE requests (x)")
        with pytest.raises(sqlite3.OperationalError):
            SqliteRepository(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("requests",)]

    def test_two_processes_open_a_new_database_at_once(self, path: Path) -> None:
        with ThreadPoolExecutor(4) as threads:
            for repository in threads.map(lambda _: SqliteRepository(path), range(4)):
                repository.close()

    def test_every_query_has_a_description_and_a_name_of_its_own(self) -> None:
        assert "get_video" in QUERIES
        for bad in (
            "-- name: a\nSELECT 1;\n",
            "-- name: a\n-- A.\nSELECT 1;\n-- name: a\n-- A.\nSELECT 1;\n",
        ):
            with pytest.raises(ValueError, match="query a"):
                parse_queries(bad)

    def test_a_page_of_many_videos_is_read_from_the_index_without_sorting(
        self, repository: SqliteRepository, path: Path
    ) -> None:
        with repository.transaction() as transaction:
            for number in range(10_000):
                transaction.put_video(a_video(f"v{number}", create_time_us=number))
        with repository.read() as reader:
            started = time.process_time()
            after = None
            pages = 0
            while part := reader.list_videos(1, after=after, limit=100):
                after, pages = (part[-1].create_time_us, part[-1].video_id), pages + 1
            assert pages == 100
            assert (
                time.process_time() - started < 5
            )  # 0.2 s; seconds where each page reads what lies before it
        parameters = dict.fromkeys(
            ["user_id", "after_time_us", "after_video_id", "id_from", "id_to", "limit"]
        )
        with closing(sqlite3.connect(path)) as connection:
            plan = str(
                connection.execute(f"EXPLAIN QUERY PLAN {QUERIES['list_videos']}", parameters).fetchall()
            )
        assert "videos_by_time (user_id=? AND (create_time_us,video_id)>(?,?))" in plan
        assert "TEMP B-TREE" not in plan


class TestFileSystem:
    MOUNTS = (
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "23 22 0:40 / /srv/my\\040data rw shared:1 - nfs4 server:/x rw\n"
        "24 22 0:41 / /mnt/ssh rw - fuse.sshfs me@host:/ rw\n"
        "25 23 0:42 / /srv/my\\040data/local rw - xfs /dev/vdb rw\n"
        "26 22 0:43 / /twice rw - ext4 /dev/vdc rw\n"
        "27 22 0:44 / /twice rw - cifs //server/x rw\n"
    )

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/", "ext4"),
            ("/srv/my", "ext4"),
            ("/srv/my data", "nfs4"),
            ("/srv/my database", "ext4"),
            ("/srv/my data/a/b", "nfs4"),
            ("/srv/my data/local/a", "xfs"),
            ("/mnt/ssh/a", "fuse.sshfs"),
            ("/twice", "cifs"),
        ],
    )
    def test_the_innermost_mount_decides(self, path: str, expected: str) -> None:
        assert file_system_type(Path(path), self.MOUNTS) == expected

    @pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph"])
    def test_a_network_file_system_is_refused(
        self, kind: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mounts = tmp_path / "mountinfo"
        mounts.write_text(f"22 1 0:40 / / rw - {kind} server:/ rw\n")
        monkeypatch.setattr(filesystem, "_MOUNTS", mounts)
        with pytest.raises(NetworkFileSystemError, match="local disk"):
            SqliteRepository(path)
        assert not path.exists()
