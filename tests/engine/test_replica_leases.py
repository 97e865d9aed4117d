"""Replicas that renew keep their jobs, those that do not lose them: what the survivors take back, sweep and leave alone."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing

from engine.engine_under_test import CALLER, LEASE_TIMES, OTHER_USER, SECOND_US, USER, Engine, until
from engine.scripted_executor import PATIENCE_SECONDS, Gate
from engine.two_replicas import Pair
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.engine.recovery import ORPHAN_SECONDS
from videoprocess_server.engine.replica_lease import LEASE_LOST, LeaseTimes, ReplicaLease
from videoprocess_server.model.clock import SystemClock
from videoprocess_server.model.records import EventKind, Replica
from videoprocess_server.model.states import BlockReason, JobState, SegmentState
from videoprocess_server.store.memory import MemoryRepository


def _lease(engine: Engine) -> ReplicaLease:
    assert isinstance(engine.membership, ReplicaLease)
    return engine.membership


def _in_segment(pair: Pair, engine: Engine, index: int, video_id: str = "v") -> tuple[str, Accepted, Gate]:
    """A job of this replica whose worker waits in a segment."""
    session_id = engine.ready(video_id)
    gate = Gate()
    engine.executor.will(index, gate)
    with pair.only(engine):
        accepted = engine.process(session_id, video_id)
        gate.wait()
    return session_id, accepted, gate


def _replica_ids(pair: Pair) -> list[str]:
    with pair.database.read() as reader:
        return [replica.replica_id for replica in reader.list_replicas()]


def test_the_jobs_of_a_replica_that_renews_are_left_to_it(pair: Pair) -> None:
    _, accepted, gate = _in_segment(pair, pair.a, 1)
    for _ in range(10):
        pair.pass_time(LEASE_TIMES.lease_seconds / 2)
        _lease(pair.a).renew()
        _lease(pair.b).look()
    assert pair.b.job(accepted.job.job_id).driver == pair.a.job(accepted.job.job_id).driver
    gate.open()
    assert pair.a.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert pair.b.executor.encoded == []


def test_a_killed_replicas_job_is_finished_by_another_from_its_segments(pair: Pair) -> None:
    _, accepted, _ = _in_segment(pair, pair.a, 2)
    until(lambda: [row.state for row in pair.b.segments()].count(SegmentState.DONE) == 2)
    pair.a.kill()
    _lease(pair.b).look()
    assert pair.b.job(accepted.job.job_id).state is JobState.RUNNING  # its lease has not ended yet
    pair.pass_time(LEASE_TIMES.lease_seconds)
    _lease(pair.b).renew()
    _lease(pair.b).look()
    event = pair.b.end_of(accepted)
    assert event.kind is EventKind.PROCESS_DONE
    assert event.report is not None
    assert event.report.reused_segment_count == 2
    assert pair.b.executor.encoded == [2]
    assert [each.sequence for each in pair.b.events()] == [1]
    assert _replica_ids(pair) == ["b"]


def test_what_a_killed_replica_was_asked_to_stop_ends_so(pair: Pair) -> None:
    session_id, accepted, _ = _in_segment(pair, pair.a, 1)
    pair.b.stops.interrupt(CALLER, session_id, [])
    pair.a.kill()
    pair.pass_time(LEASE_TIMES.lease_seconds)
    _lease(pair.b).look()
    fault = pair.b.end_of(accepted).fault
    assert fault is not None
    assert fault.reason == "INTERRUPTED"


def test_a_replica_that_starts_again_goes_on_with_its_own_jobs_at_once_and_leaves_others(pair: Pair) -> None:
    _, accepted, _ = _in_segment(pair, pair.a, 1)
    _, theirs, held = _in_segment(pair, pair.b, 0, "w")
    pair.a.restart()
    assert pair.a.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert pair.b.job(theirs.job.job_id).state is JobState.RUNNING
    held.open()
    assert pair.b.end_of(theirs).kind is EventKind.PROCESS_DONE
    assert len(pair.b.executor.encoded) == 3


def test_a_replica_that_cannot_renew_stops_before_its_lease_ends(pair: Pair) -> None:
    """Its clock says so; nothing is asked of the store."""
    _, accepted, _ = _in_segment(pair, pair.a, 1)
    lease = _lease(pair.a)
    pair.a.clock.advance(LEASE_TIMES.lease_seconds - LEASE_TIMES.margin_seconds - 0.5)
    assert lease.may_drive()
    pair.a.clock.advance(0.5)
    assert not lease.may_drive()
    with pair.only(pair.a):
        pair.a.scheduler.stop_all(LEASE_LOST)
        pair.a.idle()
        job = pair.a.job(accepted.job.job_id)
        assert (job.state, job.blocked_by) == (JobState.QUEUED, BlockReason.STORE_UNREACHABLE)
        pair.a.scheduler.wake()
        until(lambda: not pair.a.scheduler._woken)
        assert pair.a.job(accepted.job.job_id).state is JobState.QUEUED  # nothing begins without a lease
        lease.renew()
        pair.a.scheduler.wake()
        assert pair.a.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert pair.a.executor.encoded == [0, 1, 1, 2]


def test_a_replica_renews_and_looks_by_itself() -> None:
    found = threading.Event()
    with closing(MemoryRepository()) as database:
        lease = ReplicaLease(
            database,
            SystemClock(),
            "b",
            SystemClock().now_us,
            lost=lambda: None,
            found_dead=found.set,
            listen=lambda: lambda: None,
            times=LeaseTimes(lease_seconds=60.0, renew_seconds=0.01, look_seconds=0.01),
        )
        with database.transaction() as tx:
            tx.put_replica(
                Replica(replica_id="gone", expire_time_us=SystemClock().now_us() + SECOND_US // 20)
            )
        lease.start()
        with database.read() as reader:
            (first,) = (row.expire_time_us for row in reader.list_replicas() if row.replica_id == "b")

        def is_renewed() -> bool:
            with database.read() as reader:
                rows = {row.replica_id: row.expire_time_us for row in reader.list_replicas()}
            return rows.keys() == {"b"} and rows["b"] > first

        until(is_renewed)
        assert found.wait(PATIENCE_SECONDS)
        lease.close()
        with database.read() as reader:
            assert not reader.list_replicas()


def test_files_that_another_replica_may_be_about_to_name_are_left_alone(pair: Pair) -> None:
    young, old = (pair.a.blobs.path(BlobKind.SEGMENT, f"{age}/000000") for age in ("young", "old"))
    for file in (young, old):
        file.write_bytes(b"?")
    for each in (old, old.parent):
        os.utime(each, (0, time.time() - ORPHAN_SECONDS))
    pair.b.restart()
    assert pair.b.blobs.keys(BlobKind.SEGMENT) == ["young"]
    pair.a.stop_orderly()
    pair.b.restart()
    assert not pair.b.blobs.keys(BlobKind.SEGMENT)


def test_a_replica_that_ends_in_order_is_gone_at_once(pair: Pair) -> None:
    _, accepted, _ = _in_segment(pair, pair.a, 1)
    pair.a.stop_orderly()
    assert _replica_ids(pair) == ["b"]
    pair.b.scheduler.wake()
    assert pair.b.end_of(accepted).kind is EventKind.PROCESS_DONE


def test_no_replica_closes_a_session_that_another_uses(pair: Pair) -> None:
    """Called or listened to at one; the other closes what nobody uses."""
    called, heard, idle = (pair.a.session() for _ in range(3))
    pair.a.hub.subscribe(OTHER_USER, "", None, lambda: None)
    theirs = pair.a.session(OTHER_USER)
    pair.a.hub.subscribe(USER, heard, None, lambda: None)
    quarter = pair.a.limits.session_idle_timeout_us / SECOND_US / 4
    for _ in range(8):
        pair.pass_time(quarter)
        pair.a.sessions.use(CALLER, called)
        pair.a.sessions.close_idle()
        pair.b.sessions.close_idle()
    open_now = [pair.b.is_open(session_id) for session_id in (called, heard, theirs, idle)]
    assert open_now == [True, True, True, False]
    for _ in range(3):
        pair.pass_time(quarter)
        pair.a.sessions.close_idle()
        pair.b.sessions.close_idle()
    assert pair.b.is_open(called)
    pair.pass_time(2 * quarter)
    pair.b.sessions.close_idle()
    assert not pair.b.is_open(called)
