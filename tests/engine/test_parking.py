"""Interrupted work waits frozen: the next ProcessVideo goes on in the middle of a segment, or the work is given up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from engine.engine_under_test import (
    CALLER,
    MEMORY_BYTES,
    OTHER_SETTINGS,
    PARKED_SECONDS,
    SECOND_US,
    USER,
    Engine,
    outcome,
    running_engine,
    until,
)
from engine.scripted_executor import PATIENCE_SECONDS, Attempt, Gate, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine import parking
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind, JobProgress, Priority
from videoprocess_server.model.states import JobState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, EncodeTask, JoinTask, PlanTask, Task, VerifyTask

PHASES = [AnalyzeTask, PlanTask, 0, 1, 2, JoinTask, VerifyTask]
ABORTED = (ErrorCode.ABORT, "INTERRUPTED")
#: all tasks of a job that nobody disturbs
UNDISTURBED = [AnalyzeTask, PlanTask, EncodeTask, EncodeTask, EncodeTask, JoinTask, VerifyTask]


class WatchedGate(Gate):
    """A gate that knows whether somebody killed who stood at it."""

    def __init__(self) -> None:
        super().__init__()
        self._attempt: Attempt | None = None

    def __call__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        super().__call__(attempt)

    @property
    def is_killed(self) -> bool:
        assert self._attempt is not None, "nobody came"
        return self._attempt.cancelled.is_set()


class Parked:
    """A video whose worker is frozen at a gate."""

    def __init__(
        self,
        engine: Engine,
        workers: ScriptedExecutor,
        where: type[Task] | int = 1,
        video_id: str = "v",
        timestamp_us: int = 0,
    ) -> None:
        self._engine = engine
        self.video_id = video_id
        self.session_id = engine.ready(video_id)
        self.gate = WatchedGate()
        workers.will(where, self.gate)
        self.first = engine.process(self.session_id, video_id, timestamp_us)
        self.gate.wait()
        engine.stops.interrupt(CALLER, self.session_id, [])
        assert outcome(engine.end_of(self.first)) == ABORTED
        engine.idle()

    def process(self, timestamp_us: int = 0, priority: Priority | None = None) -> Accepted:
        return self._engine.process(self.session_id, self.video_id, timestamp_us, priority=priority)


@pytest.fixture(name="parked")
def _parked(engine: Engine, workers: ScriptedExecutor) -> Parked:
    return Parked(engine, workers)


def _kinds(workers: ScriptedExecutor) -> list[type[Task]]:
    return [type(task) for task in workers.begun if type(task) in UNDISTURBED]


def _running(engine: Engine, accepted: Accepted) -> JobProgress:
    """Wait until the job runs and return its progress."""
    until(lambda: engine.job(accepted.job.job_id).state is JobState.RUNNING)
    return engine.scheduler.live(engine.job(accepted.job.job_id)).progress


def _is_done(engine: Engine, accepted: Accepted) -> None:
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


# -- where it goes on


@pytest.mark.parametrize("where", PHASES)
def test_interrupted_work_is_frozen_and_goes_on_in_place(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    parked = Parked(engine, workers, where)
    assert engine.state() is VideoState.PAUSED
    assert engine.scheduler.running_count() == 0
    assert engine.scheduler.parked_bytes() == workers.resident_bytes
    assert workers.begun[-1] in workers.frozen
    accepted = parked.process()
    assert accepted.job.job_id != parked.first.job.job_id
    _running(engine, accepted)
    assert not parked.gate.is_killed
    parked.gate.open()
    done = engine.end_of(accepted)
    assert (done.kind, done.job_id) == (EventKind.PROCESS_DONE, accepted.job.job_id)
    assert _kinds(workers) == UNDISTURBED
    assert workers.encoded == [0, 1, 2]
    assert [event.job_id for event in engine.events()] == [parked.first.job.job_id, done.job_id]
    assert engine.scheduler.parked_bytes() == 0
    engine.idle()
    assert not engine.blobs.keys(BlobKind.SEGMENT)
    assert not engine.blobs.keys(BlobKind.WORK)


@pytest.mark.parametrize(
    ("where", "reused"), [(AnalyzeTask, 0), (0, 0), (1, 1), (2, 2), (JoinTask, 3), (VerifyTask, 3)]
)
def test_reused_are_the_segments_that_were_finished_before_the_job_began(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int, reused: int
) -> None:
    parked = Parked(engine, workers, where)
    accepted = parked.process()
    parked.gate.open()
    report = engine.end_of(accepted).report
    assert report is not None
    assert report.reused_segment_count == reused


@pytest.mark.parametrize("where", PHASES)
def test_progress_goes_on_from_where_it_stood(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    parked = Parked(engine, workers, where)
    before = engine.job(parked.first.job.job_id).progress
    accepted = parked.process()
    after = _running(engine, accepted)
    assert (after.phase, after.percent) == (before.phase, before.percent)
    assert (after.frames_done, after.segments_done) == (before.frames_done, before.segments_done)
    parked.gate.open()
    engine.end_of(accepted)
    assert engine.job(accepted.job.job_id).progress.percent == 100


def test_an_open_segments_frames_are_not_lost(engine: Engine, parked: Parked) -> None:
    assert _running(engine, parked.process()).frames_done == 15


def test_twenty_interrupts_within_one_segment_cost_nothing(
    engine: Engine, workers: ScriptedExecutor, parked: Parked
) -> None:
    percents = [engine.job(parked.first.job.job_id).progress.percent]
    for _ in range(20):
        accepted = parked.process()
        percents.append(_running(engine, accepted).percent)
        engine.stops.interrupt(CALLER, parked.session_id, [])
        assert outcome(engine.end_of(accepted)) == ABORTED
    accepted = parked.process()
    parked.gate.open()
    _is_done(engine, accepted)
    assert workers.encoded == [0, 1, 2]
    assert percents == sorted(percents)
    assert [event.sequence for event in engine.events()] == [*range(1, 23)]
    assert len({event.job_id for event in engine.events()}) == 22


def test_interrupts_that_meet_the_thaw_cost_nothing(
    engine: Engine, workers: ScriptedExecutor, parked: Parked
) -> None:
    """At any moment between the acceptance and the running worker."""
    moments = random.Random(7)
    accepted = [parked.first]
    for _ in range(60):
        accepted.append(parked.process())
        time.sleep(moments.uniform(0, 0.006))
        engine.stops.interrupt(CALLER, parked.session_id, [])
        assert outcome(engine.end_of(accepted[-1])) == ABORTED
        assert engine.state() is VideoState.PAUSED
    accepted.append(parked.process())
    parked.gate.open()
    _is_done(engine, accepted[-1])
    assert workers.encoded == [0, 1, 2]
    assert [event.job_id for event in engine.events()] == [each.job.job_id for each in accepted]


def test_another_session_goes_on_and_interrupts_by_name(
    engine: Engine, workers: ScriptedExecutor, parked: Parked
) -> None:
    second = engine.ready_session()
    accepted = engine.process(second)
    _running(engine, accepted)
    engine.stops.interrupt(CALLER, parked.session_id, [])
    assert engine.state() is VideoState.RUNNING
    engine.stops.interrupt(CALLER, parked.session_id, ["v"])
    assert outcome(engine.end_of(accepted)) == ABORTED
    parked.gate.open()
    _is_done(engine, engine.process(engine.ready_session()))
    assert workers.encoded == [0, 1, 2]
    assert [event.session_id for event in engine.events()][:2] == [parked.session_id, second]


@pytest.mark.parametrize("where", [1, JoinTask, VerifyTask])
def test_a_plan_is_continued_whatever_the_time_stamp_says(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    parked = Parked(engine, workers, where)
    accepted = parked.process(timestamp_us=2 * SECOND_US)
    parked.gate.open()
    report = engine.end_of(accepted).report
    assert report is not None
    assert report.enhanced_frame_count == report.frame_count
    assert _kinds(workers) == UNDISTURBED


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask])
def test_before_there_is_a_plan_another_time_stamp_starts_anew(
    engine: Engine, workers: ScriptedExecutor, where: type[Task]
) -> None:
    parked = Parked(engine, workers, where)
    event = engine.end_of(parked.process(timestamp_us=2 * SECOND_US))
    assert parked.gate.is_killed
    assert workers.count(where) == 2
    assert event.report is not None
    assert event.report.enhanced_frame_count == 10
    plans = [task for task in workers.begun if isinstance(task, PlanTask)]
    assert plans[-1].enhance_from_us == 2 * SECOND_US


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask])
def test_before_there_is_a_plan_the_same_time_stamp_goes_on(
    engine: Engine, workers: ScriptedExecutor, where: type[Task]
) -> None:
    parked = Parked(engine, workers, where, timestamp_us=2 * SECOND_US)
    accepted = parked.process(timestamp_us=2 * SECOND_US)
    parked.gate.open()
    report = engine.end_of(accepted).report
    assert report is not None
    assert report.enhanced_frame_count == 10
    assert _kinds(workers) == UNDISTURBED


@pytest.mark.parametrize("where", PHASES)
def test_other_settings_give_the_frozen_work_up(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    parked = Parked(engine, workers, where)
    engine.commit(parked.session_id, OTHER_SETTINGS)
    _is_done(engine, parked.process())
    until(lambda: parked.gate.is_killed)
    assert workers.count(PlanTask) == 2 - (where is AnalyzeTask)
    assert workers.encoded[-3:] == [0, 1, 2]
    assert engine.scheduler.parked_bytes() == 0


# -- what gives it up


def _reset(engine: Engine, parked: Parked) -> None:
    engine.stops.reset(CALLER, parked.session_id)
    assert engine.state() is VideoState.PENDING


def _remove(engine: Engine, parked: Parked) -> None:
    engine.removals.remove(CALLER, parked.session_id, "v", restorable=False)
    assert engine.video() is None


def _put_in_trash(engine: Engine, parked: Parked) -> None:
    engine.removals.remove(CALLER, parked.session_id, "v", restorable=True)
    assert engine.state() is VideoState.DELETED


def _prepare_another_source(engine: Engine, parked: Parked) -> None:
    engine.prepare(parked.session_id, "v", b"another video")
    assert engine.state() is VideoState.PENDING


GIVING_UP = [_reset, _remove, _put_in_trash, _prepare_another_source]


@pytest.mark.parametrize("where", PHASES)
@pytest.mark.parametrize("give_up", GIVING_UP)
def test_calls_after_which_nobody_can_go_on_give_the_work_up(
    engine: Engine,
    workers: ScriptedExecutor,
    where: type[Task] | int,
    give_up: Callable[[Engine, Parked], None],
) -> None:
    parked = Parked(engine, workers, where)
    give_up(engine, parked)
    until(lambda: parked.gate.is_killed)
    assert engine.scheduler.parked_bytes() == 0
    assert [outcome(event) for event in engine.events()] == [ABORTED]


@pytest.mark.parametrize("give_up", [_reset, _remove, _prepare_another_source])
def test_nothing_of_work_that_was_given_up_for_good_is_used_again(
    engine: Engine, workers: ScriptedExecutor, parked: Parked, give_up: Callable[[Engine, Parked], None]
) -> None:
    give_up(engine, parked)
    until(lambda: not engine.blobs.keys(BlobKind.SEGMENT))
    assert not engine.segments()
    session_id = engine.ready_session()
    engine.prepare(session_id, "v", (engine.shared / "v.mp4").read_bytes())
    _is_done(engine, engine.process(session_id))
    assert workers.encoded == [0, 1, 0, 1, 2]


def test_a_restored_video_goes_on_with_its_finished_segments(
    engine: Engine, workers: ScriptedExecutor, parked: Parked
) -> None:
    _put_in_trash(engine, parked)
    assert engine.removals.restore(CALLER, USER, "v").video.state is VideoState.PENDING
    _is_done(engine, parked.process())
    assert workers.encoded == [0, 1, 1, 2]


def test_the_same_source_prepared_again_gives_nothing_up(
    engine: Engine, workers: ScriptedExecutor, parked: Parked
) -> None:
    engine.prepare(parked.session_id, "v")
    accepted = parked.process()
    parked.gate.open()
    _is_done(engine, accepted)
    assert workers.encoded == [0, 1, 2]


# -- its budget


LIMITED = [
    ParkingLimits(max_count=1, max_bytes=MEMORY_BYTES, max_seconds=PARKED_SECONDS),
    ParkingLimits(max_bytes=150 << 20, max_seconds=PARKED_SECONDS),
]


@pytest.mark.parametrize("limits", LIMITED, ids=["count", "bytes"])
def test_over_the_budget_the_oldest_is_given_up_and_its_open_segment_redone(
    folder: Path, workers: ScriptedExecutor, limits: ParkingLimits
) -> None:
    with running_engine(folder, workers, parking=limits) as engine:
        old, new = [Parked(engine, workers, 1, name) for name in ("old", "new")]
        until(lambda: old.gate.is_killed)
        until(lambda: engine.scheduler.parked_bytes() == workers.resident_bytes)
        assert not new.gate.is_killed
        _is_done(engine, old.process())
        accepted = new.process()
        new.gate.open()
        _is_done(engine, accepted)
        assert workers.encoded == [0, 1, 0, 1, 1, 2, 2]


def test_after_its_time_it_is_given_up_and_the_open_segment_redone(
    folder: Path, workers: ScriptedExecutor
) -> None:
    with running_engine(folder, workers, parking=ParkingLimits(max_seconds=0.2)) as engine:
        parked = Parked(engine, workers)
        until(lambda: parked.gate.is_killed)
        assert engine.state() is VideoState.PAUSED
        _is_done(engine, parked.process())
        assert workers.encoded == [0, 1, 1, 2]


def test_without_a_budget_an_interrupt_kills(folder: Path, workers: ScriptedExecutor) -> None:
    with running_engine(folder, workers, parking=ParkingLimits(max_count=0)) as engine:
        parked = Parked(engine, workers)
        until(lambda: parked.gate.is_killed)
        _is_done(engine, parked.process())
        assert workers.encoded == [0, 1, 1, 2]


# -- the service's end


#: an analysis is kept with the plan it is for, a joined file only until it is verified
@pytest.mark.parametrize(
    ("where", "redone"),
    [(AnalyzeTask, 1), (PlanTask, 2), (0, 1), (1, 1), (2, 1), (JoinTask, 1), (VerifyTask, 2)],
)
def test_a_kill_of_the_service_gives_the_work_up_but_not_what_was_finished(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int, redone: int
) -> None:
    parked = Parked(engine, workers, where)
    engine.restart()
    assert parked.gate.is_killed
    assert engine.state() is VideoState.PAUSED
    _is_done(engine, parked.process())
    assert len(_kinds(workers)) == len(UNDISTURBED) + redone
    assert [event.sequence for event in engine.events()] == [1, 2]


def test_an_orderly_stop_waits_for_no_frozen_work(
    engine: Engine, workers: ScriptedExecutor, parked: Parked
) -> None:
    begin = time.monotonic()
    engine.stop_orderly(grace_seconds=60)
    assert time.monotonic() - begin < 30
    assert parked.gate.is_killed
    engine.start_again()
    assert engine.state() is VideoState.PAUSED
    _is_done(engine, parked.process())
    assert workers.encoded == [0, 1, 1, 2]


def test_what_is_interrupted_while_the_service_stops_is_not_kept_frozen(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    gate = WatchedGate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    stopping = threading.Thread(target=engine.stop_orderly, args=(60.0,))
    stopping.start()
    until(lambda: engine.scheduler.draining)
    engine.stops.interrupt(CALLER, session_id, [])
    assert outcome(engine.end_of(accepted)) == ABORTED
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()
    assert gate.is_killed
    assert engine.state() is VideoState.PAUSED


# -- beside other work


def test_two_parked_videos_go_on_in_the_other_order(engine: Engine, workers: ScriptedExecutor) -> None:
    first, second = [Parked(engine, workers, 1, name) for name in ("first", "second")]
    assert engine.scheduler.parked_bytes() == 2 * workers.resident_bytes
    for parked in (second, first):
        accepted = parked.process()
        parked.gate.open()
        _is_done(engine, accepted)
    assert workers.encoded == [0, 1, 0, 1, 2, 2]
    assert not first.gate.is_killed
    assert not second.gate.is_killed


@pytest.fixture(name="busy")
def _busy(engine: Engine, workers: ScriptedExecutor, parked: Parked) -> Iterator[Gate]:
    """The only worker stands at a gate in another video, "busy"."""
    engine.prepare(parked.session_id, "busy")
    gate = Gate()
    workers.will(0, gate)
    engine.process(parked.session_id, "busy")
    gate.wait()
    yield gate
    gate.open()


def test_a_queued_job_with_frozen_work_can_be_interrupted_and_goes_on_later(
    engine: Engine, workers: ScriptedExecutor, parked: Parked, busy: Gate
) -> None:
    accepted = parked.process()
    assert engine.state() is VideoState.QUEUED
    engine.stops.interrupt(CALLER, parked.session_id, ["v"])
    assert outcome(engine.end_of(accepted)) == ABORTED
    assert engine.state() is VideoState.PAUSED
    assert not parked.gate.is_killed
    busy.open()
    parked.gate.open()
    _is_done(engine, parked.process())
    until(lambda: engine.state("busy") is VideoState.COMPLETED)
    assert sorted(workers.encoded) == [0, 0, 1, 1, 2, 2]


def test_reset_of_a_queued_job_with_frozen_work_gives_it_up(
    engine: Engine, parked: Parked, busy: Gate
) -> None:
    session_id = engine.ready_session()
    accepted = engine.process(session_id)
    assert not parked.gate.is_killed
    engine.stops.reset(CALLER, session_id)
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "RESET")
    until(lambda: parked.gate.is_killed)
    assert not engine.segments()


def test_high_thaws_in_place_before_normal_work_goes_on(
    engine: Engine, workers: ScriptedExecutor, parked: Parked, busy: Gate
) -> None:
    accepted = parked.process(priority=Priority.HIGH)
    busy.open()
    _running(engine, accepted)
    until(lambda: engine.state("busy") is VideoState.QUEUED)
    parked.gate.open()
    _is_done(engine, accepted)
    until(lambda: engine.state("busy") is VideoState.COMPLETED)
    assert [event.video_id for event in engine.events()] == ["v", "v", "busy"]
    assert sorted(workers.encoded) == [0, 0, 1, 1, 2, 2]
    assert workers.count(EncodeTask) == 6


# -- the lot itself


class Work:
    """Something that waits."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.is_given_up = False

    def resident_bytes(self) -> int:
        return self._size

    def evict(self) -> None:
        assert not self.is_given_up, "it was given up twice"
        self.is_given_up = True


