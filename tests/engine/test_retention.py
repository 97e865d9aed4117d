"""What expires when, what stays, and what a clock that jumps does to it."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import cast

import pytest

from engine.engine_under_test import CALLER, SECOND_US, USER, Engine, outcome, running_engine, until
from engine.scripted_executor import Gate, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.limits import Limits, Retention
from videoprocess_server.engine.retention import Expirations
from videoprocess_server.engine.source_files import UploadReference
from videoprocess_server.engine.uploads import EXPIRED_PER_PASS, Uploads
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import ErrorCode, StreamIntent
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.settings_snapshot import StreamInfo
from videoprocess_server.model.states import VideoState
from videoprocess_server.model.tasks import JoinTask

DAY = 24 * 3600
YEARS = 10 * 365 * DAY
UPLOAD_ID = "0123456789abcdef" * 2


def _pass(engine: Engine, seconds: float) -> None:
    engine.clock.advance(seconds)
    engine.housekeeping.tidy()
    with engine.sweeper._sweeping:
        """A driver that sweeps at the moment has taken this sweep over: wait for it."""


def _upload(engine: Engine, data: bytes = b"bytes", upload_id: str = "") -> str:
    writer = engine.uploads.open(CALLER, USER, upload_id, "clip.mp4", "", len(data))
    engine.uploads.append(writer, 0, data)
    return engine.uploads.finish(writer, hashlib.sha256(data).hexdigest()).upload_id


def _cut_upload(engine: Engine, upload_id: str = UPLOAD_ID) -> None:
    writer = engine.uploads.open(CALLER, USER, upload_id, "", "", None)
    engine.uploads.append(writer, 0, b"half")
    engine.uploads.abandon(writer)


def _has_upload(engine: Engine, upload_id: str = UPLOAD_ID) -> bool:
    with engine.repository.read() as reader:
        rows = {upload.upload_id: upload.key for upload in reader.list_all_uploads()}
    assert sorted(rows.values()) == engine.blobs.keys(BlobKind.UPLOAD)
    return upload_id in rows


def _interrupted(engine: Engine, workers: ScriptedExecutor) -> str:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    engine.end_of(accepted)
    gate.open()
    return session_id


class TestResults:
    def test_they_expire_and_the_video_stays_completed(
        self, engine: Engine, workers: ScriptedExecutor
    ) -> None:
        (artifact,) = engine.finished(engine.ready()).artifacts
        assert artifact.expire_time_us == engine.clock.now_us() + 7 * DAY * SECOND_US
        _pass(engine, 7 * DAY - 1)
        assert engine.blobs.keys(BlobKind.RESULT) == [artifact.artifact_id]
        _pass(engine, 1)
        assert not engine.blobs.keys(BlobKind.RESULT)
        view = engine.videos.get(CALLER, USER, "v")
        assert view.video.state is VideoState.COMPLETED
        assert not view.artifacts
        assert engine.videos.expire_time_us(view) is None
        with pytest.raises(VideoProcessError, match="ARTIFACT_NOT_FOUND"):
            engine.results.open(CALLER, USER, artifact.artifact_id, 0)

    def test_process_makes_expired_ones_anew_with_the_same_bytes(
        self, engine: Engine, workers: ScriptedExecutor
    ) -> None:
        (old,) = engine.finished(engine.ready()).artifacts
        _pass(engine, 7 * DAY)
        (new,) = engine.finished(engine.ready_session()).artifacts
        assert (new.sha256, workers.count(JoinTask)) == (old.sha256, 2)
        assert new.artifact_id != old.artifact_id
        assert engine.blobs.keys(BlobKind.RESULT) == [new.artifact_id]

    def test_all_files_of_a_job_go_in_one_pass(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """However few a pass takes: otherwise a repeated ProcessVideo would be told of those that are left."""
        monkeypatch.setattr("videoprocess_server.engine.retention.ROWS_PER_PASS", 1)
        streams = [StreamInfo(stream_id=number, intent=StreamIntent.POST_VIEW) for number in range(3)]
        session_id = engine.ready_session(streams=streams)
        engine.prepare(session_id, "v")
        first = engine.finished(session_id)
        assert len(first.artifacts) == 6
        _pass(engine, 7 * DAY)
        assert engine.blobs.keys(BlobKind.RESULT) == []
        again = engine.finished(engine.ready_session(streams=streams))
        assert [file.sha256 for file in again.artifacts] == [file.sha256 for file in first.artifacts]

    def test_the_video_tells_when(self, engine: Engine) -> None:
        (artifact,) = engine.finished(engine.ready()).artifacts
        view = engine.videos.get(CALLER, USER, "v")
        assert engine.videos.expire_time_us(view) == artifact.expire_time_us

    def test_an_open_download_finishes(self, engine: Engine) -> None:
        (artifact,) = engine.finished(engine.ready()).artifacts
        _, fd = engine.results.open(CALLER, USER, artifact.artifact_id, 0)
        _pass(engine, 7 * DAY)
        assert not engine.blobs.keys(BlobKind.RESULT)
        try:
            assert len(os.read(fd, artifact.size_bytes + 1)) == artifact.size_bytes
        finally:
            os.close(fd)


class TestCheckpoints:
    def test_those_of_paused_work_go_and_the_video_stays_paused(
        self, engine: Engine, workers: ScriptedExecutor
    ) -> None:
        _interrupted(engine, workers)
        view = engine.videos.get(CALLER, USER, "v")
        assert engine.videos.expire_time_us(view) == engine.clock.now_us() + 14 * DAY * SECOND_US
        _pass(engine, 14 * DAY - 1)
        assert engine.segments()
        _pass(engine, 2)
        assert engine.state() is VideoState.PAUSED
        assert not engine.segments()
        engine.idle()
        assert not engine.blobs.keys(BlobKind.SEGMENT)
        event = engine.finished(engine.ready_session())
        assert event.report is not None
        assert event.report.reused_segment_count == 0
        assert workers.encoded == [0, 1, 0, 1, 2]

    def test_those_of_a_job_that_waits_stay(self, folder: Path, workers: ScriptedExecutor) -> None:
        with running_engine(folder, workers, limits=Limits(max_running_jobs=1)) as engine:
            session_id = _interrupted(engine, workers)
            gate = Gate()
            workers.will(0, gate)
            engine.prepare(session_id, "other")
            engine.process(session_id, "other")
            gate.wait()
            waiting = engine.process(session_id)
            _pass(engine, 15 * DAY)
            assert len(engine.blobs.keys(BlobKind.SEGMENT)) == 2
            gate.open()
            event = engine.end_of(waiting)
            assert event.report is not None
            assert event.report.reused_segment_count == 1


class TestEvents:
    def test_old_ones_go_and_numbers_go_on(self, engine: Engine) -> None:
        session_id = engine.ready_session()
        for _ in range(3):
            engine.process(session_id, "nobody")
        _pass(engine, 4 * DAY)
        session_id = engine.ready_session()
        engine.process(session_id, "nobody")
        assert [event.sequence for event in engine.events()] == [1, 2, 3, 4]
        _pass(engine, 4 * DAY)
        assert [event.sequence for event in engine.events()] == [4]
        _pass(engine, 4 * DAY)
        assert not engine.events()
        with engine.repository.read() as reader:
            assert reader.event_bounds(USER) == (5, 4)
        assert outcome(engine.finished(engine.ready_session(), "nobody")) == (
            ErrorCode.INVALID_ID,
            "UNKNOWN_VIDEO_ID",
        )
        assert [event.sequence for event in engine.events()] == [5]

    def test_a_subscriber_of_numbers_that_are_gone_is_told_what_is_kept(self, engine: Engine) -> None:
        session_id = engine.ready_session()
        for _ in range(3):
            engine.process(session_id, "nobody")
        _pass(engine, 8 * DAY)
        with pytest.raises(VideoProcessError, match="SEQUENCE_OUT_OF_RANGE"):
            engine.hub.subscribe(USER, "", 1, lambda: None)
        for after in (None, 0, 3):
            engine.hub.unsubscribe(engine.hub.subscribe(USER, "", after, lambda: None))

    def test_a_request_id_is_forgotten_with_them(self, engine: Engine) -> None:
        session_id = engine.ready_session()
        request_id = str(uuid.uuid4())
        first = engine.process(session_id, "nobody", request_id=request_id).job.job_id
        assert engine.process(session_id, "nobody", request_id=request_id).job.job_id == first
        with engine.repository.read() as reader:
            assert reader.get_request(USER, "ProcessVideo", request_id) is not None
        _pass(engine, 8 * DAY)
        with engine.repository.read() as reader:
            assert reader.get_request(USER, "ProcessVideo", request_id) is None
            assert reader.get_job(first) is None

    def test_jobs_that_a_video_still_tells_of_stay(self, engine: Engine) -> None:
        session_id = engine.ready()
        made = engine.finished(session_id).job_id
        again = engine.finished(session_id).job_id
        slip = engine.process(session_id, "nobody").job.job_id
        _pass(engine, 30 * DAY)
        _pass(engine, 1)
        with engine.repository.read() as reader:
            assert reader.get_job(made) is not None
            assert reader.get_job(again) is not None
            assert reader.get_job(slip) is None
        assert engine.videos.get(CALLER, USER, "v").result_job is not None

    def test_closed_sessions_go_and_open_ones_stay(self, engine: Engine) -> None:
        closed, idle = engine.session(), engine.session()
        engine.sessions.close(CALLER, closed)
        _pass(engine, 7 * DAY + 1)
        with engine.repository.read() as reader:
            assert reader.get_session(closed) is None
            assert reader.get_session(idle) is not None


class TestUploads:
    def test_an_unfinished_one_goes_a_day_after_its_last_message(self, engine: Engine) -> None:
        _cut_upload(engine)
        _pass(engine, DAY - 1)
        writer = engine.uploads.open(CALLER, USER, UPLOAD_ID, "", "", None)
        assert writer.committed_size == 4
        engine.uploads.append(writer, 4, b"more")
        engine.uploads.abandon(writer)
        told = engine.uploads.query(CALLER, USER, UPLOAD_ID).expire_time_us
        assert told == engine.clock.now_us() + DAY * SECOND_US
        _pass(engine, DAY - 1)
        assert _has_upload(engine)
        _pass(engine, 2)
        assert not _has_upload(engine)

    def test_its_id_may_come_back_and_begins_anew(self, engine: Engine) -> None:
        _cut_upload(engine)
        _pass(engine, DAY + 1)
        writer = engine.uploads.open(CALLER, USER, UPLOAD_ID, "", "", None)
        assert writer.committed_size == 0
        engine.uploads.append(writer, 0, b"other")
        engine.housekeeping.tidy()
        assert engine.uploads.finish(writer, hashlib.sha256(b"other").hexdigest()).size_bytes == 5

    def test_a_stream_that_is_slow_but_there_keeps_it(self, engine: Engine) -> None:
        writer = engine.uploads.open(CALLER, USER, UPLOAD_ID, "", "", None)
        engine.uploads.append(writer, 0, b"a")
        _pass(engine, DAY + 1)
        assert _has_upload(engine)
        engine.uploads.append(writer, 1, b"b")
        engine.uploads.abandon(writer)
        _pass(engine, DAY - 1)
        assert _has_upload(engine)

    def test_a_kill_costs_a_growing_one_little_of_its_time(self, engine: Engine) -> None:
        """Its row is not written for every message, yet often enough."""
        writer = engine.uploads.open(CALLER, USER, UPLOAD_ID, "", "", None)
        for hour in range(20):
            engine.clock.advance(3600)
            engine.uploads.append(writer, hour, b"x")
        engine.restart()
        _pass(engine, DAY - 3600)
        assert _has_upload(engine)

    def test_a_finished_one_that_no_video_uses_goes(self, engine: Engine) -> None:
        upload_id = _upload(engine)
        view = engine.uploads.query(CALLER, USER, upload_id)
        assert view.expire_time_us == engine.clock.now_us() + DAY * SECOND_US
        _pass(engine, DAY + 1)
        assert not _has_upload(engine, upload_id)
        with pytest.raises(VideoProcessError, match="UPLOAD_NOT_FOUND"):
            engine.uploads.query(CALLER, USER, upload_id)

    def test_one_that_a_video_uses_stays_in_the_trash_too(self, engine: Engine) -> None:
        upload_id = _upload(engine)
        session_id = engine.session()
        engine.videos.prepare(CALLER, session_id, "v", [UploadReference(upload_id=upload_id)])
        assert engine.uploads.query(CALLER, USER, upload_id).expire_time_us is None
        engine.removals.remove(CALLER, session_id, "v", restorable=True)
        _pass(engine, 29 * DAY)
        assert _has_upload(engine, upload_id)
        _pass(engine, DAY)
        assert not _has_upload(engine, upload_id)

    def test_the_time_of_a_replaced_one_begins_then(self, engine: Engine) -> None:
        old, new = _upload(engine), _upload(engine, b"other bytes")
        session_id = engine.session()
        engine.videos.prepare(CALLER, session_id, "v", [UploadReference(upload_id=old)])
        engine.videos.prepare(CALLER, session_id, "w", [UploadReference(upload_id=new)])
        _pass(engine, 10 * DAY)
        engine.videos.prepare(CALLER, engine.session(), "v", [UploadReference(upload_id=new)])
        told = engine.uploads.query(CALLER, USER, old).expire_time_us
        assert told == engine.clock.now_us() + DAY * SECOND_US
        _pass(engine, DAY - 1)
        assert _has_upload(engine, old)
        _pass(engine, 2)
        assert not _has_upload(engine, old)
        assert _has_upload(engine, new)

    def test_many_go_in_several_passes(self, engine: Engine) -> None:
        for number in range(EXPIRED_PER_PASS + 1):
            _cut_upload(engine, f"{number:032x}")
        _pass(engine, DAY + 1)
        assert len(engine.blobs.keys(BlobKind.UPLOAD)) == 1
        _pass(engine, 1)
        assert not engine.blobs.keys(BlobKind.UPLOAD)


class TestClock:
    """Every test has one of each kind that ten years would delete."""

    @pytest.fixture(name="full")
    def _full(self, engine: Engine, workers: ScriptedExecutor) -> Engine:
        _cut_upload(engine)
        engine.finished(engine.ready("done"), "done")
        _interrupted(engine, workers)
        engine.prepare(session_id := engine.session(), "trash")
        engine.removals.remove(CALLER, session_id, "trash", restorable=True)
        _pass(engine, 601)
        return engine

    @staticmethod
    def _is_whole(engine: Engine) -> bool:
        kept = [
            engine.video("trash") is not None,
            bool(engine.segments()),
            bool(engine.events()),
            bool(engine.blobs.keys(BlobKind.RESULT)),
            _has_upload(engine),
        ]
        assert all(kept) or not any(kept)
        return all(kept)

    def test_a_jump_ahead_deletes_nothing_until_the_clock_was_steady(
        self, full: Engine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        full.clock.jump(YEARS)
        full.housekeeping.tidy()
        assert "clock_jumped" in capsys.readouterr().out
        _pass(full, 599)
        assert self._is_whole(full)
        _pass(full, 1)
        assert not self._is_whole(full)

    def test_a_clock_that_is_set_right_again_has_deleted_nothing(self, full: Engine) -> None:
        full.clock.jump(YEARS)
        _pass(full, 300)
        full.clock.jump(-YEARS)
        for _ in range(3):
            _pass(full, 601)
        assert self._is_whole(full)

    def test_a_start_with_a_wrong_clock_deletes_nothing_at_once(self, full: Engine) -> None:
        full.clock.jump(YEARS)
        full.restart()
        _pass(full, 599)
        assert self._is_whole(full)
        _pass(full, 1)
        assert not self._is_whole(full)

    def test_a_jump_back_breaks_nothing(self, full: Engine, workers: ScriptedExecutor) -> None:
        full.clock.jump(-YEARS)
        for _ in range(3):
            _pass(full, 601)
        assert self._is_whole(full)
        session_id = full.ready("new")
        assert full.finished(session_id, "new").kind is EventKind.PROCESS_DONE
        writer = full.uploads.open(CALLER, USER, UPLOAD_ID, "", "", None)
        assert full.uploads.append(writer, 4, b"!") == 5
        assert full.removals.restore(CALLER, USER, "trash").video.state is VideoState.PENDING
        numbers = [event.sequence for event in full.events()]
        assert numbers == [*range(1, len(numbers) + 1)]

    def test_sessions_survive_a_jump(self, full: Engine) -> None:
        session_id = full.session()
        full.clock.jump(YEARS)
        full.housekeeping.tidy()
        assert full.is_open(session_id)

    def test_small_corrections_are_no_jump(self, full: Engine) -> None:
        for _ in range(10):
            full.clock.jump(30)
            _pass(full, 14 * DAY / 10)
        assert full.video("trash") is not None
        assert not full.segments()


class Broken:
    def expire(self) -> int:
        raise ValueError("made up")


def test_a_kind_that_cannot_be_deleted_does_not_keep_the_others(
    folder: Path, workers: ScriptedExecutor
) -> None:
    with running_engine(folder, workers) as engine:
        engine.process(engine.ready_session(), "nobody")
        engine.clock.advance(8 * DAY)
        uploads, retention = cast("Uploads", Broken()), engine.limits.retention
        Expirations(engine.repository, uploads, engine.scheduler, engine.clock, retention).expire()
        assert not engine.events()


def test_what_is_kept_is_configurable(folder: Path, workers: ScriptedExecutor) -> None:
    limits = Limits(retention=Retention(results_us=SECOND_US, events_us=SECOND_US, steady_clock_seconds=1))
    with running_engine(folder, workers, limits=limits) as engine:
        engine.finished(engine.ready())
        engine.idle()  # its driver may sweep yet, and would take this over
        _pass(engine, 2)
        until(lambda: not engine.blobs.keys(BlobKind.RESULT))
        assert not engine.events()
