"""Who has how many workers: fair between users, as the mode says within a job, alone after running out of memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, LIMITS, OTHER_USER, USER, Engine, running_engine, until
from engine.observers import Crowd, encodings, plan_of
from engine.scripted_executor import Attempt, Gate, ScriptedExecutor, crash
from videoprocess_server.engine import scheduler
from videoprocess_server.execution.executor import CrashCause, WorkerCrashedError
from videoprocess_server.model import scheduling
from videoprocess_server.model.hdi import ExecutionMode
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import BlockReason, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, EncodeTask, VerifyTask

PATIENT = replace(LIMITS, checkpoint_seconds=60.0)
SEGMENTS = 12


@pytest.fixture(name="wide")
def _wide() -> ScriptedExecutor:
    return ScriptedExecutor(worker_count=4, segment_count=SEGMENTS)


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares are dealt again after tenths of a second rather than half a minute."""
    monkeypatch.setattr(scheduling, "QUANTUM_SECONDS", 0.1)
    monkeypatch.setattr(scheduler, "PASS_SECONDS", 0.02)


def _fill(workers: ScriptedExecutor, crowd: Crowd, jobs: int = 1, segments: int = SEGMENTS) -> None:
    """Every segment of so many jobs takes its time."""
    for index in range(segments):
        workers.will(index, *[crowd] * jobs)


# -- modes


@pytest.mark.parametrize(
    ("mode", "workers_at_once", "niceness"),
    [
        (ExecutionMode.HIGH_PERFORMANCE, 4, 0),
        (ExecutionMode.DEFAULT, 4, 5),
        (ExecutionMode.BALANCED, 2, 10),
        (ExecutionMode.LOW_POWER, 1, 19),
    ],
)
def test_the_sessions_mode_bounds_the_workers_and_says_how_nice_they_are(
    folder: Path, wide: ScriptedExecutor, mode: ExecutionMode, workers_at_once: int, niceness: int
) -> None:
    crowd = Crowd(wanted=workers_at_once)
    _fill(wide, crowd)
    with running_engine(folder, wide) as engine:
        session_id = engine.ready_session(mode=mode)
        engine.prepare(session_id, "v")
        assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    assert crowd.most == workers_at_once
    assert wide.niceness == [0] + [niceness] * (SEGMENTS + 4)  # the probe is nobody's


