"""A HIGH job takes the workers of its user's NORMAL ones at their next segment, and they go on by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, LIMITS, OTHER_USER, Engine, outcome, running_engine, until
from engine.observers import READY, Statuses, encodings, is_asked_to_stop
from engine.scripted_executor import Gate, ScriptedExecutor
from videoprocess_server.engine.jobs import Accepted
from videoprocess_server.model.hdi import ErrorCode, SessionStatus
from videoprocess_server.model.records import EventKind, Priority
from videoprocess_server.model.states import BlockReason, JobState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask

PREEMPTED = (SessionStatus.NOT_READY_PREEMPTED, BlockReason.PREEMPTED)
PATIENT = replace(LIMITS, checkpoint_seconds=60.0)


class Normal:
    """A NORMAL job "normal" whose worker stands at a gate."""

    def __init__(self, engine: Engine, workers: ScriptedExecutor, where: type[Task] | int = 1) -> None:
        self.session_id = engine.ready("normal")
        self.gate = Gate()
        workers.will(where, self.gate)
        self.accepted = engine.process(self.session_id, "normal")
        self.gate.wait()
        self.statuses = Statuses(engine, self.session_id)


@pytest.fixture(name="patient")
def _patient(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    """Lets a segment take as long as it likes."""
    with running_engine(folder, workers, limits=PATIENT) as engine:
        yield engine


def _high(engine: Engine, session_id: str) -> Accepted:
    engine.prepare(session_id, "high")
    return engine.process(session_id, "high", priority=Priority.HIGH)


def _is_done(engine: Engine, accepted: Accepted) -> None:
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


def test_high_takes_the_worker_at_the_next_segment_and_normal_goes_on_by_itself(
    patient: Engine, workers: ScriptedExecutor
) -> None:
    normal = Normal(patient, workers)
    elsewhere = patient.ready_session()
    other_statuses = Statuses(patient, elsewhere)
    at_high = Gate()
    workers.will(0, at_high)
    high = _high(patient, elsewhere)
    until(lambda: is_asked_to_stop(patient, normal.accepted))
    assert patient.state("normal") is VideoState.RUNNING
    normal.gate.open()
    at_high.wait()
    until(lambda: patient.state("normal") is VideoState.QUEUED)
    assert workers.encoded == [0, 1, 0]
    assert patient.job(normal.accepted.job.job_id).blocked_by is BlockReason.PREEMPTED
    assert patient.blocked_by(normal.accepted) is BlockReason.PREEMPTED
    until(lambda: normal.statuses.told() == [READY, PREEMPTED])
    assert other_statuses.told() == [READY]
    assert not patient.events()
    at_high.open()
    _is_done(patient, high)
    _is_done(patient, normal.accepted)
    assert workers.encoded == [0, 1, 0, 1, 2, 2]
    assert patient.done_videos() == ["high", "normal"]
    until(lambda: normal.statuses.told() == [READY, PREEMPTED, READY])
    assert other_statuses.told() == [READY]


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 0, 1, 2, JoinTask, VerifyTask])
def test_work_that_does_not_come_to_a_checkpoint_in_time_is_frozen(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    normal = Normal(engine, workers, where)
    _is_done(engine, _high(engine, normal.session_id))
    assert engine.job(normal.accepted.job.job_id).state is not JobState.COMPLETED
    normal.gate.open()
    _is_done(engine, normal.accepted)
    assert set(encodings(workers).values()) == {1}
    assert workers.count(AnalyzeTask) == workers.count(PlanTask) == workers.count(JoinTask) == 2


def test_a_session_that_preempts_itself_hears_nothing(engine: Engine, workers: ScriptedExecutor) -> None:
    normal = Normal(engine, workers)
    at_high = Gate()
    workers.will(0, at_high)
    high = _high(engine, normal.session_id)
    at_high.wait()
    until(lambda: engine.blocked_by(normal.accepted) is BlockReason.PREEMPTED)
    at_high.open()
    _is_done(engine, high)
    normal.gate.open()
    _is_done(engine, normal.accepted)
    assert normal.statuses.told() == [READY]


def test_who_subscribes_while_it_is_preempted_is_told_so(engine: Engine, workers: ScriptedExecutor) -> None:
    normal = Normal(engine, workers)
    at_high = Gate()
    workers.will(0, at_high)
    _high(engine, engine.ready_session())
    at_high.wait()
    until(lambda: Statuses(engine, normal.session_id).told() == [READY, PREEMPTED])
    assert Statuses(engine, normal.session_id, OTHER_USER).told() == [READY]


def test_a_high_job_that_is_interrupted_before_the_checkpoint_stops_nothing(
    patient: Engine, workers: ScriptedExecutor
) -> None:
    normal = Normal(patient, workers)
    high = _high(patient, patient.ready_session())
    until(lambda: is_asked_to_stop(patient, normal.accepted))
    patient.stops.interrupt(CALLER, normal.session_id, ["high"])
    assert outcome(patient.end_of(high)) == (ErrorCode.ABORT, "INTERRUPTED")
    until(lambda: not is_asked_to_stop(patient, normal.accepted))
    normal.gate.open()
    _is_done(patient, normal.accepted)
    assert workers.encoded == [0, 1, 2]


def test_a_running_job_that_becomes_high_is_not_preempted(patient: Engine, workers: ScriptedExecutor) -> None:
    normal = Normal(patient, workers)
    elsewhere = patient.ready_session()
    assert patient.process(elsewhere, "normal", priority=Priority.HIGH).job.job_id == (
        normal.accepted.job.job_id
    )
    high = _high(patient, elsewhere)
    normal.gate.open()
    _is_done(patient, high)
    assert patient.done_videos() == ["normal", "high"]
    assert normal.statuses.told() == [READY]


def test_a_high_job_of_another_user_preempts_nobody(engine: Engine, workers: ScriptedExecutor) -> None:
    normal = Normal(engine, workers)
    session_id = engine.ready("high", OTHER_USER)
    high = engine.process(session_id, "high", priority=Priority.HIGH)
    normal.gate.open()
    _is_done(engine, high)
    _is_done(engine, normal.accepted)
    assert workers.encoded == [0, 1, 2, 0, 1, 2]
    assert normal.statuses.told() == [READY]


def test_preempted_work_can_be_interrupted_and_keeps_its_segment(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    normal = Normal(engine, workers)
    at_high = Gate()
    workers.will(0, at_high)
    high = _high(engine, engine.ready_session())
    at_high.wait()
    until(lambda: engine.state("normal") is VideoState.QUEUED)
    engine.stops.interrupt(CALLER, normal.session_id, [])
    assert outcome(engine.end_of(normal.accepted)) == (ErrorCode.ABORT, "INTERRUPTED")
    at_high.open()
    _is_done(engine, high)
    normal.gate.open()
    _is_done(engine, engine.process(normal.session_id, "normal"))
    assert set(encodings(workers).values()) == {1}


def test_a_preempted_job_survives_the_service(engine: Engine, workers: ScriptedExecutor) -> None:
    normal = Normal(engine, workers)
    at_high = Gate()
    workers.will(0, at_high)
    high = _high(engine, engine.ready_session())
    at_high.wait()
    until(lambda: engine.state("normal") is VideoState.QUEUED)
    engine.restart()
    for accepted in (high, normal.accepted):
        _is_done(engine, accepted)
    assert engine.done_videos() == ["high", "normal"]


def test_a_high_job_takes_no_more_workers_than_it_can_use(folder: Path) -> None:
    """One plans with one worker; the other worker stays with the NORMAL job."""
    workers = ScriptedExecutor(worker_count=2, segment_count=6)
    with running_engine(folder, workers, limits=PATIENT) as engine:
        session_id = engine.ready("normal")
        at_normal, at_analysis = [Gate(), Gate()], Gate()
        workers.will(0, at_normal[0])
        workers.will(1, at_normal[1])
        normal = engine.process(session_id, "normal")
        for gate in at_normal:
            gate.wait()
        workers.will(AnalyzeTask, at_analysis)
        high = _high(engine, session_id)
        at_normal[0].open()
        at_analysis.wait()
        assert engine.state("normal") is VideoState.RUNNING
        at_normal[1].open()
        _is_done(engine, normal)
        assert engine.state("high") is VideoState.RUNNING
        at_analysis.open()
        _is_done(engine, high)
        assert set(encodings(workers).values()) == {1}
