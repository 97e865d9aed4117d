"""A database that an earlier build has written is read as it was meant."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from repository_records import (
    MEASURES,
    a_job,
    a_plan,
    a_session,
    a_video,
    an_artifact,
    an_upload,
    an_uploaded_video,
    some_segments,
)

from videoprocess_server.model.hdi import ErrorCode, ExecutionMode, OperationMode
from videoprocess_server.model.records import (
    ActiveUser,
    Encoding,
    Fault,
    Priority,
    QueueClass,
    Tombstone,
)
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect
from videoprocess_server.model.states import JobState, SegmentState, UploadState, VideoState
from videoprocess_server.store.codec import to_row
from videoprocess_server.store.sql import MIGRATIONS
from videoprocess_server.store.sqlite import SqliteRepository

ROWS = Path(__file__).parent / "database_0001.sql"


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "database.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; {MIGRATIONS[0].sql}; {ROWS.read_text()}")
        connection.execute("PRAGMA user_version = 1")
    return path


@pytest.fixture(name="repository")
def _repository(path: Path) -> Iterator[SqliteRepository]:
    repository = SqliteRepository(path)
    yield repository
    repository.close()


class TestFrom0001:
    def test_its_videos_and_sessions_are_read_as_they_were(self, repository: SqliteRepository) -> None:
        interrupted = Fault(error_code=ErrorCode.ABORT, reason="INTERRUPTED", message="interrupted")
        queued = replace(
            an_uploaded_video("queued", "finished"),
            create_time_us=2,
            update_time_us=20,
            state=VideoState.QUEUED,
            last_job_id="queued",
            attempt_count=2,
        )
        completed = a_video(
            "completed",
            create_time_us=4,
            update_time_us=40,
            state=VideoState.COMPLETED,
            last_job_id="completed",
            result_job_id="completed",
            result_fingerprint="f",
        )
        with repository.read() as reader:
            videos = reader.list_videos(1, limit=9)
            assert [video.video_id for video in videos] == [
                "pending",
                "queued",
                "running",
                "completed",
                "paused",
            ]
            assert (videos[1], videos[3]) == (queued, completed)
            assert videos[4].last_fault == interrupted
            assert list(reader.list_videos(1, states={VideoState.COMPLETED}, limit=9)) == [completed]
            assert reader.get_session("closed") == a_session("closed", close_time_us=7)
            assert [session.session_id for session in reader.list_idle_sessions(9, 9)] == ["open"]

    def test_its_jobs_are_in_the_queue_with_their_priority(self, repository: SqliteRepository) -> None:
        queued = a_job(
            "queued", video_id="queued", session_id="open", accept_number=3, priority=Priority.HIGH
        )
        with repository.transaction() as transaction:
            assert list(transaction.list_queue_head(1, 9)) == [queued]
            assert (queued.queue_class, queued.execution_mode) == (QueueClass.FRESH, ExecutionMode.DEFAULT)
            assert transaction.get_oldest_queued(2) == a_job(
                "other", user_id=2, video_id="gone", accept_number=4
            )
            assert [job.job_id for job in transaction.list_running_jobs()] == ["running"]
            assert list(transaction.list_active_users()) == [
                ActiveUser(user_id=1, queued_count=1, running_count=1),
                ActiveUser(user_id=2, queued_count=1, running_count=0),
            ]
            aborted = transaction.get_job("aborted")
            assert aborted
            assert (aborted.state, aborted.blocked_since_us) == (JobState.ABORTED, None)
            assert aborted.fault == Fault(
                error_code=ErrorCode.ABORT, reason="INTERRUPTED", message='interrupted \N{SNOWMAN} "quoted"'
            )
            assert transaction.next_accept_number() == 5

    def test_its_plans_are_gone_and_their_segments_wait_to_be_deleted(
        self, repository: SqliteRepository
    ) -> None:
        with repository.transaction() as transaction:
            assert transaction.find_plan(1, "paused", "f") is None
            assert list(transaction.list_all_plan_ids()) == []
            assert list(transaction.list_segments("paused")) == []
            graves = [(grave.kind, grave.key) for grave in transaction.list_tombstones(9)]
            assert sorted(graves) == [("segments", "paused"), ("segments", "running")]
            transaction.add_plan(a_plan("anew", video_id="paused"), some_segments(2, "anew"))
            assert transaction.find_plan(1, "paused", "f") == a_plan("anew", video_id="paused")

    def test_what_it_stored_is_summed(self, repository: SqliteRepository) -> None:
        with repository.read() as reader:
            assert reader.stored_bytes(1) == 1000 + 10_000 + 20_000
            assert reader.stored_bytes(2) == 5
            assert reader.stored_bytes() == 31_005
            finished = an_upload(
                "finished", state=UploadState.FINISHED, size_bytes=1000, sha256="s", file_name="clip.mp4"
            )
            assert reader.get_upload("finished") == finished
            expired = [upload.upload_id for upload in reader.list_expired_uploads(4, 4, 9)]
            assert expired == ["other", "active"]

    def test_what_outlived_its_video_is_detached(self, repository: SqliteRepository) -> None:
        with repository.read() as reader:
            kept = an_artifact("kept", video_id="completed", job_id="completed", size_bytes=10_000)
            assert list(reader.list_artifacts_of_video(1, "completed")) == [kept]
            removed = reader.get_artifact("removed")
            assert removed
            assert (removed.detached, removed.expire_time_us, removed.size_bytes) == (True, 60, 20_000)
            assert [event.sequence for event in reader.list_events(1, 0, 9)] == [1, 2, 3]

    def test_retention_holds_for_it(self, repository: SqliteRepository) -> None:
        with repository.transaction() as transaction:
            assert transaction.delete_ended_jobs_before(99, 9) == 0
            assert transaction.delete_events_before(41, 9) == 2
            assert transaction.event_bounds(1) == (3, 3)
            assert transaction.delete_requests_before(21, 9) == 1
            assert transaction.delete_closed_sessions_before(8, 9) == 0  # the running job's
            transaction.put_tombstone(Tombstone(kind="segments", key="p", create_time_us=1))
            transaction.put_video(a_video("paused", last_job_id=""))
            assert transaction.delete_ended_jobs_before(99, 9) == 0  # its event is kept
            assert transaction.delete_events_before(51, 9) == 1
            assert transaction.delete_ended_jobs_before(99, 9) == 1
        with repository.read() as reader:
            assert reader.get_job("aborted") is None

    def test_all_its_rows_can_be_put_again_as_they_are(
        self, repository: SqliteRepository, path: Path
    ) -> None:
        """Read and written back, each row is the same: nothing is in a column and in the document too."""

        def dump() -> list[str]:
            with closing(sqlite3.connect(path)) as connection:
                return list(connection.iterdump())

        before = dump()
        with repository.transaction() as transaction:
            for user_id in (1, 2):
                for video in transaction.list_videos(user_id, limit=9):
                    transaction.put_video(video)
            for job_id in ("queued", "running", "completed", "aborted", "other"):
                job = transaction.get_job(job_id)
                assert job
                transaction.put_job(replace(job, blocked_since_us=None))
            for upload in transaction.list_all_uploads():
                transaction.put_upload(upload)
            for artifact_id in transaction.list_all_artifact_ids():
                artifact = transaction.get_artifact(artifact_id)
                assert artifact
                transaction.put_artifact(artifact)
        after = [_without(line, _NEW_FIELDS) for line in dump()]
        assert after == before


#: fields that rows of a table have got since, with the value that old ones have
_NEW_FIELDS = {
    'INTO "jobs"': (
        '"driver":null,',
        '"blocked_since_us":null,',
        '"stop_requested":"",',
        '"execution_mode":3,',
        ',"deliveries":[]',
        '"running_since_us":null,',
        '"ran_us":0,',
        '"traceparent":"",',
        '"caller_span_id":"",',
    ),
}


def _without(line: str, fields: Mapping[str, tuple[str, ...]]) -> str:
    for part in next((parts for table, parts in fields.items() if table in line), ()):
        assert part in line
        line = line.replace(part, "")
    return line


#: a report as services wrote it up to schema 0003
_OLD_REPORT = {
    "source_frame_count": 300,
    "frame_count": 299,
    "dropped_frame_count": 1,
    "enhanced_frame_count": 4,
    "segment_count": 3,
    "reused_segment_count": 1,
    "enhanced": [{"start_us": 4, "end_us": 10}],
    "carried_over": [],
    "noise_before": {"sigma_y": 9.0, "sigma_u": 3.0, "sigma_v": 2.0, "frame_count": 8},
    "noise_after": {"sigma_y": 1.5, "sigma_u": 0.5, "sigma_v": 0.25, "frame_count": 8},
    "filters": ["unsharp"],
    "encoder": "libx265",
    "encoder_options": {"preset": "medium", "crf": "22"},
    "source_codec": "h264",
    "codec": "hevc",
    "width": 640,
    "height": 360,
    "pixel_format": "yuv420p",
    "versions": {"libavcodec": "62"},
    "source_size_bytes": 1000,
    "size_bytes": 800,
    "duration_us": 10,
    "tracks": [],
    "not_kept": [],
    "stages": [{"phase": "enhance", "wall_seconds": 2.5, "cpu_seconds": 10.0}],
    "fingerprint": "c",
}


class TestReportsOf0003:
    """A report told of one encoding, without the stream's id; now it tells of each, with it."""

    @pytest.fixture(name="old")
    def _old(self, tmp_path: Path) -> Iterator[SqliteRepository]:
        snapshot = {"streams": [{"stream_id": 7, "intent": 1}], "mode_setting": {}}
        job = {"snapshot": snapshot, "report": _OLD_REPORT}
        event = {"session_id": "s", "video_id": "v", "report": _OLD_REPORT, "artifacts": [_old_artifact()]}
        path = tmp_path / "old.sqlite3"
        with closing(sqlite3.connect(path)) as connection:
            scripts = "; ".join(migration.sql for migration in MIGRATIONS[:3])
            connection.executescript(f"PRAGMA journal_mode = WAL; {scripts}; PRAGMA user_version = 3")
            connection.execute(
                "INSERT INTO jobs (job_id, user_id, video_id, session_id, state, accept_number, create_time_us, plan_id,"
                " document) VALUES ('j', 1, 'v', 's', 'completed', 1, 0, 'p', ?)",
                (json.dumps(job),),
            )
            connection.execute(
                "INSERT INTO events VALUES (1, 1, 'j', 0, 'process_done', ?)", (json.dumps(event),)
            )
            connection.commit()
        repository = SqliteRepository(path)
        yield repository
        repository.close()

    def test_job_and_event_tell_the_encoding_of_the_stream(self, old: SqliteRepository) -> None:
        with old.read() as reader:
            job = reader.get_job("j")
            (event,) = reader.list_events(1, 0, 9)
        assert job
        assert job.report
        assert job.report.encodings == (
            Encoding(
                stream_id=7,
                codec="hevc",
                encoder="libx265",
                options={"preset": "medium", "crf": "22"},
                width=640,
                height=360,
                pixel_format="yuv420p",
                size_bytes=800,
                is_moving=True,
            ),
        )
        assert event.report == job.report
        assert event.artifacts[0].media_time_us is None
        kept = {name: value for name, value in _OLD_REPORT.items() if hasattr(job.report, name)}
        told = json.loads(msgspec.json.encode(job.report))
        assert {name: told[name] for name in kept} == kept
        assert (job.report.decoded_frame_count, job.report.scaling_factor) == (300, None)

    def test_it_is_kept_as_this_build_would_keep_it(self, old: SqliteRepository) -> None:
        with old.transaction() as transaction:
            job = transaction.get_job("j")
            assert job
            transaction.put_job(job)
            assert transaction.get_job("j") == job


