"""A closed gate: NORMAL work stops at a checkpoint, waits without an event, and goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, LIMITS, Engine, outcome, running_engine, until
from engine.observers import READY, Statuses, encodings, is_asked_to_stop
from engine.scripted_executor import Gate, ScriptedExecutor, fail
from videoprocess_server.engine import scheduler
from videoprocess_server.engine.conditions import Condition
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.model.hdi import ErrorCode, SessionStatus
from videoprocess_server.model.records import EventKind, Priority
from videoprocess_server.model.states import BlockReason, JobState, SegmentState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask

#: what a gate may say
REASONS = [BlockReason.SPACE_LIMIT, BlockReason.OVERHEAT, BlockReason.QUIET_HOURS, BlockReason.MANUAL]
#: longer than any test here, so that only the segment's end ends the wait
PATIENT = replace(LIMITS, checkpoint_seconds=60.0)
MAX_BLOCKED_SECONDS = 0.3


@pytest.fixture(name="patient")
def _patient(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers, limits=PATIENT) as engine:
        yield engine


@pytest.fixture(name="bounded")
def _bounded(folder: Path, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(scheduler, "PASS_SECONDS", 0.02)
    limits = replace(LIMITS, max_blocked_seconds=MAX_BLOCKED_SECONDS)
    with running_engine(folder, workers, limits=limits) as engine:
        yield engine


def _at_gate(engine: Engine, workers: ScriptedExecutor, where: type[Task] | int = 1) -> tuple[Accepted, Gate]:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    return accepted, gate


def _is_blocked(engine: Engine, accepted: Accepted, reason: BlockReason) -> None:
    until(lambda: engine.state() is VideoState.QUEUED)
    assert engine.job(accepted.job.job_id).blocked_by is reason
    assert engine.blocked_by(accepted) is reason
    assert not engine.events()


@pytest.mark.parametrize("reason", REASONS)
def test_running_work_ends_its_open_segment_and_waits(
    patient: Engine, workers: ScriptedExecutor, reason: BlockReason
) -> None:
    accepted, gate = _at_gate(patient, workers)
    patient.close_gate(reason)
    until(lambda: is_asked_to_stop(patient, accepted))
    assert patient.state() is VideoState.RUNNING
    gate.open()
    _is_blocked(patient, accepted, reason)
    assert [row.state for row in patient.segments()].count(SegmentState.DONE) == 2
    assert workers.encoded == [0, 1]
    patient.close_gate(BlockReason.NONE)
    assert patient.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 2]
    assert len(patient.events()) == 1


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 0, 1, 2, JoinTask, VerifyTask])
def test_a_segment_that_takes_too_long_is_frozen_and_goes_on_in_place(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    accepted, gate = _at_gate(engine, workers, where)
    engine.close_gate(BlockReason.OVERHEAT)
    _is_blocked(engine, accepted, BlockReason.OVERHEAT)
    engine.idle()
    assert engine.scheduler.parked_bytes() == workers.resident_bytes
    engine.close_gate(BlockReason.NONE)
    until(lambda: engine.state() is VideoState.RUNNING)
    gate.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 2]
    assert workers.count(AnalyzeTask) == workers.count(PlanTask) == workers.count(JoinTask) == 1
    assert len(engine.events()) == 1


def test_a_gate_that_opens_before_the_segments_end_stops_nothing(
    patient: Engine, workers: ScriptedExecutor
) -> None:
    accepted, gate = _at_gate(patient, workers)
    patient.close_gate(BlockReason.MANUAL)
    until(lambda: is_asked_to_stop(patient, accepted))
    patient.close_gate(BlockReason.NONE)
    until(lambda: not is_asked_to_stop(patient, accepted))
    gate.open()
    assert patient.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert patient.video() is not None
    assert workers.frozen == []
    assert workers.encoded == [0, 1, 2]


@pytest.mark.parametrize("reason", REASONS)
def test_queued_work_waits_and_says_for_what(engine: Engine, reason: BlockReason) -> None:
    engine.close_gate(reason)
    accepted = engine.process(engine.ready())
    until(lambda: engine.blocked_by(accepted) is reason)
    assert engine.state() is VideoState.QUEUED
    engine.close_gate(BlockReason.NONE)
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


def test_a_gate_that_is_closed_for_another_reason_now_is_told_so(engine: Engine) -> None:
    engine.close_gate(BlockReason.OVERHEAT)
    accepted = engine.process(engine.ready())
    until(lambda: engine.blocked_by(accepted) is BlockReason.OVERHEAT)
    engine.close_gate(BlockReason.MANUAL)
    until(lambda: engine.blocked_by(accepted) is BlockReason.MANUAL)


@pytest.mark.slow
def test_w7_work_goes_on_by_itself_however_often_the_gate_closes(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    """The reference leaves its queue idle after a pause until something unrelated happens."""
    accepted, gate = _at_gate(engine, workers)
    for _ in range(10):
        engine.close_gate(BlockReason.OVERHEAT)
        until(lambda: engine.state() is VideoState.QUEUED)
        engine.close_gate(BlockReason.NONE)
        until(lambda: engine.state() is VideoState.RUNNING)
    gate.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 2]
    video = engine.video()
    assert video is not None
    assert video.attempt_count == 1


@pytest.mark.parametrize("reason", REASONS)
def test_high_work_runs_through_a_closed_gate(engine: Engine, reason: BlockReason) -> None:
    engine.close_gate(reason)
    session_id = engine.ready("normal")
    engine.prepare(session_id, "high")
    normal = engine.process(session_id, "normal")
    high = engine.process(session_id, "high", priority=Priority.HIGH)
    assert engine.end_of(high).kind is EventKind.PROCESS_DONE
    assert engine.state("normal") is VideoState.QUEUED
    engine.close_gate(BlockReason.NONE)
    assert engine.end_of(normal).kind is EventKind.PROCESS_DONE


def test_blocked_work_that_becomes_high_goes_on(engine: Engine, workers: ScriptedExecutor) -> None:
    accepted, gate = _at_gate(engine, workers)
    engine.close_gate(BlockReason.MANUAL)
    _is_blocked(engine, accepted, BlockReason.MANUAL)
    engine.process(accepted.job.session_id, priority=Priority.HIGH)
    gate.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 2]


@pytest.mark.parametrize("frozen", [True, False])
def test_blocked_work_can_be_interrupted(engine: Engine, workers: ScriptedExecutor, *, frozen: bool) -> None:
    if not frozen:
        engine.close_gate(BlockReason.OVERHEAT)
        accepted = engine.process(engine.ready())
    else:
        accepted, gate = _at_gate(engine, workers)
        engine.close_gate(BlockReason.OVERHEAT)
        until(lambda: is_asked_to_stop(engine, accepted))
        gate.open()
    until(lambda: engine.blocked_by(accepted) is BlockReason.OVERHEAT)
    engine.stops.interrupt(CALLER, accepted.job.session_id, [])
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "INTERRUPTED")
    engine.close_gate(BlockReason.NONE)
    assert engine.finished(accepted.job.session_id).kind is EventKind.PROCESS_DONE
    assert set(encodings(workers).values()) == {1}


def test_blocked_work_is_still_blocked_after_a_restart(engine: Engine, workers: ScriptedExecutor) -> None:
    accepted, _ = _at_gate(engine, workers)
    engine.close_gate(BlockReason.OVERHEAT)
    _is_blocked(engine, accepted, BlockReason.OVERHEAT)
    engine.restart()
    _is_blocked(engine, accepted, BlockReason.OVERHEAT)
    engine.close_gate(BlockReason.NONE)
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 1, 2]


# -- a bound


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (BlockReason.OVERHEAT, ErrorCode.HIGH_TEMPERATURE),
        (BlockReason.SPACE_LIMIT, ErrorCode.ABNORMAL),
        (BlockReason.QUIET_HOURS, ErrorCode.ABNORMAL),
        (BlockReason.MANUAL, ErrorCode.ABNORMAL),
    ],
)
@pytest.mark.parametrize("began", [True, False], ids=["running", "queued"])
def test_what_is_blocked_for_too_long_fails_and_does_not_go_on_by_itself(
    bounded: Engine, workers: ScriptedExecutor, reason: BlockReason, code: ErrorCode, *, began: bool
) -> None:
    if began:
        accepted, gate = _at_gate(bounded, workers)
        bounded.close_gate(reason)
        until(lambda: is_asked_to_stop(bounded, accepted))
        gate.open()
    else:
        bounded.close_gate(reason)
        accepted = bounded.process(bounded.ready())
    assert outcome(bounded.end_of(accepted)) == (code, "BLOCKED_TOO_LONG")
    assert bounded.state() is VideoState.FAILED
    assert bounded.scheduler.parked_bytes() == 0
    made = len(workers.begun)
    bounded.close_gate(BlockReason.NONE)
    other = bounded.ready("other")
    assert bounded.finished(other, "other").kind is EventKind.PROCESS_DONE
    assert bounded.state() is VideoState.FAILED
    assert len(bounded.events()) == 2
    assert len(workers.begun) == made + 8  # the probe and the seven tasks of the other
    assert bounded.finished(other).kind is EventKind.PROCESS_DONE
    assert set(encodings(workers).values()) == {1}


def test_blocked_time_is_counted_without_a_break_only(bounded: Engine, workers: ScriptedExecutor) -> None:
    accepted, gate = _at_gate(bounded, workers)
    for _ in range(4):
        bounded.close_gate(BlockReason.OVERHEAT)
        until(lambda: bounded.state() is VideoState.QUEUED)
        bounded.close_gate(BlockReason.NONE)
        until(lambda: bounded.state() is VideoState.RUNNING)
    gate.open()
    assert bounded.end_of(accepted).kind is EventKind.PROCESS_DONE


def test_blocked_time_before_a_restart_counts(
    folder: Path, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PASS_SECONDS", 0.02)
    limits = replace(LIMITS, max_blocked_seconds=3600.0)
    with running_engine(folder, workers, limits=limits) as engine:
        accepted, _ = _at_gate(engine, workers)
        engine.close_gate(BlockReason.OVERHEAT)
        _is_blocked(engine, accepted, BlockReason.OVERHEAT)
        engine.clock.advance(3599)
        engine.restart()
        _is_blocked(engine, accepted, BlockReason.OVERHEAT)
        engine.kill()
        engine.clock.advance(1)
        engine.restart()
        assert outcome(engine.end_of(accepted)) == (ErrorCode.HIGH_TEMPERATURE, "BLOCKED_TOO_LONG")


def test_waiting_for_ones_turn_is_not_being_blocked(bounded: Engine, workers: ScriptedExecutor) -> None:
    accepted, gate = _at_gate(bounded, workers)
    bounded.prepare(accepted.job.session_id, "next")
    after = bounded.process(accepted.job.session_id, "next")
    time.sleep(2 * MAX_BLOCKED_SECONDS)
    assert bounded.job(after.job.job_id).state is JobState.QUEUED
    gate.open()
    assert bounded.end_of(after).kind is EventKind.PROCESS_DONE


# -- conditions


def test_of_several_conditions_the_weightiest_is_told_and_each_change_once(engine: Engine) -> None:
    statuses = Statuses(engine)
    space = Condition(SessionStatus.READY_SPACE_LIMIT_REACHED, BlockReason.SPACE_LIMIT, "full")
    heat = Condition(SessionStatus.NOT_READY_OVERHEAT, BlockReason.OVERHEAT, "hot")
    away = Condition(SessionStatus.NOT_READY_TEMPORARILY, BlockReason.STORE_UNREACHABLE, "away")
    seen = [statuses.told()]
    for name, condition in (("space", space), ("heat", heat), ("heat", heat), ("away", away)):
        engine.conditions.begin(name, condition)
        seen.append(statuses.told())
    for name in ("heat", "nothing", "away", "space"):
        engine.conditions.end(name)
        seen.append(statuses.told())
    told = [each[-1] for each in seen]
    assert told == [
        READY,
        (space.status, space.reason),
        (heat.status, heat.reason),
        (heat.status, heat.reason),
        (away.status, away.reason),
        (away.status, away.reason),
        (away.status, away.reason),
        (space.status, space.reason),
        READY,
    ]
    assert len(seen[-1]) == 6  # what did not change was not told again


def test_who_comes_later_is_told_what_is_the_matter(engine: Engine) -> None:
    engine.conditions.begin("heat", Condition(SessionStatus.NOT_READY_OVERHEAT, BlockReason.OVERHEAT, "hot"))
    assert Statuses(engine).told() == [(SessionStatus.NOT_READY_OVERHEAT, BlockReason.OVERHEAT)]


@pytest.mark.slow
def test_a_disk_that_is_full_again_and_again_counts_as_one_time_of_being_blocked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.3)
    workers = ScriptedExecutor()
    workers.will(1, *[fail("STORAGE_FULL")] * 1000)
    with running_engine(folder, workers, limits=replace(LIMITS, max_blocked_seconds=1.0)) as engine:
        # wall time counts for what was blocked before; here it goes with the monotonic clock
        accepted = engine.process(engine.ready())
        until(lambda: engine.clock.advance(0.002) or engine.job(accepted.job.job_id).state is JobState.FAILED)
        assert outcome(engine.end_of(accepted)) == (ErrorCode.ABNORMAL, "BLOCKED_TOO_LONG")
