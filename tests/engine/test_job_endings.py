"""Every way a job can end: one terminal event, the video's state, the error code."""

from __future__ import annotations

import pytest

from engine.engine_under_test import CALLER, OTHER_SETTINGS, Engine, outcome, until
from engine.scripted_executor import Act, Gate, ScriptedExecutor, crash, fail, stall
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.faults import POLICIES, Cause
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import JobState, VideoState
from videoprocess_server.model.tasks import AnalyzeTask, EncodeTask, JoinTask, PlanTask, Task, VerifyTask

SEGV = -11
KILL = -9
FOREIGN_KILLS = POLICIES[Cause.FOREIGN_KILL].max_tries
DONE_BYTES = b"segment 0 from 0\nsegment 1 from 1000\nsegment 2 from 2000\n"


def _result_bytes(engine: Engine) -> bytes:
    (key,) = engine.blobs.keys(BlobKind.RESULT)
    return engine.blobs.path(BlobKind.RESULT, key).read_bytes()


def _is_done(engine: Engine, session_id: str) -> None:
    event = engine.finished(session_id)
    assert event.kind is EventKind.PROCESS_DONE
    assert engine.state() is VideoState.COMPLETED
    assert _result_bytes(engine) == DONE_BYTES
    assert len(engine.events()) == 1
    engine.idle()
    assert not engine.blobs.keys(BlobKind.SEGMENT)
    assert not engine.blobs.keys(BlobKind.WORK)


def test_a_published_job_ends_in_one_process_done_with_its_artifact_and_report(engine: Engine) -> None:
    session_id = engine.ready()
    accepted = engine.process(session_id)
    event = engine.end_of(accepted)
    assert (event.sequence, event.kind, event.video_id, event.session_id) == (
        1,
        EventKind.PROCESS_DONE,
        "v",
        session_id,
    )
    assert event.report is not None
    assert (event.report.segment_count, event.report.reused_segment_count) == (3, 0)
    (artifact,) = event.artifacts
    assert engine.blobs.sha256(BlobKind.RESULT, artifact.artifact_id) == artifact.sha256
    assert engine.job(accepted.job.job_id).state is JobState.COMPLETED
    assert engine.state() is VideoState.COMPLETED


@pytest.mark.parametrize(
    "reason", ["TIMESTAMP_BEYOND_END", "FRAME_RATE_RAISE_NOT_SUPPORTED", "CROP_OUTSIDE_PICTURE"]
)
def test_a_slip_found_by_planning_ends_the_job_and_leaves_the_video(
    engine: Engine, workers: ScriptedExecutor, reason: str
) -> None:
    session_id = engine.ready()
    workers.will(PlanTask, fail(reason))
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, reason)
    assert engine.state() is VideoState.PENDING
    video = engine.video()
    assert video is not None
    assert video.last_fault is None
    assert len(engine.events()) == 1


def test_a_slip_on_a_completed_video_leaves_it_completed(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    engine.finished(session_id)
    engine.commit(session_id, OTHER_SETTINGS)
    workers.will(PlanTask, fail("CROP_OUTSIDE_PICTURE"))
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "CROP_OUTSIDE_PICTURE")
    assert engine.state() is VideoState.COMPLETED


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask])
def test_media_that_does_not_decode_is_the_videos_error_at_the_first_try(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    workers.will(where, fail("DECODE_FAILED"))
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "DECODE_FAILED")
    assert engine.state() is VideoState.ERROR
    assert len(engine.events()) == 1


def test_a_video_in_error_is_processed_again_only_after_prepare(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    workers.will(1, fail("DECODE_FAILED"))
    engine.finished(session_id)
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "NEEDS_PREPARE")
    assert engine.state() is VideoState.ERROR
    engine.prepare(session_id, "v")
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask])
def test_two_crashes_of_a_task_are_forgiven(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    workers.will(where, crash(SEGV), crash(SEGV))
    _is_done(engine, session_id)


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask])
@pytest.mark.parametrize("act", [crash(SEGV), crash(1), fail("INTERNAL")], ids=["SEGV", "exit 1", "INTERNAL"])
def test_the_third_crash_of_a_task_is_the_videos_error(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int, act: Act
) -> None:
    session_id = engine.ready()
    workers.will(where, act, act, act)
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "WORKER_CRASHED")
    assert engine.state() is VideoState.ERROR
    assert len(engine.events()) == 1


