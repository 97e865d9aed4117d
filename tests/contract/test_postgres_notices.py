"""What processes tell each other through PostgreSQL: after a commit, outside of any, and again after a lost connection."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from repository_records import a_job, an_event, schema_of

from postgres_server import PostgresServer
from videoprocess_server.store.notices import MOST_NOTICE_BYTES, Notices
from videoprocess_server.store.postgres import PostgresRepository

PATIENCE_SECONDS = 120.0


class Heard:
    """What a listener was told, in order."""

    def __init__(self, notices: Notices) -> None:
        self._told: queue.Queue[object] = queue.Queue()
        self.stop = notices.listen(
            lambda user_id: self._told.put(("event", user_id)),
            lambda job_id: self._told.put(("job", job_id)),
            lambda: self._told.put("reconnect"),
            lambda topic, payload: self._told.put((topic, payload)),
        )
        assert self.next() == "reconnect"

    def next(self) -> object:
        return self._told.get(timeout=PATIENCE_SECONDS)

    def is_quiet(self) -> bool:
        return self._told.empty()


@pytest.fixture(name="schema")
def _schema(tmp_path: Path) -> str:
    return schema_of(tmp_path)


@pytest.fixture(name="repository")
def _repository(postgres: PostgresServer, schema: str) -> Iterator[PostgresRepository]:
    with closing(PostgresRepository(postgres.url(), schema=schema)) as repository:
        yield repository


def test_events_and_jobs_of_other_processes_are_told_once_they_are_durable(
    postgres: PostgresServer, repository: PostgresRepository, schema: str
) -> None:
    heard = Heard(repository)
    with closing(PostgresRepository(postgres.url(), schema=schema)) as other:
        with other.transaction() as transaction:
            transaction.append_event(an_event("j", user_id=-7))
            transaction.put_job(a_job("j\0\1"))
            other.announce("meanwhile", "")  # is heard first, since the change is not made yet
        with suppress(ValueError), other.transaction() as transaction:
            transaction.put_job(a_job("undone", video_id="w"))
            raise ValueError
        other.announce("last", "")
    assert [heard.next() for _ in range(4)] == [
        ("meanwhile", ""),
        ("event", -7),
        ("job", "j\0\1"),
        ("last", ""),
    ]


def test_announcements_are_heard_whole_by_those_of_the_same_schema(
    postgres: PostgresServer, repository: PostgresRepository, schema: str
) -> None:
    heard = Heard(repository)
    with closing(PostgresRepository(postgres.url(), schema=f"{schema}_b")) as elsewhere:
        elsewhere.announce("progress", "of others")
    longest = "ü\n\0" + "x" * (MOST_NOTICE_BYTES - len("progress\n") - 5)
    repository.announce("progress", longest)
    assert heard.next() == ("progress", longest)
    assert heard.is_quiet()


@pytest.mark.parametrize("notice", [("t", "x" * MOST_NOTICE_BYTES), ("t\n", "")])
def test_what_cannot_be_announced_is_refused(repository: PostgresRepository, notice: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"notice of|line feed"):
        repository.announce(*notice)


def test_a_lost_connection_is_replaced_and_whoever_listens_looks_again(
    postgres: PostgresServer, repository: PostgresRepository
) -> None:
    heard = Heard(repository)
    for number in range(2):
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        assert heard.next() == "reconnect"
        with repository.transaction() as transaction:
            transaction.append_event(an_event(str(number)))
        assert heard.next() == ("event", 1)


def test_an_announcement_over_a_lost_connection_is_lost_and_the_next_is_heard(
    postgres: PostgresServer, repository: PostgresRepository
) -> None:
    heard = Heard(repository)
    repository.announce("t", "first")
    assert heard.next() == ("t", "first")
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_notify%'"
    )
    repository.announce("t", "lost")
    repository.announce("t", "second")
    assert heard.next() == ("t", "second")


def test_a_listener_that_fails_hears_the_next(repository: PostgresRepository) -> None:
    told: queue.Queue[int] = queue.Queue()

    def hear(user_id: int) -> None:
        told.put(user_id)
        raise ValueError(user_id)

    ready: queue.Queue[None] = queue.Queue()
    repository.listen(hear, lambda _: None, lambda: ready.put(None))
    ready.get(timeout=PATIENCE_SECONDS)
    for user_id in (1, 2):
        with repository.transaction() as transaction:
            transaction.append_event(an_event("", user_id=user_id))
    assert [told.get(timeout=PATIENCE_SECONDS) for _ in range(2)] == [1, 2]


def test_who_stops_hears_nothing_more_and_others_go_on(repository: PostgresRepository) -> None:
    heard, other = Heard(repository), Heard(repository)
    heard.stop()
    heard.stop()
    repository.announce("t", "x")
    assert other.next() == ("t", "x")
    assert heard.is_quiet()


@pytest.mark.scale
def test_after_a_restart_of_the_server_whoever_listens_looks_again() -> None:
    server = PostgresServer().start()
    try:
        with closing(PostgresRepository(server.url())) as repository:
            heard = Heard(repository)
            server.kill()
            repository.announce("t", "lost")
            server.start()
            assert heard.next() == "reconnect"
            while heard.is_quiet():  # for a second after a failure nothing is sent
                repository.announce("t", "x")
                time.sleep(0.01)
            assert heard.next() == ("t", "x")
    finally:
        server.remove()
