"""Connections that are cut, COMMITs in doubt, a server that is killed: nothing acknowledged is lost, nothing is half done."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

import pytest
from repository_records import a_job, a_plan, an_event, schema_of, some_segments

from postgres_proxy import Cut, PostgresProxy
from postgres_server import PostgresServer
from soaking import SOAKING
from videoprocess_server.model.records import Job
from videoprocess_server.model.states import JobState
from videoprocess_server.store import postgres_connections
from videoprocess_server.store.postgres import PostgresRepository
from videoprocess_server.store.repository import StoreUnavailableError

PATIENCE_SECONDS = 120.0
KILLS = 30 if SOAKING else 4


@pytest.fixture(name="proxy")
def _proxy(postgres: PostgresServer) -> Iterator[PostgresProxy]:
    with PostgresProxy(postgres) as proxy:
        yield proxy


@pytest.fixture(name="ended")
def _ended() -> list[str]:
    """Jobs whose end was told."""
    return []


@pytest.fixture(name="repository")
def _repository(proxy: PostgresProxy, tmp_path: Path, ended: list[str]) -> Iterator[PostgresRepository]:
    repository = PostgresRepository(
        proxy.url,
        schema=schema_of(tmp_path),
        busy_timeout_seconds=2.0,
        settle_seconds=0.3,
        job_ended=lambda job: ended.append(job.job_id),
    )
    yield repository
    proxy.decide = lambda _message: Cut.NO
    repository.close()


def end_job(repository: PostgresRepository, name: str) -> None:
    """What is there whole, or not at all."""
    with repository.transaction() as transaction:
        transaction.add_plan(a_plan(name), some_segments(3, name))
        transaction.put_job(a_job(name, state=JobState.FAILED, video_id=name))
        transaction.append_event(an_event(name))


def kept(repository: PostgresRepository) -> list[str]:
    """The names of the jobs that ended; nothing is half there."""
    with repository.read() as reader:
        names = [event.job_id for event in reader.list_events(1, 0, 999_999)]
        assert reader.event_bounds(1) == (1, len(names))
        assert sorted(reader.list_all_plan_ids()) == sorted(names)
        for name in names:
            assert reader.get_job(name) is not None
            assert len(reader.list_segments(name)) == 3
    return names


class Cutter:
    """Cuts the message of a number, once."""

    def __init__(self, number: int, cut: Cut) -> None:
        self._number = number
        self._cut = cut
        self._numbers = itertools.count()
        self.has_cut = False

    def decide(self, _message: bytes) -> Cut:
        if next(self._numbers) != self._number:
            return Cut.NO
        self.has_cut = True
        return self._cut


def is_commit(message: bytes) -> bool:
    return b"COMMIT;" in message


class TestCutConnections:
    @pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
    def test_cut_at_any_statement_a_change_is_kept_if_and_only_if_that_is_said(
        self, repository: PostgresRepository, proxy: PostgresProxy, cut: Cut, ended: list[str]
    ) -> None:
        end_job(repository, "first")
        acknowledged = ["first"]
        for number in itertools.count():
            cutter = Cutter(number, cut)
            proxy.decide = cutter.decide
            with suppress(StoreUnavailableError):
                end_job(repository, f"cut at {number}")
                acknowledged.append(f"cut at {number}")
            proxy.decide = lambda _message: Cut.NO
            assert kept(repository) == acknowledged
            assert ended == acknowledged
            if not cutter.has_cut:
                break
        assert number >= 5  # begin, plan, segments, job, number, event, commit
        with repository.transaction():
            pass

    @pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
    def test_a_commit_in_doubt_is_found_out_on_another_connection(
        self, repository: PostgresRepository, proxy: PostgresProxy, cut: Cut, ended: list[str]
    ) -> None:
        end_job(repository, "first")
        cuts = iter([cut])
        proxy.decide = lambda message: next(cuts, Cut.NO) if is_commit(message) else Cut.NO
        if cut is Cut.AFTER:
            end_job(repository, "j")
        else:
            with pytest.raises(StoreUnavailableError, match="did not keep"):
                end_job(repository, "j")
        expected = ["first", "j"] if cut is Cut.AFTER else ["first"]
        assert kept(repository) == expected
        assert ended == expected

    @pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
    def test_a_doubt_that_lasts_is_told_and_settled_before_the_next_change(
        self, repository: PostgresRepository, proxy: PostgresProxy, cut: Cut, ended: list[str]
    ) -> None:
        is_away = threading.Event()

        def decide(message: bytes) -> Cut:
            if is_away.is_set():
                return Cut.BEFORE
            if is_commit(message):
                is_away.set()
                return cut
            return Cut.NO

        proxy.decide = decide
        with pytest.raises(StoreUnavailableError, match="not known yet"):
            end_job(repository, "j")
        with pytest.raises(StoreUnavailableError):
            end_job(repository, "k")
        with pytest.raises(StoreUnavailableError):
            repository.ping()
        proxy.decide = lambda _message: Cut.NO
        repository.ping()
        expected = ["j"] if cut is Cut.AFTER else []
        assert ended == expected
        assert kept(repository) == expected
        end_job(repository, "k")
        assert kept(repository) == [*expected, "k"]

    def test_a_session_that_is_ended_in_the_middle_undoes_its_change(
        self, postgres: PostgresServer, repository: PostgresRepository
    ) -> None:
        def be_ended() -> None:
            with repository.transaction() as transaction:
                transaction.put_job(a_job("j"))
                postgres.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
                )
                transaction.append_event(an_event("j"))

        with pytest.raises(StoreUnavailableError):
            be_ended()
        end_job(repository, "j")
        assert kept(repository) == ["j"]


@pytest.fixture(name="mortal")
def _mortal() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    server = PostgresServer(durable=True).start()
    yield server
    server.remove()


class Writers:
    """Threads that end one job after another, whatever happens to the server."""

    def __init__(self, repository: PostgresRepository, count: int) -> None:
        self.acknowledged: list[str] = []
        self._repository = repository
        self._stop = threading.Event()
        self._count = count
        self._threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Self:
        self._running = [self._threads.submit(self._write, name) for name in "abcdefgh"[: self._count]]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for running in self._running:
            running.result(PATIENCE_SECONDS)
        self._threads.shutdown()

    def wait_for(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        target = len(self.acknowledged) + count
        waited = threading.Event()
        for _ in range(round(PATIENCE_SECONDS / 0.01)):
            if len(self.acknowledged) >= target:
                return
            waited.wait(0.01)
        raise AssertionError("nothing is acknowledged any more")

    def _write(self, name: str) -> None:
        for number in itertools.count():
            if self._stop.is_set():
                return
            job_id = f"{name}{number}"
            try:
                end_job(self._repository, job_id)
            except StoreUnavailableError:
                self._stop.wait(0.01)
            else:
                self.acknowledged.append(job_id)


@pytest.mark.scale
def test_a_server_that_answers_nothing_is_unavailable_in_time_and_works_after(
    mortal: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(PostgresRepository(mortal.url(), busy_timeout_seconds=20.0)) as repository:
        end_job(repository, "a")
        mortal.freeze()
        with monkeypatch.context() as impatient:
            impatient.setattr(postgres_connections, "_ANSWER_SECONDS", 0.5)
            with pytest.raises(StoreUnavailableError):
                end_job(repository, "b")
            with pytest.raises(StoreUnavailableError):
                repository.ping()
        mortal.thaw()
        end_job(repository, "c")
        assert kept(repository) == ["a", "c"]


@pytest.mark.scale
class TestKilledServer:
    def test_killed_and_started_again_under_writers_it_has_all_that_was_acknowledged(
        self, mortal: PostgresServer
    ) -> None:
        ended: list[Job] = []
        with closing(
            PostgresRepository(mortal.url(), settle_seconds=PATIENCE_SECONDS, job_ended=ended.append)
        ) as repository:
            with Writers(repository, 3) as writers:
                for turn in range(KILLS):
                    writers.wait_for(5 + 7 * turn % 20)
                    mortal.kill()
                    mortal.start()
                    writers.wait_for(1)
            names = kept(repository)
            assert set(writers.acknowledged) <= set(names)
            assert len(names) == len(set(names))
            # what was kept without being acknowledged: nothing, since the server came back within a doubt's patience
            assert sorted(names) == sorted(writers.acknowledged)
            assert sorted(job.job_id for job in ended) == sorted(names)

    def test_stopped_in_order_and_started_again_it_is_unavailable_meanwhile(
        self, mortal: PostgresServer
    ) -> None:
        with closing(PostgresRepository(mortal.url(), busy_timeout_seconds=10.0)) as repository:
            end_job(repository, "a")
            mortal.stop()
            with pytest.raises(StoreUnavailableError):
                repository.ping()
            with pytest.raises(StoreUnavailableError):
                end_job(repository, "b")
            mortal.start()
            repository.ping()
            end_job(repository, "c")
            assert kept(repository) == ["a", "c"]
