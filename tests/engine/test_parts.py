"""Phases with several tasks have them done side by side, and each as if it were the only one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from engine import scripted_executor
from engine.engine_under_test import CALLER, Engine, outcome
from engine.scripted_executor import Attempt, Gate, ScriptedExecutor, crash, fail
from videoprocess_server.engine import finishing
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.noise import AnalyzeResult
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import AnalyzeTask, VerifyResult, VerifyTask

PARTS = 3


@pytest.fixture(name="workers")
def _workers() -> ScriptedExecutor:
    return ScriptedExecutor(worker_count=2, segment_count=PARTS)


@pytest.fixture(autouse=True)
def _short_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "frames" not in request.fixturenames:
        monkeypatch.setattr(finishing, "_PART_FRAMES", 1)


def _tries(workers: ScriptedExecutor) -> Counter[int]:
    return Counter(task.part for task in workers.begun if isinstance(task, VerifyTask))


def test_parts_are_verified_side_by_side(engine: Engine, workers: ScriptedExecutor) -> None:
    gates = [Gate(), Gate()]
    workers.will(VerifyTask, *gates)
    accepted = engine.process(engine.ready())
    for gate in gates:
        gate.wait()
    assert _tries(workers).total() == 2
    for gate in gates:
        gate.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert _tries(workers) == Counter(range(PARTS))


def test_a_part_whose_worker_dies_is_done_again_and_no_other(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    workers.will(VerifyTask, crash(-11))
    assert engine.end_of(engine.process(engine.ready())).kind is EventKind.PROCESS_DONE
    tries = _tries(workers)
    assert tries.total() == PARTS + 1
    assert set(tries) == set(range(PARTS))


def test_where_one_part_fails_the_others_end_with_it(engine: Engine, workers: ScriptedExecutor) -> None:
    gate, failing = Gate(), Gate()

    def fails(attempt: Attempt) -> None:
        failing(attempt)
        fail("VERIFY_FAILED")(attempt)

    workers.will(VerifyTask, gate, fails)
    accepted = engine.process(engine.ready())
    gate.wait()
    failing.wait()
    failing.open()
    assert outcome(engine.end_of(accepted)) == (ErrorCode.PROCESS, "VERIFY_FAILED")
    assert engine.state() is VideoState.ERROR
    assert _tries(workers).total() == 2


def test_parts_that_do_not_hold_every_frame_are_refused(
    engine: Engine, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = scripted_executor._ANSWERS[VerifyTask]

    def one_less(task: VerifyTask) -> object:
        result = usual(task)
        assert isinstance(result, VerifyResult)
        return replace(result, frame_count=result.frame_count - (task.part == 1))

    monkeypatch.setitem(scripted_executor._ANSWERS, VerifyTask, one_less)  # type: ignore[arg-type]
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "VERIFY_FAILED")


@pytest.mark.parametrize(
    ("frames", "segments", "parts"),
    [
        (1, 1, 1),
        (119, 9, 1),
        (240, 9, 2),
        (240, 1, 1),
        (2880, 24, 8),
        (20_000, 200, 11),
        (5_000_000, 21_600, 64),
    ],
)
def test_how_many_parts_there_are_follows_from_the_plan(frames: int, segments: int, parts: int) -> None:
    assert finishing._part_count(frames, segments) == parts


def test_an_interrupt_stops_all_parts_and_loses_none(engine: Engine, workers: ScriptedExecutor) -> None:
    gates = [Gate(), Gate()]
    workers.will(VerifyTask, *gates)
    session_id = engine.ready()
    accepted = engine.process(session_id)
    for gate in gates:
        gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    assert outcome(engine.end_of(accepted))[0] is ErrorCode.ABORT
    for gate in gates:
        gate.open()
    assert engine.end_of(engine.process(session_id)).kind is EventKind.PROCESS_DONE
    assert _tries(workers) == Counter(range(PARTS))


def test_where_no_frame_decodes_at_any_place_the_job_ends_with_that(
    engine: Engine, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = AnalyzeResult(frames=(), scores=(), cpu_seconds=0.0)
    monkeypatch.setitem(scripted_executor._ANSWERS, AnalyzeTask, lambda _task: nothing)
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "DECODE_FAILED")
