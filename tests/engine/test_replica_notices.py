"""What is asked of one replica is done by the other that has the work, and told to subscribers of both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, LEASE_TIMES, USER, Engine, until
from engine.observers import READY, Statuses, is_asked_to_stop
from engine.scripted_executor import PATIENCE_SECONDS, Gate
from engine.two_replicas import Pair, two_replicas
from postgres_server import PostgresServer
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.engine.replica_lease import ReplicaLease
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.records import Event, EventKind, Job, Phase, Priority
from videoprocess_server.model.states import BlockReason, JobState
from videoprocess_server.model.tasks import AnalyzeTask
from videoprocess_server.store.postgres import PostgresRepository

ABORTS = 40
PREEMPTED = (SessionStatus.NOT_READY_PREEMPTED, BlockReason.PREEMPTED)


@pytest.fixture(name="pair")
def _pair(folder: Path, postgres: PostgresServer) -> Iterator[Pair]:
    schema = f"test_{folder.name[-8:].lower()}"
    with (
        closing(PostgresRepository(postgres.url(), schema=schema, busy_timeout_seconds=20)) as database,
        two_replicas(folder, database, notices=database) as pair,
    ):
        yield pair


def _in_segment(engine: Engine, index: int = 1, video_id: str = "v") -> tuple[str, Accepted]:
    """A job of this replica whose worker waits in a segment."""
    session_id = engine.ready(video_id)
    gate = Gate()
    engine.executor.will(index, gate)
    accepted = engine.process(session_id, video_id)
    gate.wait()
    return session_id, accepted


@pytest.fixture(name="lazy")
def _lazy(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The second takes no job."""
    monkeypatch.setattr(pair.b.membership, "may_drive", lambda: False)
    return pair


@pytest.mark.parametrize(("call", "reason"), [("interrupt", "INTERRUPTED"), ("reset", "RESET")])
def test_a_stop_asked_of_one_stops_the_driver_of_the_other(lazy: Pair, call: str, reason: str) -> None:
    session_id, accepted = _in_segment(lazy.a)
    if call == "interrupt":
        lazy.b.stops.interrupt(CALLER, session_id, [])
    else:
        lazy.b.stops.reset(CALLER, session_id)
    fault = lazy.b.end_of(accepted).fault
    assert fault is not None
    assert fault.reason == reason
    lazy.a.idle()


def test_a_video_removed_at_one_stops_the_driver_of_the_other(lazy: Pair) -> None:
    session_id, accepted = _in_segment(lazy.a)
    lazy.b.removals.remove(CALLER, session_id, "v", restorable=False)
    assert lazy.b.job(accepted.job.job_id).state is JobState.ABORTED
    lazy.a.idle()


@pytest.mark.slow
def test_aborts_come_within_half_a_second(lazy: Pair) -> None:
    seconds = []
    for number in range(ABORTS):
        session_id, accepted = _in_segment(lazy.a, video_id=f"v{number}")
        begin = time.monotonic()
        lazy.b.stops.interrupt(CALLER, session_id, [])
        lazy.b.end_of(accepted)
        seconds.append(time.monotonic() - begin)
    print(f"count slowest_abort_across_replicas_ms = {round(1000 * max(seconds))}")


def test_a_job_accepted_by_one_is_taken_by_another_that_is_free(lazy: Pair) -> None:
    session_id = lazy.b.ready()
    accepted = lazy.b.process(session_id)
    assert lazy.b.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert lazy.b.executor.count(AnalyzeTask) == 0


def test_a_closed_gate_of_one_holds_back_that_one_only(pair: Pair) -> None:
    session_id, gate = pair.a.ready(), Gate()
    pair.a.executor.will(1, gate)
    with pair.only(pair.a):
        accepted = pair.a.process(session_id)
        gate.wait()
    pair.a.close_gate(BlockReason.OVERHEAT)
    until(lambda: is_asked_to_stop(pair.a, accepted))
    gate.open()
    assert pair.b.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert [engine.executor.encoded for engine in pair.engines] == [[0, 1], [2]]