class Time:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def _lot(limits: ParkingLimits, works: Sequence[Work], clock: Time) -> parking.ParkingLot[Work]:
    lot: parking.ParkingLot[Work] = parking.ParkingLot(limits, clock.monotonic)
    for number, work in enumerate(works):
        lot.park(USER, str(number), work)
        clock.now += 1
    return lot


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (ParkingLimits(max_count=9, max_bytes=99, max_seconds=99), [0, 1, 2, 3]),
        (ParkingLimits(max_count=3, max_bytes=99, max_seconds=99), [1, 2, 3]),
        (ParkingLimits(max_count=9, max_bytes=10, max_seconds=99), [3]),
        (ParkingLimits(max_count=9, max_bytes=11, max_seconds=99), [2, 3]),
        (ParkingLimits(max_count=9, max_bytes=99, max_seconds=2), [2, 3]),
        (ParkingLimits(max_count=0, max_bytes=99, max_seconds=99), []),
    ],
)
def test_the_newest_that_fit_are_kept(limits: ParkingLimits, kept: list[int]) -> None:
    works = [Work(size) for size in (1, 2, 3, 8)]
    lot = _lot(limits, works, Time())
    lot.keep_within_limits()
    assert [number for number, work in enumerate(works) if not work.is_given_up] == kept
    lot.clear()
    assert all(work.is_given_up for work in works)
    assert lot.resident_bytes() == 0
    assert lot.seconds_to_next_expiry() is None


def test_what_is_taken_is_not_given_up() -> None:
    works = [Work(1), Work(1)]
    lot = _lot(ParkingLimits(max_seconds=10), works, Time())
    assert lot.take(USER, "0") is works[0]
    assert lot.take(USER, "0") is None
    lot.clear()
    assert [work.is_given_up for work in works] == [False, True]


def test_newer_work_on_a_video_replaces_older() -> None:
    works = [Work(1), Work(2)]
    lot: parking.ParkingLot[Work] = parking.ParkingLot(ParkingLimits())
    for work in works:
        lot.park(USER, "v", work)
    assert works[0].is_given_up
    assert lot.take(USER, "v") is works[1]


def test_the_next_expiry_is_the_oldests() -> None:
    clock = Time()
    lot = _lot(ParkingLimits(max_seconds=10), [Work(1), Work(1)], clock)
    assert lot.seconds_to_next_expiry() == 8
    clock.now = 100
    assert lot.seconds_to_next_expiry() == 0
