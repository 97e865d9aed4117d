"""What is PostgreSQL's own: schemas side by side, processes beside each other, servers that are of no use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from repository_records import a_job, a_plan, a_video, an_event, schema_of, some_segments

from postgres_server import PostgresServer
from videoprocess_server.model.clock import SystemClock
from videoprocess_server.model.records import Job
from videoprocess_server.model.states import JobState
from videoprocess_server.store import postgres_connections
from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.postgres_inspection import examine
from videoprocess_server.store.repository import StoreUnavailableError, UnfitDatabaseError
from videoprocess_server.store.schema import SchemaTooNewError
from videoprocess_server.store.sql import QUERIES as SHARED_QUERIES
from videoprocess_server.store.sql.postgres import MIGRATIONS, OWN_QUERIES


@pytest.fixture(name="schema")
def _schema(tmp_path: Path) -> str:
    return schema_of(tmp_path)


@pytest.fixture(name="repository")
def _repository(postgres: PostgresServer, schema: str) -> Iterator[PostgresRepository]:
    repository = PostgresRepository(postgres.url(), schema=schema, busy_timeout_seconds=0.5, reader_count=4)
    yield repository
    with suppress(StoreUnavailableError):
        repository.close()


def another(postgres: PostgresServer, schema: str, **more: object) -> PostgresRepository:
    return PostgresRepository(postgres.url(), schema=schema, busy_timeout_seconds=0.5, **more)  # type: ignore[arg-type]


def put(repository: PostgresRepository, video_id: str) -> None:
    with repository.transaction() as transaction:
        transaction.put_video(a_video(video_id))


def video_ids(repository: PostgresRepository) -> list[str]:
    with repository.read() as reader:
        return [video.video_id for video in reader.list_videos(1, limit=99)]


class TestSchema:
    def test_all_objects_are_in_the_schema(
        self, postgres: PostgresServer, repository: PostgresRepository, schema: str
    ) -> None:
        put(repository, "v")
        names = "SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = %s"
        schemas = {name for (name,) in postgres.execute(names, "writers")}
        assert schema in schemas
        assert "public" not in schemas
        assert (MIGRATIONS[-1].version,) in postgres.execute(
            f"SELECT schema_version FROM {schema}.installation"
        )

    def test_two_schemas_of_a_database_know_nothing_of_each_other(
        self, postgres: PostgresServer, repository: PostgresRepository, schema: str
    ) -> None:
        with closing(another(postgres, f"{schema}_b")) as other:
            put(repository, "v")
            assert other.database_id != repository.database_id
            assert video_ids(other) == []
            with repository.transaction():
                put(other, "w")  # nor do they wait for each other

    def test_a_newer_schema_is_refused_and_left_alone(
        self, postgres: PostgresServer, repository: PostgresRepository, schema: str
    ) -> None:
        newer = MIGRATIONS[-1].version + 1
        postgres.execute(f"UPDATE {schema}.installation SET schema_version = {newer}")
        with pytest.raises(SchemaTooNewError, match=f"version {newer}, .* up to {newer - 1}"):
            another(postgres, schema)
        assert postgres.execute(f"SELECT schema_version FROM {schema}.installation") == [(newer,)]

    def test_a_schema_of_something_else_is_refused_and_left_alone(
        self, postgres: PostgresServer, schema: str
    ) -> None:
        postgres.execute(f"CREATE SCHEMA {schema}")
        postgres.execute(f"CREATE TABLE {schema}.videos (x integer)")
        with pytest.raises(UnfitDatabaseError, match="holds something else"):
            another(postgres, schema)
        tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
        assert tables == [("videos",)]

    def test_several_processes_make_it_at_once(self, postgres: PostgresServer, schema: str) -> None:
        def opened(_: int) -> str:
            with closing(another(postgres, schema)) as repository:
                return repository.database_id

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(opened, range(4)))) == 1

    def test_a_query_says_otherwise_only_what_it_must(self) -> None:
        """A query of its own that was the shared one would drift from it."""
        same = {name for name, query in OWN_QUERIES.items() if SHARED_QUERIES.get(name) == query}
        assert same == set()


class TestProcesses:
    def test_changes_of_others_are_waited_for_with_patience_only(
        self, postgres: PostgresServer, repository: PostgresRepository, schema: str
    ) -> None:
        with closing(another(postgres, schema)) as other:
            with repository.transaction():
                assert video_ids(other) == []
                with pytest.raises(StoreUnavailableError, match="lock timeout"):
                    put(other, "v")
            put(other, "v")
            assert video_ids(repository) == ["v"]

    def test_numbers_of_two_repositories_have_no_gap(
        self, postgres: PostgresServer, repository: PostgresRepository, schema: str
    ) -> None:
        with closing(another(postgres, schema)) as other:

            def append(repository: PostgresRepository, name: str) -> None:
                for number in range(40):
                    with repository.transaction() as transaction:
                        transaction.append_event(an_event(f"{name}{number}"))

            with ThreadPoolExecutor(2) as threads:
                list(threads.map(append, (repository, other), "ab"))
        with repository.read() as reader:
            assert [event.sequence for event in reader.list_events(1, 0, 999)] == list(range(1, 81))

    def test_whoever_ends_leaves_no_connection_and_no_row_of_its_own(
        self, postgres: PostgresServer, repository: PostgresRepository, schema: str
    ) -> None:
        other = another(postgres, schema)
        put(other, "v")
        assert len(postgres.execute(f"SELECT writer_id FROM {schema}.writers")) == 1
        other.close()
        assert postgres.execute(f"SELECT writer_id FROM {schema}.writers") == []
        put(repository, "w")
        assert len(postgres.execute(f"SELECT writer_id FROM {schema}.writers")) == 1

    def test_a_change_of_nothing_writes_nothing(
        self, postgres: PostgresServer, repository: PostgresRepository, schema: str
    ) -> None:
        with repository.transaction() as transaction:
            assert not transaction.lease_segments("unknown", [0], "t")
            transaction.delete_video(1, "unknown")
        assert postgres.execute(f"SELECT writer_id FROM {schema}.writers") == []

    def test_threads_that_come_and_go_take_no_more_connections_than_allowed(
        self, postgres: PostgresServer, repository: PostgresRepository
    ) -> None:
        before = postgres.execute("SELECT count(*) FROM pg_stat_activity")[0][0]
        together = threading.Barrier(4)

        def read(_: int) -> None:
            with repository.read():
                together.wait(20)

        for _ in range(3):
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(read, range(4)))
        after = postgres.execute("SELECT count(*) FROM pg_stat_activity")[0][0]
        assert isinstance(before, int)
        assert isinstance(after, int)
        assert after <= before + 4

    def test_jobs_that_ended_are_told_when_that_is_durable(
        self, postgres: PostgresServer, schema: str
    ) -> None:
        told: list[Job] = []
        with closing(another(postgres, schema, job_ended=told.append)) as repository:
            with repository.transaction() as transaction:
                transaction.put_job(a_job("j", state=JobState.FAILED))
                assert told == []
            assert [job.job_id for job in told] == ["j"]
            with suppress(ValueError), repository.transaction() as transaction:
                transaction.put_job(a_job("k", state=JobState.FAILED))
                raise ValueError
            assert len(told) == 1


class TestServer:
    def test_its_clock_is_told(self, repository: PostgresRepository) -> None:
        """Both are on this machine."""
        clock = SystemClock()
        before = clock.now_us()
        assert before <= repository.server_now_us() + 1
        assert repository.server_now_us() <= clock.now_us() + 1

    def test_commits_are_durable(self, repository: PostgresRepository) -> None:
        with repository.writing() as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == {"synchronous_commit": "on"}

    def test_sessions_that_are_ended_are_replaced(
        self, postgres: PostgresServer, repository: PostgresRepository
    ) -> None:
        put(repository, "v")
        assert video_ids(repository) == ["v"]
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'videoprocess'"
        )
        assert video_ids(repository) == ["v"]
        put(repository, "w")
        assert video_ids(repository) == ["v", "w"]

    def test_a_statement_that_takes_too_long_is_unavailable(self, repository: PostgresRepository) -> None:
        def put_much() -> None:
            with repository.transaction() as transaction:
                transaction.put_video(a_video())
                repository._writer.execute("SET LOCAL statement_timeout = 1")  # type: ignore[union-attr]
                transaction.add_plan(a_plan(), some_segments(5000))

        with pytest.raises(StoreUnavailableError, match="statement timeout"):
            put_much()
        assert video_ids(repository) == []

    def test_a_read_only_server_takes_no_change(self, repository: PostgresRepository) -> None:
        """As a standby is, until it takes over."""
        put(repository, "v")

        def put_there() -> None:
            with repository.transaction() as transaction:
                repository._writer.execute("SET TRANSACTION READ ONLY")  # type: ignore[union-attr]
                transaction.put_video(a_video("w"))

        with pytest.raises(StoreUnavailableError):
            put_there()
        assert video_ids(repository) == ["v"]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("postgres@/postgres?host=", "me:secret@/postgres?host=/nowhere"), "/nowhere"),
            (("postgres@", "postgres:secret@no-such-host.invalid"), "no-such-host.invalid"),
            (("/postgres?", "/missing?"), 'database "missing" does not exist'),
            (("postgres@", "nobody:secret@"), 'role "nobody" does not exist'),
        ],
    )
    def test_what_lets_nobody_in_is_told(
        self, postgres: PostgresServer, change: tuple[str, str], said: str
    ) -> None:
        url = postgres.url().replace(*change)
        if "invalid" in url:
            url = url.partition("?")[0]
        with pytest.raises(StoreUnavailableError) as told:
            PostgresRepository(url)
        assert said in str(told.value)
        assert "secret" not in str(told.value)
        assert "\n" not in str(told.value)

    def test_an_address_that_is_none_is_not_repeated(self) -> None:
        with pytest.raises(UnfitDatabaseError) as told:
            PostgresRepository("postgresql://me:sec%ret@host/database")
        assert "sec" not in str(told.value)

    def test_an_older_version_is_refused(
        self, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres_connections, "OLDEST_VERSION", 99)
        with pytest.raises(UnfitDatabaseError, match="99 or newer is needed"):
            PostgresRepository(postgres.url())

    def test_clocks_that_differ_are_seen(self, postgres: PostgresServer, schema: str) -> None:
        slow_us = SystemClock().now_us() - 5_000_000
        assert abs(examine(postgres.url(), schema, slow_us).ahead_us - 5_000_000) < 2_000_000

    def test_another_encoding_is_refused(self, postgres: PostgresServer) -> None:
        with suppress(psycopg.errors.DuplicateDatabase):
            postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        with pytest.raises(UnfitDatabaseError, match="encoding is LATIN1"):
            PostgresRepository(postgres.url("latin"))

    def test_without_the_right_to_make_the_schema_an_administrator_is_asked_for(
        self, postgres: PostgresServer, schema: str
    ) -> None:
        postgres.execute(f"CREATE ROLE {schema} LOGIN")
        url = postgres.url().replace("postgres@", f"{schema}@")
        with pytest.raises(UnfitDatabaseError, match=f"CREATE SCHEMA {schema} AUTHORIZATION {schema}"):
            PostgresRepository(url, schema=schema)
        postgres.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {schema}")
        with closing(PostgresRepository(url, schema=schema)) as repository:
            put(repository, "v")
            assert video_ids(repository) == ["v"]