def test_subscribers_of_one_hear_of_events_and_progress_of_the_other(lazy: Pair) -> None:
    hub, told = lazy.b.hub, []
    subscription = hub.subscribe(USER, "", 0, lambda: None)
    session_id = lazy.a.ready()
    gate = Gate()
    lazy.a.executor.will(2, gate)
    accepted = lazy.a.process(session_id)
    gate.wait()

    def hears(kind: type) -> bool:
        told.extend(hub.take(subscription))
        return any(isinstance(item, kind) for item in told)

    until(lambda: hears(Job))
    shown = next(item for item in told if isinstance(item, Job))
    assert shown.job_id == accepted.job.job_id
    row = lazy.b.job(accepted.job.job_id)
    assert row.progress.phase is Phase.NONE
    assert lazy.b.work.live(row).progress.phase is not Phase.NONE
    gate.open()
    until(lambda: hears(Event))


@dataclass(frozen=True)
class Preempted:
    """A session whose job waits for a HIGH one that A drives."""

    session_id: str
    #: where the HIGH one's worker waits
    at_high: Gate
    high: Accepted
    statuses: tuple[Statuses, Statuses]


@pytest.fixture(name="preempted")
def _preempted(lazy: Pair) -> Preempted:
    session_id, normal = _in_segment(lazy.a)
    statuses = Statuses(lazy.a, session_id), Statuses(lazy.b, session_id)
    at_high = Gate()
    lazy.a.executor.will(0, at_high)
    high = lazy.a.process(lazy.a.ready("high"), "high", priority=Priority.HIGH)
    at_high.wait()
    until(lambda: [each.told() for each in statuses] == [[READY, PREEMPTED]] * 2)
    assert [engine.blocked_by(normal) for engine in lazy.engines] == [BlockReason.PREEMPTED] * 2
    return Preempted(session_id, at_high, high, statuses)


def test_subscribers_of_both_hear_once_that_a_session_is_preempted_and_when_it_is_not_any_more(
    lazy: Pair, preempted: Preempted
) -> None:
    assert Statuses(lazy.b, preempted.session_id).told() == [READY, PREEMPTED]
    preempted.at_high.open()
    lazy.a.end_of(preempted.high)
    until(lambda: [each.told() for each in preempted.statuses] == [[READY, PREEMPTED, READY]] * 2)


def test_a_replica_that_starts_late_tells_that_a_session_is_preempted(
    lazy: Pair, preempted: Preempted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplicaLease, "may_drive", lambda lease: lease.replica_id == "a")
    lazy.b.restart()
    statuses = Statuses(lazy.b, preempted.session_id)
    until(lambda: statuses.told() == [READY, PREEMPTED])
    preempted.at_high.open()
    lazy.a.end_of(preempted.high)
    until(lambda: statuses.told() == [READY, PREEMPTED, READY])


def test_a_replica_that_lost_its_connections_tells_of_a_preempted_session_as_before(
    lazy: Pair, preempted: Preempted, postgres: PostgresServer
) -> None:
    looked = threading.Event()
    lazy.b.hub.subscribe(USER, "", None, looked.set)
    listening = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    assert len(postgres.execute(f"SELECT pg_terminate_backend(pid) {listening}")) == len(lazy.engines)
    assert looked.wait(PATIENCE_SECONDS)
    assert [each.told() for each in preempted.statuses] == [[READY, PREEMPTED]] * 2
    preempted.at_high.open()
    lazy.a.end_of(preempted.high)
    until(lambda: [each.told() for each in preempted.statuses] == [[READY, PREEMPTED, READY]] * 2)


def test_a_session_is_preempted_no_longer_than_who_preempts_it_is_believed_in(
    lazy: Pair, preempted: Preempted
) -> None:
    lazy.a.kill()
    assert isinstance(lazy.b.membership, ReplicaLease)
    lazy.b.membership.look()
    assert Statuses(lazy.b, preempted.session_id).told() == [READY, PREEMPTED]
    lazy.pass_time(LEASE_TIMES.lease_seconds)
    lazy.b.membership.look()
    until(lambda: preempted.statuses[1].told() == [READY, PREEMPTED, READY])


def test_frozen_work_of_one_is_evicted_when_the_other_says_that_it_is_of_no_use(lazy: Pair) -> None:
    session_id, accepted = _in_segment(lazy.a)
    lazy.b.stops.interrupt(CALLER, session_id, [])
    lazy.b.end_of(accepted)
    until(lambda: lazy.a.scheduler.parked_count() == 1)
    lazy.b.stops.reset(CALLER, session_id)
    until(lambda: lazy.a.scheduler.parked_count() == 0)
