"""What a store that fails at the worst moment, or two calls that meet, must not do to parked and starting work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, PATIENCE_SECONDS, USER, Engine, outcome, running_engine, until
from engine.scripted_executor import Gate, RecordedRun, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine import durable, scheduler
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.engine.work import StopReason
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import BlockReason, JobState, SegmentState, VideoState
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError, Transaction

ABORTED = (ErrorCode.ABORT, "INTERRUPTED")
RETRY_SECONDS = 0.2


@pytest.fixture(name="_short_pauses", autouse=True)
def _fixture_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "RETRY_SECONDS", RETRY_SECONDS)
    monkeypatch.setattr(scheduler, "RETRY_SECONDS", RETRY_SECONDS)


class FullStore:
    """A store that has no space for a commit while it is told so; after the first one that failed none begins either."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self._is_full = threading.Event()
        self._met = threading.Event()

    def fill(self) -> None:
        self._met.clear()
        self._is_full.set()

    def empty(self) -> None:
        self._is_full.clear()

    def wait(self) -> None:
        """Wait until somebody's change was undone."""
        assert self._met.wait(PATIENCE_SECONDS), "nobody changed anything"

    @contextmanager
    def read(self) -> Iterator[Reader]:
        with self._inner.read() as reader:
            yield reader

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        if self._met.is_set():
            self._refuse()
        with self._inner.transaction() as tx:
            yield tx
            self._refuse()

    def _refuse(self) -> None:
        if self._is_full.is_set():
            self._met.set()
            raise StoreUnavailableError("the disk is full")


def _fill_for_drivers(engine: Engine) -> FullStore:
    parts = engine.scheduler._durable
    parts._repository = store = FullStore(parts._repository)
    store.fill()
    return store


def _fill_for_the_scheduler(engine: Engine) -> FullStore:
    engine.scheduler._repository = store = FullStore(engine.scheduler._repository)
    store.fill()
    return store


class AtWork:
    """A video whose worker stands at a gate in its second segment."""

    def __init__(self, engine: Engine, workers: ScriptedExecutor) -> None:
        self._engine = engine
        self.session_id = engine.ready()
        self.gate = Gate()
        workers.will(1, self.gate)
        self.first = engine.process(self.session_id)
        self.gate.wait()

    def interrupt(self) -> None:
        self._engine.stops.interrupt(CALLER, self.session_id, [])

    def park(self) -> None:
        self.interrupt()
        assert outcome(self._engine.end_of(self.first)) == ABORTED
        self._engine.idle()


@pytest.fixture(name="at_work")
def _at_work(engine: Engine, workers: ScriptedExecutor) -> AtWork:
    return AtWork(engine, workers)


def _is_running(engine: Engine, accepted: Accepted) -> Callable[[], bool]:
    return lambda: engine.job(accepted.job.job_id).state is JobState.RUNNING


def test_work_is_not_given_up_before_its_parking_is_durable(engine: Engine, at_work: AtWork) -> None:
    """Its thread would end, and the next job would wait for it for ever."""
    store = _fill_for_drivers(engine)
    at_work.interrupt()
    store.wait()
    engine.scheduler.evict(USER, "v")
    store.empty()
    assert outcome(engine.end_of(at_work.first)) == ABORTED
    at_work.gate.open()
    assert engine.end_of(engine.process(at_work.session_id)).kind is EventKind.PROCESS_DONE


def test_an_interrupt_is_not_lost_while_a_yield_is_not_durable(engine: Engine, at_work: AtWork) -> None:
    store = _fill_for_drivers(engine)
    engine.close_gate(BlockReason.MANUAL)
    store.wait()
    at_work.interrupt()
    store.empty()
    assert outcome(engine.end_of(at_work.first)) == ABORTED
    assert engine.state() is VideoState.PAUSED


def test_a_job_whose_take_over_was_not_durable_has_one_driver(
    engine: Engine, workers: ScriptedExecutor, at_work: AtWork, capsys: pytest.CaptureFixture[str]
) -> None:
    at_work.park()
    again = Gate()
    workers.will(1, again)
    of_drivers, of_scheduler = _fill_for_drivers(engine), _fill_for_the_scheduler(engine)
    second = engine.process(at_work.session_id)
    of_scheduler.wait()
    of_drivers.wait()  # the driver that was to go on gives its lease back
    of_scheduler.empty()
    until(_is_running(engine, second))
    of_drivers.empty()
    again.wait()
    time.sleep(2 * RETRY_SECONDS)  # what that driver does with a job that is another's
    again.open()
    assert engine.end_of(second).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 1, 2]
    assert capsys.readouterr().out.count("job_started") == 1


class FailsInTheMiddle:
    """A store that answers no question of the next views, though they could be opened."""

    def __init__(self, inner: Repository, views: int) -> None:
        self._inner = inner
        self._left = views

    @contextmanager
    def read(self) -> Iterator[Reader]:
        with self._inner.read() as reader:
            self._left -= 1
            yield _Mute() if self._left >= 0 else reader  # type: ignore[misc]

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._inner.transaction() as tx:
            yield tx


class _Mute:
    def __getattr__(self, name: str) -> object:
        raise StoreUnavailableError(f"the disk does not answer {name}")


