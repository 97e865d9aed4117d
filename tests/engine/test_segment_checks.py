"""Every segment is decoded as it is made, and a result is made of the very packets that decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine import scripted_executor
from engine.engine_under_test import CALLER, Engine, outcome, until
from engine.scripted_executor import Gate, ScriptedExecutor, fail
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.noise import AnalyzeResult
from videoprocess_server.model.plan import Plan, SegmentPlan
from videoprocess_server.model.quality import CheckedVideo
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import SegmentState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, VerifyTask

PARTS = 3


@pytest.fixture(name="workers")
def _workers() -> ScriptedExecutor:
    return ScriptedExecutor(worker_count=1, segment_count=PARTS)


def test_a_segment_that_does_not_decode_ends_the_job(engine: Engine, workers: ScriptedExecutor) -> None:
    workers.will(1, fail("VERIFY_FAILED"))
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "VERIFY_FAILED")
    assert engine.state() is VideoState.ERROR
    assert not workers.count(JoinTask)


@pytest.mark.parametrize(
    "change",
    [
        lambda video: replace(video, packets_sha256="others"),
        lambda video: replace(video, frame_count=video.frame_count - 1),
    ],
    ids=["packets", "frames"],
)
def test_a_result_that_is_not_made_of_what_decodes_is_refused(
    engine: Engine, workers: ScriptedExecutor, change: Callable[[CheckedVideo], CheckedVideo]
) -> None:
    usual = workers.check

    def another(plan: Plan, segment: SegmentPlan) -> tuple[CheckedVideo, ...]:
        videos = usual(plan, segment)
        return tuple(map(change, videos)) if segment.index == 1 else videos

    workers.check = another
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "VERIFY_FAILED")


def test_what_segments_decode_to_outlives_an_interrupt(engine: Engine, workers: ScriptedExecutor) -> None:
    verify = Gate()
    workers.will(VerifyTask, verify)
    session_id = engine.ready()
    accepted = engine.process(session_id)
    verify.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    assert outcome(engine.end_of(accepted))[0] is ErrorCode.ABORT
    verify.open()
    assert engine.end_of(engine.process(session_id)).kind is EventKind.PROCESS_DONE
    assert sorted(workers.encoded) == list(range(PARTS))


def test_a_finished_segment_that_nobody_decoded_is_made_again(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    """Rows of an earlier version do not tell what their segments decode to."""
    last = Gate()
    workers.will(PARTS - 1, last)
    accepted = engine.process(engine.ready())
    last.wait()
    until(lambda: engine.segments()[PARTS - 2].state is SegmentState.DONE)
    engine.kill()
    _forget_check(engine, 0)
    engine.restart()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 2, 0, 2]


def _forget_check(engine: Engine, index: int) -> None:
    """Have the row of a finished segment be as an earlier version wrote it."""
    row = engine.segments()[index]
    assert row.measures is not None
    with engine._database.transaction() as tx:
        tx.reset_segment(row.plan_id, index)
        tx.lease_segments(row.plan_id, [index], "earlier")
        assert tx.finish_segment(replace(row, measures=replace(row.measures, checked=())), "earlier")


def test_where_no_frame_decodes_at_any_place_the_job_ends_with_that(
    engine: Engine, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = AnalyzeResult(frames=(), scores=(), cpu_seconds=0.0)
    monkeypatch.setitem(scripted_executor._ANSWERS, AnalyzeTask, lambda _task: nothing)
    assert outcome(engine.finished(engine.ready())) == (ErrorCode.PROCESS, "DECODE_FAILED")
