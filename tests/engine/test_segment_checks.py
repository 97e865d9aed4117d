"""Every segment is decoded once, side by side with others, and also while the last ones are still made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine import scripted_executor
from engine.engine_under_test import CALLER, Engine, outcome, running_engine, until
from engine.scripted_executor import Act, Gate, ScriptedExecutor, crash, fail
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.noise import AnalyzeResult
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import AnalyzeTask, CheckedVideo, CheckResult, CheckTask, JoinTask

PARTS = 3


@pytest.fixture(name="workers")
def _workers() -> ScriptedExecutor:
    return ScriptedExecutor(worker_count=2, segment_count=PARTS)


@pytest.fixture(name="narrow")
def _narrow(folder: Path) -> Iterator[tuple[Engine, ScriptedExecutor]]:
    """One worker, which checks nothing while a segment is made."""
    workers = ScriptedExecutor(worker_count=1, segment_count=PARTS)
    with running_engine(folder, workers) as engine:
        yield engine, workers


def _checked(workers: ScriptedExecutor) -> Counter[int]:
    return Counter(task.segment.index for task in workers.begun if isinstance(task, CheckTask))


def _as_one(workers: ScriptedExecutor) -> list[Gate]:
    """Have the first two checks wait."""
    gates = [Gate(), Gate()]
    workers.will(CheckTask, *gates)
    return gates


def test_segments_are_checked_side_by_side(folder: Path) -> None:
    workers = ScriptedExecutor(worker_count=3, segment_count=PARTS)
    with running_engine(folder, workers) as engine:
        gates = _as_one(workers)
        accepted = engine.process(engine.ready())
        for gate in gates:
            gate.wait()
        for gate in gates:
            gate.open()
        assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
        assert _checked(workers) == Counter(range(PARTS))


def test_a_worker_without_a_segment_checks_finished_ones_before_the_last_is_made(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    last = Gate()
    workers.will(PARTS - 1, last)
    accepted = engine.process(engine.ready())
    last.wait()
    until(lambda: _checked(workers).keys() == set(range(PARTS - 1)))
    assert not workers.count(JoinTask)
    last.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert _checked(workers) == Counter(range(PARTS))


@pytest.mark.parametrize("failure", [crash(-11), crash(-9), fail("VERIFY_FAILED"), fail("INTERNAL")])
def test_a_check_beside_the_last_segment_that_fails_is_done_again_later(
    engine: Engine, workers: ScriptedExecutor, failure: Act
) -> None:
    last = Gate()
    workers.will(PARTS - 1, last)
    workers.will(CheckTask, failure)
    accepted = engine.process(engine.ready())
    last.wait()
    until(lambda: _checked(workers).total() == PARTS - 1)
    last.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert sorted(_checked(workers).values()) == [1, 1, 2]


def test_a_check_whose_worker_dies_is_done_again_and_no_other(
    narrow: tuple[Engine, ScriptedExecutor],
) -> None:
    engine, workers = narrow
    workers.will(CheckTask, crash(-11))
    assert engine.end_of(engine.process(engine.ready())).kind is EventKind.PROCESS_DONE
    tries = _checked(workers)
    assert tries.total() == PARTS + 1
    assert set(tries) == set(range(PARTS))


def test_a_segment_that_does_not_decode_ends_the_job(narrow: tuple[Engine, ScriptedExecutor]) -> None:
    engine, workers = narrow
    workers.will(CheckTask, fail("VERIFY_FAILED"))
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "VERIFY_FAILED")
    assert engine.state() is VideoState.ERROR


@pytest.mark.parametrize(
    "change",
    [
        lambda video: replace(video, packets_sha256="others"),
        lambda video: replace(video, frame_count=video.frame_count - 1),
    ],
    ids=["packets", "frames"],
)
def test_a_result_that_is_not_made_of_what_decodes_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, change: Callable[[CheckedVideo], CheckedVideo]
) -> None:
    usual = scripted_executor._ANSWERS[CheckTask]

    def another(task: CheckTask) -> object:
        result = usual(task)
        assert isinstance(result, CheckResult)
        changed = tuple(change(video) for video in result.videos)
        return replace(result, videos=changed) if task.segment.index == 1 else result

    monkeypatch.setitem(scripted_executor._ANSWERS, CheckTask, another)  # type: ignore[arg-type]
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "VERIFY_FAILED")


@pytest.mark.parametrize("beside_the_last", [True, False])
def test_an_interrupt_stops_all_checks_and_loses_none(
    engine: Engine, workers: ScriptedExecutor, *, beside_the_last: bool
) -> None:
    last, check = Gate(), Gate()
    if beside_the_last:
        workers.will(PARTS - 1, last)
    workers.will(CheckTask, check)
    session_id = engine.ready()
    accepted = engine.process(session_id)
    check.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    assert outcome(engine.end_of(accepted))[0] is ErrorCode.ABORT
    check.open()
    last.open()
    assert engine.end_of(engine.process(session_id)).kind is EventKind.PROCESS_DONE
    assert _checked(workers) == Counter(range(PARTS))


def test_where_no_frame_decodes_at_any_place_the_job_ends_with_that(
    engine: Engine, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = AnalyzeResult(frames=(), scores=(), cpu_seconds=0.0)
    monkeypatch.setitem(scripted_executor._ANSWERS, AnalyzeTask, lambda _task: nothing)
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "DECODE_FAILED")
