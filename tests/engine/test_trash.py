"""RemoveVideo(restorable), RestoreVideo, and what the trash does to every other call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, SECOND_US, USER, Engine, outcome, running_engine, until
from engine.scripted_executor import Gate, ScriptedExecutor, crash, fail
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.limits import Limits, Retention
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import SegmentState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, JoinTask, PlanTask, Task, VerifyTask

TRASH_SECONDS = 30 * 24 * 3600
RESULT_SECONDS = 7 * 24 * 3600


def _remove(engine: Engine, session_id: str, video_id: str = "v", *, restorable: bool = True) -> int | None:
    return engine.removals.remove(CALLER, session_id, video_id, restorable=restorable)


def _restore(engine: Engine, video_id: str = "v") -> VideoState:
    return engine.removals.restore(CALLER, USER, video_id).video.state


def _listed(engine: Engine, *states: VideoState) -> list[str]:
    wanted = states or tuple(set(VideoState) - {VideoState.DELETED})
    return [view.video.video_id for view in engine.videos.list(CALLER, USER, wanted, "", None, 10)]


def _paused(engine: Engine, workers: ScriptedExecutor) -> str:
    """A session with an interrupted video, the first of whose three segments is done."""
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    engine.end_of(accepted)
    return session_id


def test_a_video_in_the_trash_is_hidden_but_there(engine: Engine) -> None:
    session_id = engine.ready()
    engine.prepare(session_id, "other")
    until_us = _remove(engine, session_id)
    assert until_us == engine.clock.now_us() + TRASH_SECONDS * SECOND_US
    assert [video_id for _, video_id in engine.videos.pending(CALLER, session_id, None, 10)] == ["other"]
    assert _listed(engine) == ["other"]
    assert _listed(engine, VideoState.DELETED) == ["v"]
    view = engine.videos.get(CALLER, USER, "v")
    assert view.video.state is VideoState.DELETED
    assert engine.videos.expire_time_us(view) == until_us
    assert not engine.events()


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask])
def test_running_work_is_aborted_and_what_it_finished_is_kept(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    done = [row for row in engine.segments() if row.state is SegmentState.DONE]
    _remove(engine, session_id)
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "REMOVED")
    assert engine.state() is VideoState.DELETED
    engine.idle()
    assert [row for row in engine.segments() if row.state is SegmentState.DONE] == done
    assert not engine.blobs.keys(BlobKind.WORK)
    assert _restore(engine) is VideoState.PENDING
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE
    assert len(engine.events()) == 2


def test_queued_work_is_aborted(folder: Path, workers: ScriptedExecutor) -> None:
    with running_engine(folder, workers, limits=Limits(max_running_jobs=1)) as engine:
        session_id = engine.ready("running")
        gate = Gate()
        workers.will(AnalyzeTask, gate)
        engine.process(session_id, "running")
        gate.wait()
        engine.prepare(session_id, "queued")
        queued = engine.process(session_id, "queued")
        _remove(engine, session_id, "queued")
        assert outcome(engine.end_of(queued)) == (ErrorCode.ABORT, "REMOVED")
        assert engine.state("queued") is VideoState.DELETED
        gate.open()
        until(lambda: engine.state("running") is VideoState.COMPLETED)


def test_process_of_a_video_in_the_trash_is_an_unknown_id(engine: Engine) -> None:
    session_id = engine.ready()
    _remove(engine, session_id)
    assert outcome(engine.finished(session_id)) == (ErrorCode.INVALID_ID, "UNKNOWN_VIDEO_ID")
    assert engine.state() is VideoState.DELETED


def test_prepare_of_the_same_source_answers_and_leaves_it_there(engine: Engine) -> None:
    session_id = engine.ready()
    until_us = _remove(engine, session_id)
    before = engine.video()
    engine.prepare(session_id, "v")
    assert engine.video() == before
    assert before is not None
    assert before.expire_time_us == until_us


def test_another_source_does_not_take_the_place_of_one_in_the_trash(engine: Engine) -> None:
    session_id = engine.ready()
    _remove(engine, session_id)
    before = engine.video()
    with pytest.raises(VideoProcessError, match="SOURCE_IN_USE"):
        engine.prepare(session_id, "v", b"another video")
    with pytest.raises(VideoProcessError, match="VIDEO_EXISTS"):
        engine.uploads.open(CALLER, USER, "", "clip.mp4", "v", None)
    assert engine.video() == before


def test_removing_it_again_keeps_its_time(engine: Engine) -> None:
    session_id = engine.ready()
    until_us = _remove(engine, session_id)
    engine.clock.advance(3600)
    assert _remove(engine, session_id) == until_us


def test_removing_it_for_good_takes_it_out_of_the_trash(engine: Engine) -> None:
    session_id = engine.ready()
    (artifact,) = engine.finished(session_id).artifacts
    _remove(engine, session_id)
    assert _remove(engine, session_id, restorable=False) == engine.clock.now_us() + 3600 * SECOND_US
    assert engine.video() is None
    with pytest.raises(VideoProcessError, match="UNKNOWN_VIDEO"):
        _restore(engine)
    _, fd = engine.results.open(CALLER, USER, artifact.artifact_id, 0)
    os.close(fd)


def test_a_completed_video_comes_back_with_its_results(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    event = engine.finished(session_id)
    _remove(engine, session_id)
    engine.clock.advance(3600)
    assert _restore(engine) is VideoState.COMPLETED
    view = engine.videos.get(CALLER, USER, "v")
    assert view.video.expire_time_us is None
    assert tuple(view.artifacts) == event.artifacts
    assert engine.finished(session_id).artifacts == event.artifacts
    assert workers.count(JoinTask) == 1


def test_results_expire_in_the_trash_too_and_the_video_comes_back_pending(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    engine.finished(session_id)
    _remove(engine, session_id)
    engine.clock.advance(RESULT_SECONDS)
    engine.housekeeping.tidy()
    assert _restore(engine) is VideoState.PENDING
    assert engine.finished(engine.ready_session()).kind is EventKind.PROCESS_DONE
    assert workers.count(JoinTask) == 2


def test_interrupted_work_goes_on_from_its_kept_segments_after_a_restore(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = _paused(engine, workers)
    assert workers.frozen
    _remove(engine, session_id)
    engine.clock.advance(TRASH_SECONDS - 1)
    engine.housekeeping.tidy()
    assert _restore(engine) is VideoState.PENDING
    event = engine.finished(engine.ready_session())
    assert event.report is not None
    assert event.report.reused_segment_count == 1
    assert not workers.thawed
    assert workers.encoded == [0, 1, 1, 2]


def test_a_video_that_is_not_in_the_trash_stays_as_it_is(engine: Engine, workers: ScriptedExecutor) -> None:
    _paused(engine, workers)
    before = engine.video()
    assert _restore(engine) is VideoState.PAUSED
    assert engine.video() == before


def test_an_error_comes_back_pending(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    workers.will(0, fail("DECODE_FAILED"))
    engine.finished(session_id)
    assert engine.state() is VideoState.ERROR
    _remove(engine, session_id)
    assert _restore(engine) is VideoState.PENDING


def test_restore_of_an_unknown_video(engine: Engine) -> None:
    with pytest.raises(VideoProcessError, match="UNKNOWN_VIDEO"):
        _restore(engine, "nobody")


def test_a_restart_leaves_the_trash_as_it_is(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = _paused(engine, workers)
    _remove(engine, session_id)
    before = engine.video()
    engine.restart()
    assert engine.video() == before
    states = [row.state for row in engine.segments()]
    assert [state is SegmentState.DONE for state in states] == [True, False, False]
    assert len(engine.blobs.keys(BlobKind.SEGMENT)) == 1


def test_results_of_a_removed_video_never_live_longer_than_they_would_have(
    folder: Path, workers: ScriptedExecutor
) -> None:
    limits = Limits(retention=Retention(results_us=600 * SECOND_US))
    with running_engine(folder, workers, limits=limits) as engine:
        session_id = engine.ready()
        (artifact,) = engine.finished(session_id).artifacts
        assert _remove(engine, session_id, restorable=False) == artifact.expire_time_us


@pytest.fixture(name="short")
def _short(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    limits = Limits(retention=Retention(trash_us=3600 * SECOND_US))
    with running_engine(folder, workers, limits=limits) as engine:
        yield engine


def test_what_expired_in_the_trash_is_gone_with_all_it_had(short: Engine, workers: ScriptedExecutor) -> None:
    session_id = _paused(short, workers)
    _remove(short, session_id)
    short.clock.advance(3599)
    short.housekeeping.tidy()
    assert short.state() is VideoState.DELETED
    assert short.blobs.keys(BlobKind.SEGMENT)
    short.clock.advance(1)
    short.housekeeping.tidy()
    assert short.video() is None
    until(lambda: not short.blobs.keys(BlobKind.SEGMENT))  # a driver may be sweeping
    assert (short.shared / "v.mp4").exists()
    fresh = short.ready_session()
    short.prepare(fresh, "v", b"another video")
    assert short.finished(fresh).kind is EventKind.PROCESS_DONE


def test_a_crash_at_the_moment_of_removal_loses_no_event(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    workers.will(1, crash(-9), Gate())
    accepted = engine.process(session_id)
    until(lambda: len(workers.encoded) >= 3)
    _remove(engine, session_id)
    engine.restart()
    assert outcome(engine.end_of(accepted)) == (ErrorCode.ABORT, "REMOVED")
    assert engine.state() is VideoState.DELETED
    assert len(engine.events()) == 1
