"""What is SQLite's own: the file, its locks, its disk."""

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

from videoprocess_server.store.repository import StoreUnavailableError
from videoprocess_server.store.sqlite import SqliteRepository


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

    @pytest.mark.slow
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

    @pytest.mark.slow
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
