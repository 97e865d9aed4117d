"""Interrupt, Reset and RemoveVideo, on queued and on running work."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.engine_under_test import CALLER, USER, Engine, outcome, running_engine, until
from engine.scripted_executor import Gate, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.encoding import Encoding
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.source_files import UploadReference
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask

PHASES = [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask]


@pytest.fixture(name="narrow")
def _narrow(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    """An engine that runs one job at a time; the first waits at a gate, the others are queued."""
    with running_engine(folder, workers, limits=Limits(max_running_jobs=1)) as engine:
        yield engine


@pytest.mark.parametrize("where", PHASES)
def test_interrupt_pauses_running_work_in_any_phase(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    assert engine.stops.interrupt(CALLER, session_id, []) == [accepted.job.job_id]
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "INTERRUPTED")
    assert engine.state() is VideoState.PAUSED
    gate.open()  # the frozen worker stands at it
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    assert len(engine.events()) == 2


def test_interrupted_work_goes_on_from_its_finished_segments(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    engine.end_of(accepted)
    gate.open()
    event = engine.finished(session_id)
    assert workers.encoded == [0, 1, 2]
    assert event.report is not None
    assert event.report.reused_segment_count == 1


def _one_running_two_queued(engine: Engine, workers: ScriptedExecutor) -> tuple[str, Gate]:
    session_id = engine.ready("running")
    gate = Gate()
    workers.will(AnalyzeTask, gate)
    engine.process(session_id, "running")
    gate.wait()
    for name in ("queued", "named"):
        engine.prepare(session_id, name)
        engine.process(session_id, name)
    return session_id, gate


def test_interrupt_pauses_queued_work(narrow: Engine, workers: ScriptedExecutor) -> None:
    session_id, _ = _one_running_two_queued(narrow, workers)
    assert len(narrow.stops.interrupt(CALLER, session_id, [])) == 3
    names = ("running", "queued", "named")
    until(lambda: {narrow.state(name) for name in names} == {VideoState.PAUSED})
    assert [outcome(event) for event in narrow.events()] == [(ErrorCode.ABORT, "INTERRUPTED")] * 3


def test_interrupt_of_named_videos_leaves_the_others_alone(narrow: Engine, workers: ScriptedExecutor) -> None:
    session_id, gate = _one_running_two_queued(narrow, workers)
    elsewhere = narrow.session()
    assert len(narrow.stops.interrupt(CALLER, elsewhere, ["named", "named", "nobody"])) == 1
    assert narrow.state("named") is VideoState.PAUSED
    gate.open()
    until(lambda: narrow.state("queued") is VideoState.COMPLETED)
    assert narrow.state("running") is VideoState.COMPLETED
    assert narrow.stops.interrupt(CALLER, session_id, []) == []


@pytest.mark.parametrize("where", PHASES)
def test_reset_ends_running_work_and_drops_its_checkpoints(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    assert engine.stops.reset(CALLER, session_id) == [accepted.job.job_id]
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "RESET")
    assert engine.state() is VideoState.PENDING
    engine.idle()
    assert not engine.segments()
    assert not engine.blobs.keys(BlobKind.SEGMENT)
    assert not engine.blobs.keys(BlobKind.WORK)


def test_reset_ends_queued_work(narrow: Engine, workers: ScriptedExecutor) -> None:
    session_id, _ = _one_running_two_queued(narrow, workers)
    narrow.stops.reset(CALLER, session_id)
    names = ("running", "queued", "named")
    until(lambda: {narrow.state(name) for name in names} == {VideoState.PENDING})
    assert [outcome(event) for event in narrow.events()] == [(ErrorCode.ABORT, "RESET")] * 3


def test_reset_drops_plan_and_files_of_a_paused_video(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    engine.end_of(accepted)
    engine.idle()
    assert engine.blobs.keys(BlobKind.SEGMENT)
    engine.stops.reset(CALLER, session_id)
    assert engine.state() is VideoState.PENDING
    assert not engine.segments()
    assert not engine.blobs.keys(BlobKind.SEGMENT)
    assert len(engine.events()) == 1


def test_reset_leaves_the_work_of_other_sessions_alone(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    assert engine.stops.reset(CALLER, engine.ready_session()) == []
    gate.open()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


def test_after_reset_the_session_has_no_streams(engine: Engine) -> None:
    session_id = engine.ready()
    engine.stops.reset(CALLER, session_id)
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "NO_COMMITTED_STREAMS")


@pytest.mark.parametrize("where", PHASES)
def test_remove_ends_running_work_and_frees_everything(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.removals.remove(CALLER, session_id, "v", restorable=False)
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "REMOVED")
    assert engine.video() is None
    engine.idle()
    assert not any(engine.blobs.keys(kind) for kind in BlobKind)
    assert (engine.shared / "v.mp4").exists()
    assert len(engine.events()) == 1


def test_remove_between_the_plan_and_its_segments_ends_the_work(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = engine.ready()
    take_up = Encoding._take_up

    def remove_first(encoding: Encoding) -> None:
        engine.removals.remove(CALLER, session_id, "v", restorable=False)
        take_up(encoding)

    monkeypatch.setattr(Encoding, "_take_up", remove_first)
    with capture_logs() as logs:
        accepted = engine.process(session_id)
        assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "REMOVED")
        engine.idle()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == []
    assert not any(engine.blobs.keys(kind) for kind in BlobKind)


def test_a_removed_videos_id_is_free_while_its_work_still_ends(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    engine.process(session_id)
    gate.wait()
    engine.removals.remove(CALLER, session_id, "v", restorable=False)
    engine.prepare(session_id, "v")
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    assert [event.kind for event in engine.events()] == [EventKind.ERROR, EventKind.PROCESS_DONE]


def test_remove_ends_queued_work(narrow: Engine, workers: ScriptedExecutor) -> None:
    session_id, gate = _one_running_two_queued(narrow, workers)
    narrow.removals.remove(CALLER, session_id, "queued", restorable=False)
    (event,) = narrow.events()
    assert outcome(event) == (ErrorCode.ABORT, "REMOVED")
    assert narrow.video("queued") is None
    gate.open()
    until(lambda: narrow.state("named") is VideoState.COMPLETED)


def test_remove_of_an_unknown_video_does_nothing(engine: Engine) -> None:
    assert engine.removals.remove(CALLER, engine.session(), "nobody", restorable=False) is None
    assert not engine.events()


def _upload(engine: Engine, data: bytes) -> str:
    writer = engine.uploads.open(CALLER, USER, "", "clip.mp4", "", len(data))
    engine.uploads.append(writer, 0, data)
    return engine.uploads.finish(writer, hashlib.sha256(data).hexdigest()).upload_id


def test_remove_frees_an_upload_once_no_video_uses_it(engine: Engine) -> None:
    session_id = engine.ready_session()
    upload_id = _upload(engine, b"bytes")
    for name in ("a", "b"):
        engine.videos.prepare(CALLER, session_id, name, [UploadReference(upload_id=upload_id)])
    engine.removals.remove(CALLER, session_id, "a", restorable=False)
    assert len(engine.blobs.keys(BlobKind.UPLOAD)) == 1
    engine.removals.remove(CALLER, session_id, "b", restorable=False)
    assert not engine.blobs.keys(BlobKind.UPLOAD)
    with pytest.raises(VideoProcessError, match="UPLOAD_NOT_FOUND"):
        engine.uploads.query(CALLER, USER, upload_id)


def test_results_of_a_removed_video_can_be_fetched_for_an_hour(engine: Engine) -> None:
    session_id = engine.ready()
    (artifact,) = engine.finished(session_id).artifacts
    until_us = engine.removals.remove(CALLER, session_id, "v", restorable=False)
    assert until_us == engine.clock.now_us() + 3600 * 1_000_000
    engine.clock.advance(3599)
    engine.housekeeping.tidy()
    _, fd = engine.results.open(CALLER, USER, artifact.artifact_id, 0)
    os.close(fd)
    engine.clock.advance(1)
    engine.housekeeping.tidy()
    until(lambda: not engine.blobs.keys(BlobKind.RESULT))  # a driver may be sweeping
    with pytest.raises(VideoProcessError, match="ARTIFACT_NOT_FOUND"):
        engine.results.open(CALLER, USER, artifact.artifact_id, 0)


def test_a_download_that_began_before_the_end_goes_on(engine: Engine) -> None:
    session_id = engine.ready()
    (artifact,) = engine.finished(session_id).artifacts
    _, fd = engine.results.open(CALLER, USER, artifact.artifact_id, 0)
    engine.removals.remove(CALLER, session_id, "v", restorable=False)
    engine.clock.advance(3600)
    engine.housekeeping.tidy()
    try:
        assert len(os.read(fd, artifact.size_bytes + 1)) == artifact.size_bytes
    finally:
        os.close(fd)


def test_results_of_videos_that_are_not_removed_stay(engine: Engine) -> None:
    (artifact,) = engine.finished(engine.ready()).artifacts
    engine.clock.advance(24 * 3600)
    engine.housekeeping.tidy()
    assert engine.blobs.keys(BlobKind.RESULT) == [artifact.artifact_id]
