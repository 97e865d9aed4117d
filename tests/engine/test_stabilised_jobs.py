"""A stabilised job goes over its segments twice; whatever stops it, it goes on where it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import scripted_executor
from engine.engine_under_test import CALLER, Engine, until
from engine.scripted_executor import Gate, ScriptedExecutor, crash
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.model.hdi import VideoStabilisation
from videoprocess_server.model.records import EventKind, Phase
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.states import SegmentState, VideoState
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    EncodeTask,
    JoinTask,
    MotionTask,
    PathResult,
    PathTask,
    PlanTask,
    Task,
    VerifyTask,
)

STABILISED = ModeSetting(stabilisation=VideoStabilisation.HIGH)
SEGV = -11
KILLED = -9
PHASES = [AnalyzeTask, PlanTask, MotionTask, PathTask, 0, 2, JoinTask, VerifyTask]


@pytest.fixture(name="session_id")
def _session_id(engine: Engine) -> str:
    session_id = engine.ready_session(mode_setting=STABILISED)
    engine.prepare(session_id, "v")
    return session_id


def _paths(workers: ScriptedExecutor) -> set[str]:
    return {task.camera_path for task in workers.begun if isinstance(task, EncodeTask)}


def test_the_motion_of_all_segments_is_measured_before_the_first_is_made(
    engine: Engine, workers: ScriptedExecutor, session_id: str
) -> None:
    event = engine.finished(session_id)
    assert event.kind is EventKind.PROCESS_DONE
    assert workers.measured == workers.encoded == [0, 1, 2]
    kinds = [type(task) for task in workers.begun]
    assert (
        kinds.index(EncodeTask)
        > kinds.index(PathTask)
        > max(place for place, kind in enumerate(kinds) if kind is MotionTask)
    )
    assert len(_paths(workers)) == 1
    assert "" not in _paths(workers)
    assert event.report is not None
    assert {cost.phase for cost in event.report.stages} >= {Phase.ANALYZE, Phase.PLAN, Phase.ENHANCE}
    engine.idle()
    assert not engine.blobs.keys(BlobKind.SEGMENT)


def test_nobody_else_waits_for_a_measurement(engine: Engine, workers: ScriptedExecutor) -> None:
    engine.finished(engine.ready())
    assert workers.count(MotionTask) == workers.count(PathTask) == 0
    assert _paths(workers) == {""}


@pytest.mark.parametrize("where", PHASES)
def test_a_service_killed_in_any_phase_ends_the_job_once_and_leaves_nothing(
    engine: Engine, workers: ScriptedExecutor, session_id: str, where: type[Task] | int
) -> None:
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.restart()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert [event.sequence for event in engine.events()] == [1]
    engine.idle()
    assert not engine.blobs.keys(BlobKind.SEGMENT)
    assert not engine.blobs.keys(BlobKind.WORK)


@pytest.mark.parametrize("where", PHASES)
def test_interrupted_work_goes_on_in_place(
    engine: Engine, workers: ScriptedExecutor, session_id: str, where: type[Task] | int
) -> None:
    gate = Gate()
    workers.will(where, gate)
    engine.process(session_id)
    gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    until(lambda: engine.state() is VideoState.PAUSED)
    accepted = engine.process(session_id)
    gate.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.measured == workers.encoded == [0, 1, 2]


def test_measured_segments_are_not_measured_again(
    engine: Engine, workers: ScriptedExecutor, session_id: str
) -> None:
    gate = Gate()
    workers.will(MotionTask, *[lambda _attempt: None] * 2, gate)
    accepted = engine.process(session_id)
    gate.wait()
    until(lambda: [row.state for row in engine.segments()].count(SegmentState.DONE) == 2)
    engine.restart()
    event = engine.end_of(accepted)
    assert workers.measured == [0, 1, 2]
    assert workers.count(PlanTask) == 1
    assert event.report is not None
    assert event.report.reused_segment_count == 0


def test_a_damaged_camera_path_is_made_again(
    engine: Engine, workers: ScriptedExecutor, session_id: str
) -> None:
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    (path,) = _paths(workers)
    engine.kill()
    key = "/".join(path.rsplit("/", 2)[-2:])
    file = engine.blobs.path(BlobKind.SEGMENT, key)
    file.write_bytes(b"?" + file.read_bytes()[1:])
    engine.restart()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.count(PathTask) == 2
    assert workers.encoded == [0, 1, 0, 1, 2]


def test_a_worker_that_dies_over_the_path_is_replaced(
    engine: Engine, workers: ScriptedExecutor, session_id: str
) -> None:
    workers.will(PathTask, crash(SEGV), crash(KILLED))
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    assert workers.count(PathTask) == 3


def test_a_path_that_cannot_be_made_leaves_no_file(
    engine: Engine, workers: ScriptedExecutor, session_id: str
) -> None:
    workers.will(PathTask, *[crash(SEGV)] * 3)
    assert engine.finished(session_id).kind is EventKind.ERROR
    engine.idle()
    kept = {row.plan_id for row in engine.segments()}
    assert set(engine.blobs.keys(BlobKind.SEGMENT)) <= kept


def test_where_nothing_is_shaken_the_job_ends_without_a_path(
    engine: Engine, workers: ScriptedExecutor, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = scripted_executor._ANSWERS[PathTask]

    def steady(task: PathTask) -> PathResult:
        made = usual(task)
        assert isinstance(made, PathResult)
        return replace(made, plan=replace(made.plan, stabilisation=None))

    monkeypatch.setitem(scripted_executor._ANSWERS, PathTask, steady)  # type: ignore[arg-type]
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    assert _paths(workers) == {""}