def test_a_driver_waits_out_a_store_that_fails_in_the_middle_of_a_view(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    session_id = engine.ready()
    parts = engine.scheduler._durable
    parts._repository = FailsInTheMiddle(parts._repository, views=3)  # type: ignore[assignment]
    assert engine.end_of(engine.process(session_id)).kind is EventKind.PROCESS_DONE
    assert "driver_broke" not in capsys.readouterr().out


def test_the_service_stops_while_a_start_cannot_be_made_durable(engine: Engine) -> None:
    session_id = engine.ready()
    store = _fill_for_the_scheduler(engine)
    engine.scheduler._durable._repository = store
    engine.process(session_id)
    store.wait()
    closing = threading.Thread(target=engine.scheduler.close, args=(0.1,), daemon=True)
    closing.start()
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()


def test_what_reset_has_dropped_is_not_gone_on_with_by_a_job_that_comes_at_once(
    engine: Engine, workers: ScriptedExecutor, at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work.park()
    other_id = engine.ready_session()
    evict, accepted = engine.scheduler.evict, []

    def after_another_session(user_id: int, video_id: str) -> None:
        accepted.append(engine.process(other_id, timestamp_us=1000))
        until(_is_running(engine, accepted[0]))
        evict(user_id, video_id)

    monkeypatch.setattr(engine.scheduler, "evict", after_another_session)
    engine.stops.reset(CALLER, at_work.session_id)
    assert engine.end_of(accepted[0]).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("restorable", [True, False])
def test_work_whose_video_is_removed_while_it_is_parked_is_given_up(
    engine: Engine, at_work: AtWork, monkeypatch: pytest.MonkeyPatch, *, restorable: bool
) -> None:
    """RemoveVideo comes when the job has ended and its driver does not stand in the lot yet."""
    lot = engine.scheduler._lot
    park = lot.park

    def after_removal(user_id: int, video_id: str, work: object) -> None:
        engine.removals.remove(CALLER, at_work.session_id, video_id, restorable=restorable)
        park(user_id, video_id, work)  # type: ignore[arg-type]

    monkeypatch.setattr(lot, "park", after_removal)
    at_work.interrupt()
    assert outcome(engine.end_of(at_work.first)) == ABORTED
    engine.idle()
    assert engine.scheduler.parked_bytes() == 0
    assert lot.get(USER, "v") is None


def test_what_given_up_work_still_finishes_does_not_break_its_successor(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last message of a worker that was frozen just then is told late: between two looks of the next driver."""
    workers = ScriptedExecutor(worker_count=2)
    with running_engine(folder, workers) as engine:
        session_id = engine.ready()
        gates = [Gate(), Gate(), Gate()]
        for index, gate in enumerate(gates):
            workers.will(index, gate)
        first = engine.process(session_id)
        for gate in gates[:2]:
            gate.wait()
        with engine._database.transaction():  # its driver waits for this one with the first segment's row
            gates[0].open()
            time.sleep(0.1)
            gates[1].open()
            time.sleep(0.1)
            engine.scheduler.stop(first.job.job_id, StopReason.INTERRUPT)
        assert outcome(engine.end_of(first)) == ABORTED
        engine.idle()
        assert [row.state for row in engine.segments()[:2]] == [SegmentState.DONE, SegmentState.LEASED]
        driver = engine.scheduler._lot.take(USER, "v")
        assert driver is not None
        looks, may_go_on, sha256 = threading.Event(), threading.Event(), engine.blobs.sha256

        def slow_look(kind: BlobKind, key: str) -> str:
            looks.set()
            assert may_go_on.wait(PATIENCE_SECONDS)
            return sha256(kind, key)

        monkeypatch.setattr(engine.blobs, "sha256", slow_look)
        second = engine.process(session_id)
        assert looks.wait(PATIENCE_SECONDS)
        driver.evict()
        time.sleep(0.3)
        may_go_on.set()
        gates[2].open()
        assert engine.end_of(second).kind is EventKind.PROCESS_DONE
        assert "driver_broke" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_job_whose_thread_cannot_be_had_is_tried_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals, start = ["can't start new thread"], threading.Thread.start

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name.startswith("job-") and refusals:
            raise RuntimeError(refusals.pop())
        start(thread)

    session_id = engine.ready()
    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    assert engine.end_of(engine.process(session_id)).kind is EventKind.PROCESS_DONE
    assert not refusals


def test_no_progress_is_told_of_a_job_that_has_ended(engine: Engine, at_work: AtWork) -> None:
    """What a worker said before it was frozen may be told when its job has ended."""
    at_work.park()
    driver = engine.scheduler._lot.get(USER, "v")
    assert driver is not None
    driver._production._tell()
    assert not engine.hub._last_progress


def test_others_do_not_wait_for_workers_that_stop_slowly(
    engine: Engine, workers: ScriptedExecutor, at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in the middle of an fsync stands still only when that has ended."""
    engine.prepare(at_work.session_id, "other")
    freeze, synced = RecordedRun.freeze, threading.Event()

    def slow_freeze(run: RecordedRun) -> None:
        assert synced.wait(PATIENCE_SECONDS)
        freeze(run)

    monkeypatch.setattr(RecordedRun, "freeze", slow_freeze)
    at_work.interrupt()
    engine.process(at_work.session_id, "other")
    assert not engine.events()
    synced.set()
    assert outcome(engine.end_of(at_work.first)) == ABORTED
