"""What is SQLite's own: the schema, and where it may be kept."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from repository_records import a_job, a_plan, a_video, an_event, an_upload

from videoprocess_server.model.records import Priority, SegmentRecord
from videoprocess_server.model.states import JobState, SegmentState, UploadState, VideoState
from videoprocess_server.store import filesystem
from videoprocess_server.store.filesystem import NetworkFileSystemError, file_system_type
from videoprocess_server.store.repository import Reader, Transaction
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sql import MIGRATIONS, QUERIES, parse_queries
from videoprocess_server.store.sql_reader import SqlReader
from videoprocess_server.store.sqlite import SqliteRepository
from videoprocess_server.store.sqlite_statements import SqliteStatements

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


class TestCosts:
    #: what reads an index or a table from one end to the other; nothing else does, and nothing sorts
    WHOLE: ClassVar = {
        "count_active_jobs": ["SCAN active_jobs"],
        "count_videos_of_upload": ["SCAN CONSTANT ROW"],
        "count_open_sessions": ["SCAN sessions USING INDEX sessions_open_by_user"],
        "delete_events_before": ["SCAN user_counters", "SCAN expired", "SCAN expired"],
        "event_bounds": ["SCAN CONSTANT ROW"],
        "lease_segments": ["SCAN json_each VIRTUAL TABLE INDEX 1:"] * 2,
        "list_active_jobs": ["SCAN jobs USING INDEX jobs_active_by_acceptance"],
        "list_active_uploads_among": ["SCAN json_each VIRTUAL TABLE INDEX 1:"],
        "list_active_users": ["SCAN active_jobs"],
        "list_all_artifact_ids": ["SCAN artifacts USING COVERING INDEX sqlite_autoindex_artifacts_1"],
        "list_all_plan_ids": ["SCAN plans USING COVERING INDEX sqlite_autoindex_plans_1"],
        "list_all_uploads": ["SCAN uploads USING INDEX sqlite_autoindex_uploads_1"],
        "list_replicas": ["SCAN replicas"],
        "list_running_jobs": ["SCAN jobs USING INDEX jobs_running"],
        "list_stale_plans": ["SCAN plans USING INDEX plans_by_video"],
        "list_tombstones": ["SCAN tombstones USING COVERING INDEX tombstones_by_time"],
        "stored_bytes": ["SCAN stored_sizes"],
    }

    @pytest.mark.parametrize("query", QUERIES)
    def test_a_query_looks_up_what_it_needs(
        self, repository: SqliteRepository, path: Path, query: str
    ) -> None:
        parameters = dict.fromkeys(re.findall(r":(\w+)", QUERIES[query]))
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {QUERIES[query]}", parameters).fetchall()
        steps = [step for *_, step in rows]
        assert [step for step in steps if step.startswith("SCAN")] == self.WHOLE.get(query, [])
        assert [step for step in steps if "TEMP B-TREE" in step or "AUTOMATIC" in step] == []

    @pytest.mark.parametrize(
        ("query", "index"),
        {
            "list_queue_head": "jobs USING INDEX jobs_queue (user_id=?)",
            "get_oldest_queued": "jobs USING INDEX jobs_active_by_user (user_id=?)",
            "list_expired_uploads": "videos USING INDEX videos_by_upload (<expr>=?)",
            "count_videos_of_upload": "videos USING INDEX videos_by_companion_upload (<expr>=?)",
            "list_videos_in_state": (
                "videos USING INDEX videos_by_state (user_id=? AND state=? AND (create_time_us,video_id)>(?,?))"
            ),
            "list_positions_in_state": (
                "videos USING COVERING INDEX videos_by_state"
                " (user_id=? AND state=? AND (create_time_us,video_id)>(?,?))"
            ),
            "delete_requests_before": "PRIMARY KEY (user_id=? AND method=? AND request_id=?)",
            "delete_ended_jobs_before": "videos USING COVERING INDEX videos_by_last_job (last_job_id=?)",
        }.items(),
    )
    def test_a_query_uses_the_index_made_for_it(
        self, repository: SqliteRepository, path: Path, query: str, index: str
    ) -> None:
        parameters = dict.fromkeys(re.findall(r":(\w+)", QUERIES[query]))
        with closing(sqlite3.connect(path)) as connection:
            assert index in str(
                connection.execute(f"EXPLAIN QUERY PLAN {QUERIES[query]}", parameters).fetchall()
            )

    @pytest.mark.slow
    @pytest.mark.parametrize("user_count", [1, 100])
    def test_ten_times_as_many_rows_beside_the_answer_cost_no_more(
        self, repository: SqliteRepository, user_count: int
    ) -> None:
        """Counted in SQLite's own instructions, so that a slow machine changes nothing."""
        costs = []
        for rows in (range(400), range(400, 4000)):
            with repository.transaction() as transaction:
                for number in rows:
                    put_queued_and_completed(transaction, number, number % user_count)
            costs.append({name: instructions(repository, ask) for name, ask in QUESTIONS.items()})
        few, many = costs
        assert few.keys() == many.keys()
        assert {name: cost for name, cost in many.items() if cost > few[name] * 1.2 + 20} == {}

    def test_where_a_long_plan_goes_on_costs_no_more(self, repository: SqliteRepository) -> None:
        """GetVideo asks for it each time."""
        costs = []
        for plan_id, done in (("short", 4), ("long", 4000)):
            finished = [
                SegmentRecord(plan_id=plan_id, index=index, state=SegmentState.DONE, path=f"{index}")
                for index in range(done)
            ]
            waiting = [SegmentRecord(plan_id=plan_id, index=done + index) for index in range(done)]
            with repository.transaction() as transaction:
                transaction.add_plan(a_plan(plan_id, video_id=plan_id), [*finished, *waiting])
            costs.append(
                instructions(repository, lambda reader, name=plan_id: reader.find_resume_point(1, name, "f"))
            )
        short, long = costs
        assert 0 < long < 1.2 * short + 20