def _old_artifact() -> dict[str, object]:
    artifact = msgspec.to_builtins(an_artifact("a", stream_id=7))
    return {name: value for name, value in artifact.items() if name != "media_time_us"}


class TestSettingsOfAnEarlierBuild:
    """It knew fewer settings, and asked for none of the others."""

    OLD: ClassVar = {
        "operation_mode": 2,
        "frame_rate_range": {"min_fps": 1, "max_fps": 30},
        "zoom_ratio": 1.5,
        "zoom_crop_region": {"x": 2, "y": 4, "width": 64, "height": 48},
        "watermark": None,
        "conceal_damage": True,
        "moov_first": None,
    }

    def test_are_read_as_they_were_meant(self, tmp_path: Path) -> None:
        path = tmp_path / "old.sqlite3"
        SqliteRepository(path).close()
        snapshot = {"streams": [{"stream_id": 7, "intent": 1}], "mode_setting": self.OLD}
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "INSERT INTO jobs (job_id, user_id, video_id, session_id, state, accept_number, create_time_us, plan_id,"
                " document) VALUES ('j', 1, 'v', 's', 'queued', 1, 0, '', ?)",
                (json.dumps({"snapshot": snapshot}),),
            )
            connection.commit()
        repository = SqliteRepository(path)
        with closing(repository), repository.read() as reader:
            job = reader.get_job("j")
        assert job
        assert job.snapshot
        assert job.snapshot.mode_setting == ModeSetting(
            operation_mode=OperationMode.VIDEO,
            frame_rate_range=FrameRateRange(min_fps=1, max_fps=30),
            zoom_ratio=1.5,
            zoom_crop_region=Rect(x=2, y=4, width=64, height=48),
            conceal_damage=True,
        )