def test_crashes_count_for_each_segment_alone(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    for index in range(3):
        workers.will(index, crash(SEGV), crash(SEGV))
    _is_done(engine, session_id)


@pytest.mark.parametrize("where", [AnalyzeTask, 1, VerifyTask])
def test_kills_from_outside_are_tried_again_more_often_than_crashes(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    workers.will(where, *[crash(KILL)] * (FOREIGN_KILLS - 1))
    _is_done(engine, session_id)


@pytest.mark.parametrize("where", [AnalyzeTask, 1, VerifyTask])
def test_kills_without_end_are_no_fault_of_the_video(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    workers.will(where, *[crash(KILL)] * FOREIGN_KILLS)
    assert outcome(engine.finished(session_id)) == (ErrorCode.ABNORMAL, "RETRIES_USED_UP")
    assert engine.state() is VideoState.FAILED
    assert len(engine.events()) == 1
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask])
def test_a_stalled_task_ends_in_timeout_and_the_video_may_be_processed_again(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    workers.will(where, stall)
    assert outcome(engine.finished(session_id)) == (ErrorCode.TIMEOUT, "STALLED")
    assert engine.state() is VideoState.FAILED
    assert len(engine.events()) == 1
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE


def test_what_was_finished_before_a_stall_is_not_made_again(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    workers.will(2, stall)
    engine.finished(session_id)
    engine.finished(session_id)
    assert workers.encoded == [0, 1, 2, 2]


def test_a_result_that_fails_verification_is_thrown_away(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    workers.will(VerifyTask, fail("VERIFY_FAILED"))
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "VERIFY_FAILED")
    assert engine.state() is VideoState.ERROR
    assert len(engine.events()) == 1
    engine.idle()
    assert not engine.blobs.keys(BlobKind.RESULT)
    assert not engine.blobs.keys(BlobKind.WORK)


@pytest.mark.parametrize("where", [PlanTask, 1, JoinTask])
def test_a_source_that_changes_while_it_is_read_is_the_videos_error(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(where, gate)
    accepted = engine.process(session_id)
    gate.wait()
    (engine.shared / "v.mp4").write_bytes(b"another video")
    gate.open()
    assert outcome(engine.end_of(accepted)) == (ErrorCode.PROCESS, "SOURCE_CHANGED")
    assert engine.state() is VideoState.ERROR
    assert len(engine.events()) == 1


def test_case_45_an_id_without_a_file_is_refused_by_prepare(engine: Engine) -> None:
    session_id = engine.ready_session()
    with pytest.raises(VideoProcessError, match="NO_FILE"):
        engine.videos.prepare(CALLER, session_id, "v", [])
    assert engine.video() is None


def test_case_45_a_source_that_is_gone_is_the_videos_error(engine: Engine) -> None:
    session_id = engine.ready()
    (engine.shared / "v.mp4").unlink()
    assert outcome(engine.finished(session_id)) == (ErrorCode.PROCESS, "SOURCE_GONE")
    assert engine.state() is VideoState.ERROR


@pytest.mark.parametrize("where", [AnalyzeTask, PlanTask, 1, JoinTask, VerifyTask])
def test_a_full_disk_gives_the_job_back_and_it_goes_on_when_there_is_space(
    engine: Engine, workers: ScriptedExecutor, where: type[Task] | int
) -> None:
    session_id = engine.ready()
    workers.will(where, fail("STORAGE_FULL"))
    accepted = engine.process(session_id)
    until(lambda: engine.job(accepted.job.job_id).start_time_us is not None)
    engine.idle()
    assert engine.job(accepted.job.job_id).state is JobState.QUEUED
    assert engine.state() is VideoState.QUEUED
    assert not engine.events()
    engine.restart()
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert engine.state() is VideoState.COMPLETED
    assert sorted(set(workers.encoded)) == [0, 1, 2]
    assert len(engine.events()) == 1


def test_processing_a_completed_video_again_repeats_its_result_without_work(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    first = engine.finished(session_id)
    again = engine.finished(session_id)
    assert again.kind is EventKind.PROCESS_DONE
    assert again.artifacts == first.artifacts
    assert again.job_id != first.job_id
    assert workers.count(EncodeTask) == 3


def test_other_settings_make_a_completed_video_anew_and_keep_the_earlier_result(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    first = engine.finished(session_id)
    engine.commit(session_id, OTHER_SETTINGS)
    second = engine.finished(session_id)
    assert workers.count(EncodeTask) == 6
    keys = {event.artifacts[0].artifact_id for event in (first, second)}
    assert len(keys) == 2
    assert set(engine.blobs.keys(BlobKind.RESULT)) == keys


def test_processing_a_running_video_joins_its_job(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    first = engine.process(session_id)
    gate.wait()
    second = engine.process(engine.ready_session())
    assert second.job.job_id == first.job.job_id
    gate.open()
    engine.end_of(first)
    assert len(engine.events()) == 1


def test_other_settings_on_a_running_video_are_a_slip_of_their_own_job(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    first = engine.process(session_id)
    gate.wait()
    other = engine.process(engine.ready_session(mode_setting=OTHER_SETTINGS))
    assert outcome(engine.end_of(other)) == (ErrorCode.PROCESS, "ALREADY_RUNNING")
    assert engine.state() is VideoState.RUNNING
    gate.open()
    assert engine.end_of(first).kind is EventKind.PROCESS_DONE
    assert len(engine.events()) == 2


def test_an_unknown_video_is_an_invalid_id(engine: Engine) -> None:
    accepted = engine.process(engine.ready_session(), "nobody")
    assert outcome(engine.end_of(accepted)) == (ErrorCode.INVALID_ID, "UNKNOWN_VIDEO_ID")
    assert accepted.view is None
    assert engine.video("nobody") is None
