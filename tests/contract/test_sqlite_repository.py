"""What is SQLite's own: the file, its locks, its disk, its schema."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from repository_records import a_plan, a_video, some_segments

from videoprocess_server.store import filesystem
from videoprocess_server.store.filesystem import NetworkFileSystemError, file_system_type
from videoprocess_server.store.repository import StoreUnavailableError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sql import MIGRATIONS, QUERIES, parse_queries
from videoprocess_server.store.sqlite import SqliteRepository

SCHEMA = Path(filesystem.__file__).parent / "sql" / "schema.sql"


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "odd %20?#name.sqlite3"


@pytest.fixture(name="repository")
def _repository(path: Path) -> Iterator[SqliteRepository]:
    repository = SqliteRepository(path, busy_timeout_seconds=0.3, reader_count=4)
    yield repository
    repository.close()


def run_child(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


def video_ids(repository: SqliteRepository) -> list[str]:
    with repository.read() as reader:
        return [video.video_id for video in reader.list_videos(1, limit=99)]


def put(repository: SqliteRepository, video_id: str, segment_count: int = 0) -> None:
    with repository.transaction() as transaction:
        transaction.put_video(a_video(video_id))
        transaction.add_plan(a_plan(video_id), some_segments(segment_count, video_id))


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
            ["user_id", "after_time_us", "after_video_id", "states", "id_from", "id_to", "limit"]
        )
        with closing(sqlite3.connect(path)) as connection:
            plan = str(
                connection.execute(f"EXPLAIN QUERY PLAN {QUERIES['list_videos']}", parameters).fetchall()
            )
        assert "videos_by_time (user_id=? AND (create_time_us,video_id)>(?,?))" in plan
        assert "TEMP B-TREE" not in plan


class TestFile:
    def test_it_is_durable_by_its_settings(self, repository: SqliteRepository) -> None:
        pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 300}
        assert {
            name: repository._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas
        } == pragmas

    def test_closing_leaves_one_file(self, path: Path) -> None:
        repository = SqliteRepository(path)
        put(repository, "v")
        repository.close()
        assert list(path.parent.iterdir()) == [path]

    def test_threads_that_come_and_go_leave_no_connection(self, repository: SqliteRepository) -> None:
        for _ in range(5):
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(lambda _: video_ids(repository), range(20)))
        mine = [
            file
            for file in psutil.Process().open_files()
            if "odd %20" in file.path and file.path.endswith("sqlite3")
        ]
        assert len(mine) <= 1 + 4

    def test_reads_beyond_the_pool_end_in_time(self, repository: SqliteRepository) -> None:
        with ExitStack() as reads:
            for _ in range(4):
                reads.enter_context(repository.read())
            with pytest.raises(StoreUnavailableError), repository.read():
                pass
        assert video_ids(repository) == []

    def test_a_file_that_is_gone_or_another_fails_the_ping(
        self, repository: SqliteRepository, path: Path
    ) -> None:
        repository.ping()
        moved = path.rename(path.with_name("moved"))
        with pytest.raises(StoreUnavailableError):
            repository.ping()
        path.touch()
        with pytest.raises(StoreUnavailableError):
            repository.ping()
        path.unlink()
        moved.rename(path)
        repository.ping()

    def test_what_is_no_database_or_has_no_directory_is_refused(self, path: Path) -> None:
        path.write_bytes(b"no database" * 1000)
        for bad in (path, path.parent / "missing" / "x"):
            with pytest.raises(StoreUnavailableError):
                SqliteRepository(bad)

    def test_a_read_only_database_takes_no_change(self, repository: SqliteRepository) -> None:
        repository._writer.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreUnavailableError):
            put(repository, "v")


class TestOtherProcesses:
    def test_locked_by_another_process_it_is_unavailable_in_time_and_works_after(
        self, repository: SqliteRepository, path: Path
    ) -> None:
        script = """
            import sqlite3, sys
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)
            connection.execute("BEGIN EXCLUSIVE")
            print("locked", flush=True)
            sys.stdin.read()
        """
        with run_child(script, path) as child:
            assert child.stdout
            assert child.stdout.readline() == "locked\n"
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                put(repository, "v")
            with pytest.raises(StoreUnavailableError):
                SqliteRepository(path, busy_timeout_seconds=0.3)
            assert time.monotonic() - started < 5
            child.communicate()
        put(repository, "v")
        assert video_ids(repository) == ["v"]

    def test_a_transaction_that_takes_too_long_does_not_hold_up_others_for_ever(
        self, repository: SqliteRepository
    ) -> None:
        with repository.transaction(), ThreadPoolExecutor(1) as threads:
            assert isinstance(threads.submit(put, repository, "v").exception(), StoreUnavailableError)

    def test_killed_while_it_writes_and_checkpoints_it_is_whole(self, path: Path) -> None:
        script = """
            import pathlib, sys
            from repository_records import a_plan, an_event, some_segments
            from videoprocess_server.store.sqlite import SqliteRepository
            repository = SqliteRepository(pathlib.Path(sys.argv[1]))
            for number in range(int(sys.argv[2]), 1_000_000):
                with repository.transaction() as transaction:
                    transaction.add_plan(a_plan(str(number)), some_segments(200, str(number)))
                    sequence = transaction.append_event(an_event(str(number))).sequence
                print(sequence, flush=True)
        """
        kept = 0
        for announced in (5, 30, 60):
            with run_child(script, path, kept) as child:
                assert child.stdout
                for _ in range(announced):
                    last = int(child.stdout.readline())
                child.send_signal(signal.SIGKILL)
                last += len([line for line in child.stdout if line.endswith("\n")])
            repository = SqliteRepository(path)
            with repository.read() as reader:
                kept = reader.event_bounds(1)[1]
                assert last <= kept <= last + 1
                assert len(reader.list_all_plan_ids()) == len(reader.list_events(1, 0, 10_000)) == kept
            repository.close()
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class TestDisk:
    def test_a_full_disk_changes_nothing_and_work_goes_on_after(self, repository: SqliteRepository) -> None:
        put(repository, "first")
        repository._writer.execute(f"PRAGMA max_page_count = {2**20}")
        pages = repository._writer.execute("PRAGMA page_count").fetchone()[0]
        repository._writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailableError, match="full"):
            put(repository, "lost", 5000)
        repository._writer.execute(f"PRAGMA max_page_count = {2**20}")
        put(repository, "second", 5000)
        assert video_ids(repository) == ["first", "second"]

    def test_a_write_that_fails_changes_nothing_and_work_goes_on_after(self, path: Path) -> None:
        """The file size limit fails COMMIT itself: that is where the log is written."""
        script = """
            import pathlib, resource, signal, sys
            from repository_records import a_video
            from test_sqlite_repository import put, video_ids
            from videoprocess_server.store.repository import StoreUnavailableError
            from videoprocess_server.store.sqlite import SqliteRepository
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            path = pathlib.Path(sys.argv[1])
            repository = SqliteRepository(path)
            put(repository, "first")
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(path.name + "-wal").stat().st_size + 99, limits[1]))
            try:
                put(repository, "lost", 500)
            except StoreUnavailableError:
                print("unavailable", flush=True)
            print(video_ids(repository))
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            put(repository, "second", 500)
            print(video_ids(repository))
        """
        with run_child(script, path) as child:
            answer, _ = child.communicate()
        assert answer.splitlines() == ["unavailable", "['first']", "['first', 'second']"]

    @pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler to make fsync fail")
    def test_a_commit_whose_fsync_failed_does_not_come_back_after_a_crash(
        self, path: Path, tmp_path: Path
    ) -> None:
        """SQLite had written its frames whole; recovery took them for committed, though its caller was told it failed."""
        source = tmp_path / "fail.c"
        source.write_text(_FAILING_SYNC)
        library, switch = tmp_path / "fail.so", tmp_path / "fail"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        script = """
            import os, pathlib, signal, sys
            from test_sqlite_repository import put
            from videoprocess_server.store.repository import StoreUnavailableError
            from videoprocess_server.store.sqlite import SqliteRepository
            repository = SqliteRepository(pathlib.Path(sys.argv[1]))
            put(repository, "first")
            if "reader" in sys.argv[2]:
                repository.ping()
            pathlib.Path(os.environ["FAIL_SYNC"]).touch()
            for attempt in (lambda: put(repository, "lost"), repository.ping):
                try:
                    attempt()
                except StoreUnavailableError:
                    print("unavailable", flush=True)
            if "heal" in sys.argv[2]:
                pathlib.Path(os.environ["FAIL_SYNC"]).unlink()
                repository.ping()
                put(repository, "second")
            os.kill(os.getpid(), signal.SIGKILL)
        """
        for mode, expected in {
            "crash": ["first"],
            "crash with a reader": ["first"],
            "heal": ["first", "second"],
            "heal with a reader": ["first", "second"],
        }.items():
            switch.unlink(missing_ok=True)
            database = path.with_name(mode)
            with run_child(script, database, mode, LD_PRELOAD=str(library), FAIL_SYNC=str(switch)) as child:
                answer, _ = child.communicate()
            assert answer.splitlines() == ["unavailable", "unavailable"]
            repository = SqliteRepository(database)
            assert video_ids(repository) == expected
            repository.close()


_FAILING_SYNC = """
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int sync_file(long call, int fd) {
    if (access(getenv("FAIL_SYNC"), F_OK) == 0) { errno = EIO; return -1; }
    return syscall(call, fd);
}
int fsync(int fd) { return sync_file(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }
"""


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