def test_a_job_keeps_the_mode_it_was_accepted_with(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready_session(mode=ExecutionMode.LOW_POWER)
    engine.prepare(session_id, "v")
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.process(engine.ready_session(mode=ExecutionMode.HIGH_PERFORMANCE))
    gate.open()
    engine.end_of(accepted)
    assert set(workers.niceness[1:]) == {19}


# -- between users


def test_each_of_two_users_has_half_of_the_workers(folder: Path) -> None:
    workers = ScriptedExecutor(worker_count=2, segment_count=4)
    with running_engine(folder, workers, limits=PATIENT) as engine:
        analyses, first_segments = [Gate(), Gate()], [Gate(), Gate()]
        workers.will(AnalyzeTask, *analyses)
        workers.will(0, *first_segments)
        accepted = []
        for user_id in (USER, OTHER_USER):
            session_id = engine.ready("v", user_id)
            accepted.append(engine.process(session_id))
        for gate in analyses:
            gate.wait()
            gate.open()
        for gate in first_segments:
            gate.wait()
        encoding = [task for task in workers.begun if isinstance(task, EncodeTask)]
        assert len({plan_of(task) for task in encoding}) == 2
        for gate in first_segments:
            gate.open()
        for each in accepted:
            assert engine.end_of(each).kind is EventKind.PROCESS_DONE


def test_a_user_who_comes_later_gets_half_at_the_next_segments(folder: Path) -> None:
    workers = ScriptedExecutor(worker_count=2, segment_count=4)
    with running_engine(folder, workers, limits=PATIENT) as engine:
        first_two, later = [Gate(), Gate()], Gate()
        for index, gate in enumerate(first_two):
            workers.will(index, gate)
        early = engine.process(engine.ready("v", USER))
        for gate in first_two:
            gate.wait()
        workers.will(AnalyzeTask, later)
        late = engine.process(engine.ready("v", OTHER_USER))
        first_two[0].open()
        later.wait()
        assert engine.state("v", USER) is VideoState.RUNNING
        assert engine.state("v", OTHER_USER) is VideoState.RUNNING
        first_two[1].open()
        assert engine.end_of(early).kind is EventKind.PROCESS_DONE
        later.open()
        assert engine.end_of(late).kind is EventKind.PROCESS_DONE
        assert set(encodings(workers).values()) == {1}


@pytest.mark.usefixtures("quick")
def test_two_users_take_turns_at_one_worker(folder: Path) -> None:
    workers = ScriptedExecutor(worker_count=1, segment_count=SEGMENTS)
    crowd = Crowd()
    _fill(workers, crowd, jobs=2)
    with running_engine(folder, workers, limits=PATIENT) as engine:
        accepted = [engine.process(engine.ready("v", user_id)) for user_id in (USER, OTHER_USER)]
        blocked: set[BlockReason] = set()
        until(lambda: blocked.update(map(engine.blocked_by, accepted)) or BlockReason.FAIR_SHARE in blocked)
        for each in accepted:
            assert engine.end_of(each).kind is EventKind.PROCESS_DONE
        assert len(engine.events(USER)) == len(engine.events(OTHER_USER)) == 1
    turns = sum(one != other for one, other in pairwise(crowd.plans()))
    assert turns >= 2
    assert set(encodings(workers).values()) == {1}
    assert crowd.most == 1


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_many_jobs_of_one_user_do_not_keep_another_waiting(folder: Path) -> None:
    workers = ScriptedExecutor(worker_count=1, segment_count=3)
    crowd, gate = Crowd(0.02), Gate()
    _fill(workers, crowd, jobs=11, segments=3)
    workers.will(AnalyzeTask, gate)
    with running_engine(folder, workers, limits=PATIENT) as engine:
        greedy = engine.ready_session(USER)
        many = []
        for number in range(10):
            engine.prepare(greedy, f"v{number}")
            many.append(engine.process(greedy, f"v{number}"))
        other = engine.process(engine.ready("v", OTHER_USER))
        gate.open()
        assert engine.end_of(other).kind is EventKind.PROCESS_DONE
        assert len(engine.events(USER)) <= 7
        for each in many:
            assert engine.end_of(each).kind is EventKind.PROCESS_DONE
    assert set(encodings(workers).values()) == {1}


# -- alone


def _out_of_memory(_attempt: Attempt) -> None:
    raise WorkerCrashedError(-9, CrashCause.OUT_OF_MEMORY)


@pytest.fixture(name="two_users")
def _two_users(folder: Path) -> Iterator[tuple[Engine, ScriptedExecutor]]:
    workers = ScriptedExecutor(worker_count=2, segment_count=6)
    with running_engine(folder, workers, limits=PATIENT) as engine:
        yield engine, workers


def test_what_ran_out_of_memory_is_tried_again_alone(two_users: tuple[Engine, ScriptedExecutor]) -> None:
    engine, workers = two_users
    analyses, crowd = [Gate(), Gate()], Crowd()
    workers.will(AnalyzeTask, *analyses)
    workers.will(2, _out_of_memory)
    _fill(workers, crowd, jobs=2, segments=6)
    accepted = [engine.process(engine.ready("v", user_id)) for user_id in (USER, OTHER_USER)]
    for gate in analyses:
        gate.wait()
    for gate in analyses:
        gate.open()
    for each in accepted:
        assert engine.end_of(each).kind is EventKind.PROCESS_DONE
    ((again, _),) = [(task, count) for task, count in encodings(workers).items() if count == 2]
    beside = [
        others
        for task, others in crowd.visits
        if isinstance(task, EncodeTask) and (plan_of(task), task.segments[0].index) == again
    ]
    assert beside == [0]
    assert crowd.most == 2
    with engine.repository.read() as reader:
        assert not reader.list_all_plan_ids()


def test_a_verification_that_ran_out_of_memory_is_tried_again_alone(
    two_users: tuple[Engine, ScriptedExecutor],
) -> None:
    engine, workers = two_users
    crowd, gate = Crowd(), Gate()

    def fails_later(attempt: Attempt) -> None:
        gate(attempt)
        _out_of_memory(attempt)

    workers.will(VerifyTask, fails_later, crowd, crowd)
    first = engine.process(engine.ready("v", USER))
    gate.wait()
    _fill(workers, crowd, segments=6)
    second = engine.process(engine.ready("v", OTHER_USER))
    until(lambda: bool(crowd.visits))
    gate.open()
    for each in (first, second):
        assert engine.end_of(each).kind is EventKind.PROCESS_DONE
    (again,) = {task.path for task in workers.begun if isinstance(task, VerifyTask)} - _once(workers)
    beside = [others for task, others in crowd.visits if isinstance(task, VerifyTask) and task.path == again]
    assert beside == [0]


def _once(workers: ScriptedExecutor) -> set[str]:
    paths = Counter(task.path for task in workers.begun if isinstance(task, VerifyTask))
    return {path for path, count in paths.items() if count == 1}


def test_what_runs_alone_does_not_come_and_go_while_it_waits(
    two_users: tuple[Engine, ScriptedExecutor],
) -> None:
    """It waits for the others' segments without being dispatched again and again."""
    engine, workers = two_users
    analyses, slow = [Gate(), Gate()], Gate()
    workers.will(AnalyzeTask, *analyses)
    workers.will(0, slow, _out_of_memory)
    accepted = [engine.process(engine.ready("v", user_id)) for user_id in (USER, OTHER_USER)]
    for gate in analyses:
        gate.wait()
    for gate in analyses:
        gate.open()
    slow.wait()
    until(lambda: any(row.crash_count for user in (USER, OTHER_USER) for row in engine.segments("v", user)))
    passes = []
    decide = scheduler.decide

    def counting(situation: scheduling.Situation) -> scheduling.Decision:
        passes.append(situation)
        return decide(situation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "decide", counting)
        time.sleep(0.5)
    slow.open()
    for each in accepted:
        assert engine.end_of(each).kind is EventKind.PROCESS_DONE
    assert len(passes) < 20


def test_a_job_alone_in_the_service_is_only_narrowed(folder: Path) -> None:
    workers = ScriptedExecutor(worker_count=4, segment_count=SEGMENTS)
    crowd = Crowd(wanted=2)

    def fails_beside_others(attempt: Attempt) -> None:
        until(lambda: len(crowd.visits) >= 2)
        _out_of_memory(attempt)

    workers.will(0, fails_beside_others)
    _fill(workers, crowd)
    with running_engine(folder, workers) as engine:
        assert engine.finished(engine.ready()).kind is EventKind.PROCESS_DONE
    beside = [
        others
        for task, others in crowd.visits
        if isinstance(task, EncodeTask) and task.segments[0].index == 0
    ]
    assert beside == [0]
    assert crowd.most > 1


# -- back-off


def test_other_segments_go_on_while_one_waits_for_its_next_try(folder: Path) -> None:
    workers = ScriptedExecutor()
    workers.will(0, crash(-11))
    with running_engine(folder, workers, limits=replace(LIMITS, retry_backoff_seconds=0.3)) as engine:
        assert engine.finished(engine.ready()).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 2, 0]


def test_an_interrupt_does_not_wait_for_a_back_off(folder: Path) -> None:
    workers = ScriptedExecutor(segment_count=1)
    workers.will(0, crash(-11))
    with running_engine(folder, workers, limits=replace(LIMITS, retry_backoff_seconds=60.0)) as engine:
        accepted = engine.process(engine.ready())
        until(lambda: any(row.crash_count for row in engine.segments()))
        engine.stops.interrupt(CALLER, accepted.job.session_id, [])
        engine.end_of(accepted)
        assert engine.state() is VideoState.PAUSED