class TestSegmentsOf0004:
    """Segments were not measured; now a row keeps what was."""

    @pytest.fixture(name="old")
    def _old(self, tmp_path: Path) -> Iterator[SqliteRepository]:
        plan = to_row(a_plan())
        path = tmp_path / "old.sqlite3"
        with closing(sqlite3.connect(path)) as connection:
            scripts = "; ".join(migration.sql for migration in MIGRATIONS[:4])
            connection.executescript(f"PRAGMA journal_mode = WAL; {scripts}; PRAGMA user_version = 4")
            connection.execute(
                f"INSERT INTO plans ({', '.join(plan)}) VALUES ({', '.join('?' * len(plan))})",
                list(plan.values()),
            )
            connection.executemany(
                "INSERT INTO segments VALUES ('p', ?, ?, '', 1, 0, ?, 7, 'a', 3, 'b', 'c', 0.5)",
                [(0, "done", "segments/0"), (1, "waiting", "")],
            )
            connection.commit()
        repository = SqliteRepository(path)
        yield repository
        repository.close()

    def test_those_that_are_done_have_no_figures(self, old: SqliteRepository) -> None:
        with old.read() as reader:
            done, _ = reader.list_segments("p")
            assert reader.find_plan(1, "v", "f") == a_plan()
        assert (done.state, done.path, done.frame_count, done.measures) == (
            SegmentState.DONE,
            "segments/0",
            3,
            None,
        )

    def test_those_that_follow_have(self, old: SqliteRepository) -> None:
        with old.transaction() as transaction:
            _, waiting = transaction.list_segments("p")
            transaction.lease_segments("p", [1], "t")
            made = replace(waiting, path="segments/1", measures=MEASURES)
            assert transaction.finish_segment(made, "t")
        with old.read() as reader:
            assert reader.list_segments("p")[1].measures == MEASURES
        with old.transaction() as transaction:
            transaction.reset_segment("p", 1)
            assert transaction.list_segments("p")[1].measures is None
