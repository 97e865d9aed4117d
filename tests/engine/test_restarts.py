"""What a service killed at any moment finds at its next start, and what it does not do twice."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, Engine, other_build, outcome, running_engine, until
from engine.observers import is_asked_to_stop
from engine.scripted_executor import PATIENCE_SECONDS, Act, Gate, ScriptedExecutor, crash, stall
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.limits import Limits
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import BlockReason, JobState, SegmentState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask

SEGV = -11


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 0, 2, JoinTask, VerifyTask])
def test_a_service_killed_in_any_phase_ends_the_job_once_after_its_restart(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.restart()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert engine.state() is VideoState.COMPLETED
    assert [event.sequence for event in engine.events()] == [1]


def test_a_restart_goes_on_with_the_finished_segments(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(2, gate)
    accepted = engine.process(session_id)
    gate.wait()
    until(lambda: [row.state for row in engine.segments()].count(SegmentState.DONE) == 2)
    engine.restart()
    event = engine.end_of(accepted)
    assert workers.encoded == [0, 1, 2, 2]
    assert workers.count(PlanTask) == 1
    assert event.report is not None
    assert event.report.reused_segment_count == 2


def test_a_damaged_segment_is_made_again(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(2, gate)
    accepted = engine.process(session_id)
    gate.wait()
    until(lambda: engine.segments()[1].state is SegmentState.DONE)
    engine.kill()
    file = engine.blobs.path(BlobKind.SEGMENT, engine.segments()[1].path)
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    engine.restart()
    event = engine.end_of(accepted)
    assert workers.encoded == [0, 1, 2, 1, 2]
    assert event.report is not None
    assert event.report.reused_segment_count == 1


def test_a_segment_whose_file_is_gone_is_made_again(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    workers.will(2, stall)
    engine.finished(session_id)
    engine.idle()
    engine.blobs.delete(BlobKind.SEGMENT, engine.segments()[0].path)
    engine.finished(session_id)
    assert workers.encoded == [0, 1, 2, 0, 2]


def test_crashes_before_a_restart_count(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, crash(SEGV), crash(SEGV), gate, crash(SEGV))
    accepted = engine.process(session_id)
    gate.wait()
    assert [row.crash_count for row in engine.segments()] == [0, 2, 0]
    engine.restart()
    assert outcome(engine.end_of(accepted)) == (ErrorCode.PROCESS, "WORKER_CRASHED")
    assert engine.state() is VideoState.ERROR


def test_the_services_own_death_counts_against_no_segment(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gates = [Gate() for _ in range(4)]
    workers.will(1, *gates)
    accepted = engine.process(session_id)
    for gate in gates:
        gate.wait()
        engine.restart()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


@pytest.mark.parametrize("where", [AnalyzeTask, 1, VerifyTask])
def test_an_orderly_stop_gives_running_work_back_and_the_next_start_goes_on(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.stop_orderly()
    assert engine.state() is VideoState.QUEUED
    assert not engine.events()
    assert all(row.state is not SegmentState.LEASED for row in engine.segments())
    engine.start_again()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


def test_an_open_segment_that_ends_within_the_grace_is_kept(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    stopping = threading.Thread(target=engine.stop_orderly, args=(60.0,))
    stopping.start()
    until(lambda: is_asked_to_stop(engine, accepted))
    gate.open()
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()
    job = engine.job(accepted.job.job_id)
    assert (job.state, job.blocked_by) == (JobState.QUEUED, BlockReason.DRAINING)
    assert engine.blocked_by(accepted) is BlockReason.DRAINING
    assert not engine.events()
    engine.start_again()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert workers.encoded == [0, 1, 2]


def test_while_the_service_drains_nothing_new_is_admitted_or_started(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.prepare(session_id, "queued")
    queued = engine.process(session_id, "queued")
    stopping = threading.Thread(target=engine.stop_orderly, args=(60.0,))
    stopping.start()
    until(lambda: is_asked_to_stop(engine, accepted))
    with pytest.raises(VideoProcessError, match="DRAINING"):
        engine.process(session_id, "queued")
    gate.open()
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()
    assert engine.blocked_by(queued) is BlockReason.DRAINING
    assert workers.encoded == [0, 1]
    engine.start_again()
    for each in (accepted, queued):
        assert engine.end_of(each).kind is EventKind.PROCESS_DONE


def test_queued_work_keeps_its_order_over_a_restart(folder: Path, workers: ScriptedExecutor) -> None:
    with running_engine(folder, workers, limits=Limits(max_running_jobs=1)) as engine:
        _restart_with_four_queued(engine, workers)


def _restart_with_four_queued(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready("a")
    gate = Gate()
    workers.will(AnalyzeTask, gate)
    accepted = []
    for name in "abcd":
        engine.prepare(session_id, name)
        accepted.append(engine.process(session_id, name))
    gate.wait()
    engine.restart()
    for each in accepted:
        engine.end_of(each)
    assert [event.video_id for event in engine.events()] == ["a", "b", "c", "d"]


def test_another_builds_plan_is_not_gone_on_with(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    (old_key,) = engine.blobs.keys(BlobKind.SEGMENT)
    engine.kill()
    engine.build = other_build(engine.build)
    engine.restart()
    event = engine.end_of(accepted)
    assert workers.count(PlanTask) == 2
    assert workers.encoded == [0, 1, 0, 1, 2]
    assert event.report is not None
    assert event.report.versions == engine.build.versions
    engine.idle()
    assert old_key not in engine.blobs.keys(BlobKind.SEGMENT)


def test_a_job_of_another_build_is_joined(engine: Engine, workers: ScriptedExecutor) -> None:
    """Callers that ask again after an upgrade ask for the same settings: theirs are no slip."""
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.kill()
    engine.build = other_build(engine.build)
    engine.restart()
    joined = engine.process(session_id)
    assert joined.job.job_id == accepted.job.job_id
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert len(engine.events()) == 1


def test_another_builds_result_is_not_repeated(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    engine.finished(session_id)
    engine.build = other_build(engine.build)
    engine.finished(session_id)
    assert workers.count(PlanTask) == 2


@pytest.mark.parametrize("act", [crash(SEGV), stall], ids=["crash", "stall"])
def test_files_that_no_row_names_are_deleted_at_the_next_start(
    engine: Engine, workers: ScriptedExecutor, act: Act
) -> None:
    session_id = engine.ready()
    workers.will(1, act)
    engine.finished(session_id)
    engine.idle()
    kept = {kind: engine.blobs.keys(kind) for kind in (BlobKind.SEGMENT, BlobKind.RESULT)}
    for kind in BlobKind:
        engine.blobs.path(kind, "nobodys").write_bytes(b"left by a crash")
    engine.restart()
    for kind in BlobKind:
        assert engine.blobs.keys(kind) == kept.get(kind, [])


@pytest.mark.parametrize(
    ("asked", "reason", "state"),
    [
        (["interrupt"], "INTERRUPTED", VideoState.PAUSED),
        (["reset"], "RESET", VideoState.PENDING),
        (["reset", "interrupt"], "RESET", VideoState.PENDING),
    ],
)
def test_a_stop_that_was_answered_holds_though_the_service_dies_before_its_workers_have_stopped(
    engine: Engine,
    workers: ScriptedExecutor,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
    reason: str,
    state: VideoState,
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    monkeypatch.setattr(engine.scheduler, "stop", lambda _job_id, _reason: True)
    for call in asked:
        if call == "reset":
            engine.stops.reset(CALLER, session_id)
        else:
            engine.stops.interrupt(CALLER, session_id, ["v"])
    engine.restart()
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, reason)
    assert engine.state() is state
    assert bool(engine.segments()) == (state is VideoState.PAUSED)
    assert len(engine.events()) == 1
