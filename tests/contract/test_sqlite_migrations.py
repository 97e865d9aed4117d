"""A database that an earlier build has written is read as it was meant."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from repository_records import a_job, a_plan, a_session, a_video, an_artifact, an_upload, an_uploaded_video

from videoprocess_server.model.hdi import ErrorCode, ExecutionMode
from videoprocess_server.model.records import (
    ActiveUser,
    Fault,
    Phase,
    Priority,
    QueueClass,
    SegmentRecord,
    StageCost,
    Tombstone,
)
from videoprocess_server.model.states import JobState, SegmentState, UploadState, VideoState
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

    def test_its_plans_are_gone_on_with(self, repository: SqliteRepository) -> None:
        stages = (StageCost(phase=Phase.ANALYZE, wall_seconds=1.5, cpu_seconds=3.0),)
        with repository.transaction() as transaction:
            plan = a_plan("paused", video_id="paused", create_time_us=8, stages=stages)
            assert transaction.find_plan(1, "paused", "f") == plan
            assert list(transaction.list_stale_plans(51, 9)) == [plan]
            assert list(transaction.list_stale_plans(50, 9)) == []
            states = [segment.state for segment in transaction.list_segments("paused")]
            assert states == [SegmentState.DONE, SegmentState.WAITING]
            done = SegmentRecord(plan_id="running", index=0, path="x", size_bytes=7)
            assert transaction.finish_segment(done, "t")
            assert transaction.stored_bytes(1) == 100 + 1000 + 10_000 + 20_000 + 7

    def test_what_it_stored_is_summed(self, repository: SqliteRepository) -> None:
        with repository.read() as reader:
            assert reader.stored_bytes(1) == 100 + 1000 + 10_000 + 20_000
            assert reader.stored_bytes(2) == 5
            assert reader.stored_bytes() == 31_105
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
            for upload_id in transaction.list_all_upload_ids():
                upload = transaction.get_upload(upload_id)
                assert upload
                transaction.put_upload(upload)
            for artifact_id in transaction.list_all_artifact_ids():
                artifact = transaction.get_artifact(artifact_id)
                assert artifact
                transaction.put_artifact(artifact)
        new_fields = ('"blocked_since_us":null,', '"stop_requested":"",', '"execution_mode":3,')
        after = [line if 'INTO "jobs"' not in line else _without(line, new_fields) for line in dump()]
        assert after == before


def _without(line: str, parts: tuple[str, ...]) -> str:
    for part in parts:
        assert part in line
        line = line.replace(part, "")
    return line