def put_queued_and_completed(transaction: Transaction, number: int, user_id: int) -> None:
    queued, completed = f"q{number}", f"c{number}"
    priority = Priority.HIGH if number % 7 == 0 else Priority.NORMAL
    transaction.put_job(
        a_job(queued, user_id=user_id, video_id=queued, accept_number=number, priority=priority)
    )
    transaction.put_video(
        a_video(
            completed,
            user_id=user_id,
            state=VideoState.COMPLETED,
            create_time_us=number,
            last_job_id=completed,
        )
    )
    if number < 400:  # as many in either case
        transaction.put_video(a_video(queued, user_id=user_id, create_time_us=10 * number))
    transaction.put_job(
        a_job(completed, user_id=user_id, video_id=completed, state=JobState.COMPLETED, end_time_us=number)
    )
    transaction.put_upload(
        an_upload(completed, user_id=user_id, size_bytes=1, state=UploadState.FINISHED, update_time_us=number)
    )
    transaction.append_event(an_event(completed, user_id=user_id, create_time_us=number))


#: what is asked at each acceptance, pass of the scheduler, page and few seconds
QUESTIONS: dict[str, Callable[[Reader], object]] = {
    "list_queue_head": lambda reader: reader.list_queue_head(0, 4),
    "get_oldest_queued": lambda reader: reader.get_oldest_queued(0),
    "list_running_jobs": lambda reader: reader.list_running_jobs(),
    "stored_bytes": lambda reader: reader.stored_bytes(),
    "stored_bytes of a user": lambda reader: reader.stored_bytes(0),
    "page of all": lambda reader: reader.list_videos(0, limit=4),
    "page of pending": lambda reader: reader.list_videos(0, states={VideoState.PENDING}, limit=4),
    "page of two states": lambda reader: reader.list_videos(
        0, states={VideoState.PENDING, VideoState.COMPLETED}, limit=4
    ),
    "page of none": lambda reader: reader.list_videos(0, states={VideoState.DELETED}, limit=4),
    "list_expired_videos": lambda reader: reader.list_expired_videos(9, 4),
    "list_expired_uploads": lambda reader: reader.list_expired_uploads(0, 0, 4),
    "list_events": lambda reader: reader.list_events(0, 0, 4),
    "get_active_job": lambda reader: reader.get_active_job(0, "q0"),
}


def instructions(repository: SqliteRepository, ask: Callable[[Reader], object]) -> int:
    """How many instructions of SQLite's machine an answer takes."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    with repository.read() as reader:
        assert isinstance(reader, SqlReader)
        assert isinstance(reader._statements, SqliteStatements)
        connection = reader._statements._connection
        connection.set_progress_handler(step, 1)
        ask(reader)
        connection.set_progress_handler(None, 1)
    return count


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
