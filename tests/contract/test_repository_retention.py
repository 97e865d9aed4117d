"""What every repository finds to be old, and what it deletes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_records import (  # noqa: F401 fixtures
    ONE_REPOSITORY,
    a_job,
    a_plan,
    a_request,
    a_session,
    a_tombstone,
    a_video,
    an_artifact,
    an_event,
    an_upload,
    an_uploaded_video,
    implementation_fixture,
    repository_fixture,
    some_segments,
    undone,
)

from videoprocess_server.model.records import SegmentRecord
from videoprocess_server.model.states import JobState, SegmentState, UploadState, VideoState
from videoprocess_server.store.repository import Repository, Transaction

IDLE = set(VideoState) - {VideoState.QUEUED, VideoState.RUNNING, VideoState.DELETED}


class TestExpiries:
    def test_the_trash_is_listed_by_expiry_and_only_it(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for name, expire_time_us in (("never", None), ("later", 6), ("at", 5), ("before", 4)):
                transaction.put_video(a_video(name, state=VideoState.DELETED, expire_time_us=expire_time_us))
            transaction.put_video(a_video("restored", state=VideoState.COMPLETED, expire_time_us=1))
        with repository.read() as reader:
            assert [video.video_id for video in reader.list_expired_videos(5, 9)] == ["before", "at"]
            assert [video.video_id for video in reader.list_expired_videos(5, 1)] == ["before"]

    def test_uploads_expire_by_their_state_unless_a_video_refers_to_them(
        self, repository: Repository
    ) -> None:
        with repository.transaction() as transaction:
            for number, state in enumerate(UploadState):
                for time in (1, 4, 5, 8, 9):
                    name = f"{state.value} {time}"
                    transaction.put_upload(an_upload(name, user_id=number, state=state, update_time_us=time))
            transaction.put_video(an_uploaded_video("v", "finished 1"))
            transaction.put_video(replace(an_uploaded_video("w", "finished 4"), state=VideoState.DELETED))
            transaction.put_video(an_uploaded_video("x", "active 1"))
        with repository.read() as reader:
            assert [upload.upload_id for upload in reader.list_expired_uploads(5, 9, 9)] == [
                "active 1",
                "active 4",
                "finished 5",
                "finished 8",
            ]
            assert [upload.upload_id for upload in reader.list_expired_uploads(1, 9, 1)] == ["finished 5"]

    def test_of_some_uploads_the_unfinished_are_told(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for name, state in (
                ("a", UploadState.ACTIVE),
                ("b", UploadState.FINISHED),
                ("c", UploadState.ACTIVE),
            ):
                transaction.put_upload(an_upload(name, state=state))
        with repository.read() as reader:
            assert list(reader.list_active_uploads_among({"a", "b", "unknown"})) == ["a"]
            assert not reader.list_active_uploads_among([])

    @pytest.mark.parametrize("state", VideoState)
    def test_plans_of_idle_videos_are_stale(self, repository: Repository, state: VideoState) -> None:
        with repository.transaction() as transaction:
            for name, time in (("before", 4), ("at", 5)):
                transaction.put_video(a_video(name, state=state, update_time_us=time))
                transaction.add_plan(a_plan(f"{name} 1", video_id=name, create_time_us=9), some_segments(0))
                transaction.add_plan(a_plan(f"{name} 2", video_id=name, create_time_us=9), some_segments(0))
            transaction.add_plan(a_plan("another user's", video_id="before", user_id=2), some_segments(0))
        expected = ["before 1", "before 2"] if state in IDLE else []
        with repository.read() as reader:
            assert [plan.plan_id for plan in reader.list_stale_plans(5, 9)] == expected
            assert [plan.plan_id for plan in reader.list_stale_plans(5, 1)] == expected[:1]

    def test_tombstones_are_listed_oldest_first_and_put_once(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.put_tombstone(a_tombstone("b", create_time_us=2))
            transaction.put_tombstone(a_tombstone("a", create_time_us=3))
            transaction.put_tombstone(a_tombstone("b", create_time_us=1))
            transaction.put_tombstone(a_tombstone("b", kind="results", create_time_us=2))
        with repository.transaction() as transaction:
            listed = [
                (stone.kind, stone.key, stone.create_time_us) for stone in transaction.list_tombstones(9)
            ]
            assert listed == [("segments", "b", 1), ("results", "b", 2), ("segments", "a", 3)]
            assert [stone.kind for stone in transaction.list_tombstones(1)] == ["segments"]
            transaction.delete_tombstone("segments", "b")
            assert [stone.kind for stone in transaction.list_tombstones(9)] == ["results", "segments"]

    def test_a_detached_artifact_is_no_more_its_videos(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.put_artifact(an_artifact("expires", create_time_us=2, expire_time_us=3))
            transaction.put_artifact(an_artifact("detached", detached=True, expire_time_us=3))
            transaction.put_artifact(an_artifact("kept", create_time_us=1))
        with repository.transaction() as transaction:
            assert _artifact_ids(transaction) == ["kept", "expires"]
            transaction.put_artifact(an_artifact("kept", create_time_us=1, detached=True))
            assert _artifact_ids(transaction) == ["expires"]
            assert len(transaction.list_artifacts_of_job("j")) == 3


def _artifact_ids(transaction: Transaction) -> list[str]:
    return [artifact.artifact_id for artifact in transaction.list_artifacts_of_video(1, "v")]


class TestEvents:
    @given(
        events=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), max_size=25),
        passes=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10)), max_size=4),
    )
    @ONE_REPOSITORY
    def test_deleting_old_ones_leaves_no_gap_and_no_number_comes_twice(
        self, repository: Repository, events: list[tuple[int, int]], passes: list[tuple[int, int]]
    ) -> None:
        """A clock that went back gives a later event an earlier time: it waits for those before it."""
        with undone(repository) as transaction:
            kept: dict[int, dict[int, int]] = {1: {}, 2: {}, 3: {}}
            for number, (user_id, time) in enumerate(events):
                event = an_event(f"j{number}", user_id=user_id, create_time_us=time)
                kept[user_id][transaction.append_event(event).sequence] = time
            newest = {user_id: len(times) for user_id, times in kept.items()}
            for before_us, limit in passes:
                due = {user_id: _oldest_before(times, before_us) for user_id, times in kept.items()}
                count = transaction.delete_events_before(before_us, limit)
                assert count == min(limit, sum(map(len, due.values())))
                for user_id, times in kept.items():
                    left = [event.sequence for event in transaction.list_events(user_id, 0, 99)]
                    gone = times.keys() - set(left)
                    assert gone <= due[user_id]
                    assert left == list(range(newest[user_id] - len(left) + 1, newest[user_id] + 1))
                    assert transaction.event_bounds(user_id) == (
                        newest[user_id] - len(left) + 1,
                        newest[user_id],
                    )
                    count -= len(gone)
                    kept[user_id] = {sequence: times[sequence] for sequence in left}
                assert count == 0
            for user_id in kept:
                appended = transaction.append_event(an_event(f"last {user_id}", user_id=user_id))
                assert appended.sequence == newest[user_id] + 1


def _oldest_before(times: dict[int, int], before_us: int) -> set[int]:
    """Numbers from the oldest on, up to the first that is not older than the time."""
    return set(takewhile(lambda sequence: times[sequence] < before_us, sorted(times)))


class TestRequests:
    def test_old_ones_are_deleted_oldest_first(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for user_id, name, time in ((1, "a", 3), (2, "a", 1), (1, "b", 2), (1, "c", 5)):
                transaction.put_request(a_request(name, user_id=user_id, create_time_us=time))
            assert transaction.delete_requests_before(5, 2) == 2
            assert transaction.get_request(2, "ProcessVideo", "a") is None
            assert transaction.get_request(1, "ProcessVideo", "b") is None
            assert transaction.delete_requests_before(5, 9) == 1
            assert transaction.delete_requests_before(5, 9) == 0
            assert transaction.get_request(1, "ProcessVideo", "c") is not None


class TestSessions:
    def test_closed_ones_are_deleted_unless_accepted_work_names_them(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for name, close_time_us in (("open", None), ("old", 1), ("works", 2), ("worked", 3), ("at", 5)):
                transaction.put_session(a_session(name, close_time_us=close_time_us))
            transaction.put_job(a_job("a", video_id="a", session_id="works"))
            transaction.put_job(a_job("b", video_id="b", session_id="worked", state=JobState.ABORTED))
            assert transaction.delete_closed_sessions_before(5, 1) == 1
            assert transaction.get_session("old") is None
            assert transaction.delete_closed_sessions_before(5, 9) == 1
            assert transaction.get_session("worked") is None
            for name in ("open", "works", "at"):
                assert transaction.get_session(name) is not None


class TestJobs:
    NAMED_BY = ("last", "result", "artifact", "event", "request", "plan")

    @given(
        jobs=st.lists(
            st.tuples(
                st.sampled_from(JobState),
                st.none() | st.integers(0, 4),
                st.sets(st.sampled_from(NAMED_BY), max_size=1),
            ),
            max_size=12,
        ),
        before_us=st.integers(0, 5),
        limit=st.integers(0, 12),
    )
    @ONE_REPOSITORY
    def test_ended_ones_are_deleted_unless_something_names_them(
        self,
        repository: Repository,
        jobs: list[tuple[JobState, int | None, set[str]]],
        before_us: int,
        limit: int,
    ) -> None:
        ended = {JobState.COMPLETED, JobState.FAILED, JobState.ABORTED}
        with undone(repository) as transaction:
            due: list[tuple[int, str]] = []
            for number, (state, end_time_us, named_by) in enumerate(jobs):
                job_id = f"j{number}"
                transaction.put_job(
                    a_job(job_id, video_id=job_id, state=state, end_time_us=end_time_us, plan_id=f"p{number}")
                )
                _name(transaction, job_id, named_by)
                is_named = bool(named_by if state is JobState.COMPLETED else named_by - {"plan"})
                if state in ended and end_time_us is not None and end_time_us < before_us and not is_named:
                    due.append((end_time_us, job_id))
            due.sort()
            assert transaction.delete_ended_jobs_before(before_us, limit) == min(len(due), limit)
            gone = {f"j{number}" for number in range(len(jobs)) if transaction.get_job(f"j{number}") is None}
            assert gone <= {job_id for _, job_id in due}
            assert sorted(time for time, job_id in due if job_id in gone) == [time for time, _ in due[:limit]]

    @pytest.mark.parametrize("name", NAMED_BY)
    def test_each_of_what_names_one_keeps_it(self, repository: Repository, name: str) -> None:
        with repository.transaction() as transaction:
            for job_id in ("j0", "j1"):
                job = a_job(job_id, video_id=job_id, state=JobState.COMPLETED, end_time_us=1)
                transaction.put_job(replace(job, plan_id=job_id.replace("j", "p")))
            _name(transaction, "j0", {name})
            assert transaction.delete_ended_jobs_before(9, 9) == 1
            assert transaction.get_job("j0") is not None

    def test_one_is_deleted_after_the_last_that_named_it(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.put_job(a_job(state=JobState.ABORTED, end_time_us=1))
            transaction.append_event(an_event())
            transaction.put_request(a_request())
            assert transaction.delete_ended_jobs_before(9, 9) == 0
            assert transaction.delete_events_before(9, 9) == 1
            assert transaction.delete_ended_jobs_before(9, 9) == 0
            assert transaction.delete_requests_before(9, 9) == 1
            assert transaction.delete_ended_jobs_before(9, 9) == 1


def _name(transaction: Transaction, job_id: str, named_by: set[str]) -> None:
    """Keep something that names a job."""
    if "last" in named_by:
        transaction.put_video(a_video(job_id, last_job_id=job_id))
    if "result" in named_by:
        transaction.put_video(a_video(job_id, result_job_id=job_id))
    if "artifact" in named_by:
        transaction.put_artifact(an_artifact(job_id, job_id=job_id, detached=True))
    if "event" in named_by:
        transaction.append_event(an_event(job_id))
    if "request" in named_by:
        transaction.put_request(a_request(job_id, answer_id=job_id))
    if "plan" in named_by:
        transaction.add_plan(a_plan(job_id.replace("j", "p")), [])


class TestStoredBytes:
    SIZES = st.integers(0, 2**40)

    @given(
        steps=st.lists(
            st.one_of(
                st.tuples(
                    st.just("upload"),
                    st.sampled_from("ab"),
                    st.integers(1, 2),
                    SIZES,
                    st.sampled_from(UploadState),
                ),
                st.tuples(
                    st.just("artifact"), st.sampled_from("ab"), st.integers(1, 2), SIZES, st.booleans()
                ),
                st.tuples(st.just("finish"), st.sampled_from("pq"), st.integers(0, 1), SIZES, st.none()),
                st.tuples(st.just("reset"), st.sampled_from("pq"), st.integers(0, 1), SIZES, st.none()),
                st.tuples(st.just("delete"), st.sampled_from("abpq"), st.just(0), SIZES, st.none()),
                st.tuples(st.just("add"), st.sampled_from("pq"), st.integers(1, 2), SIZES, st.none()),
            ),
            max_size=30,
        )
    )
    @ONE_REPOSITORY
    def test_it_is_the_sum_over_what_is_there(
        self, repository: Repository, steps: Sequence[tuple[str, str, int, int, object]]
    ) -> None:
        with undone(repository) as transaction:
            for step in steps:
                _take(transaction, *step)
                sizes = {user_id: _sum(transaction, user_id) for user_id in (1, 2)}
                assert {user_id: transaction.stored_bytes(user_id) for user_id in sizes} == sizes
                assert transaction.stored_bytes() == sum(sizes.values())
                assert transaction.stored_bytes(3) == 0


def _take(
    transaction: Transaction, what: str, name: str, number: int, size_bytes: int, state: object
) -> None:
    match what:
        case "upload":
            assert isinstance(state, UploadState)
            transaction.put_upload(an_upload(name, user_id=number, size_bytes=size_bytes, state=state))
        case "artifact":
            artifact = an_artifact(name, user_id=number, size_bytes=size_bytes, detached=state is True)
            transaction.put_artifact(artifact)
        case "finish":
            if transaction.lease_segments(name, [number], "t"):
                done = SegmentRecord(plan_id=name, index=number, path="x", size_bytes=size_bytes)
                assert transaction.finish_segment(done, "t")
        case "reset":
            transaction.reset_segment(name, number)
        case "add":
            if transaction.get_plan(name) is None:
                done = {"state": SegmentState.DONE, "path": "x", "size_bytes": size_bytes}
                waiting, first = some_segments(2, name)
                transaction.add_plan(a_plan(name, user_id=number), [waiting, replace(first, **done)])
        case "delete":
            transaction.delete_upload(name)
            transaction.delete_artifact(name)
            transaction.delete_plan(name)


def _sum(transaction: Transaction, user_id: int) -> int:
    """What there is of a user, row by row."""
    uploads = list(transaction.list_all_uploads())
    artifacts = [transaction.get_artifact(name) for name in transaction.list_all_artifact_ids()]
    plans = [transaction.get_plan(name) for name in transaction.list_all_plan_ids()]
    segments = [
        segment
        for plan in plans
        if plan and plan.user_id == user_id
        for segment in transaction.list_segments(plan.plan_id)
        if segment.state is SegmentState.DONE
    ]
    finished = [
        upload
        for upload in uploads
        if upload and upload.user_id == user_id and upload.state is UploadState.FINISHED
    ]
    mine = [artifact for artifact in artifacts if artifact and artifact.user_id == user_id]
    return sum(item.size_bytes for part in (segments, finished, mine) for item in part)
