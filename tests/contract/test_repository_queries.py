"""What every repository finds, and the invariants it keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_records import (  # noqa: F401 fixtures
    MEASURES,
    ONE_REPOSITORY,
    a_job,
    a_plan,
    a_session,
    a_video,
    an_artifact,
    an_uploaded_video,
    implementation_fixture,
    repository_fixture,
    some_segments,
    undone,
)

from videoprocess_server.model.records import (
    Phase,
    SegmentRecord,
    StageCost,
    Video,
)
from videoprocess_server.model.states import JobState, SegmentState, VideoState
from videoprocess_server.store.repository import ConflictError, Repository


class TestSessions:
    def test_open_sessions_are_counted_and_the_idle_ones_listed_oldest_first(
        self, repository: Repository
    ) -> None:
        with repository.transaction() as transaction:
            transaction.put_session(a_session("late", last_used_time_us=9))
            transaction.put_session(a_session("at", last_used_time_us=5))
            transaction.put_session(a_session("idle", last_used_time_us=4))
            transaction.put_session(a_session("idlest", last_used_time_us=3, user_id=2))
            transaction.put_session(a_session("closed", last_used_time_us=1, close_time_us=2))
        with repository.read() as reader:
            assert (
                reader.count_open_sessions(),
                reader.count_open_sessions(1),
                reader.count_open_sessions(3),
            ) == (4, 3, 0)
            assert [session.session_id for session in reader.list_idle_sessions(5, 9)] == ["idlest", "idle"]
            assert [session.session_id for session in reader.list_idle_sessions(5, 1)] == ["idlest"]


class TestVideos:
    @given(
        videos=st.dictionaries(
            st.text(st.sampled_from("ab%_*\0\ud7ff\ue000\U0010ffff"), min_size=1, max_size=4),
            st.tuples(st.integers(-2, 2), st.sampled_from(VideoState)),
            max_size=20,
        ),
        states=st.none() | st.sets(st.sampled_from(VideoState)),
        prefix=st.text(st.sampled_from("ab%_*\0\ud7ff\ue000\U0010ffff"), max_size=2),
        page=st.integers(1, 5),
    )
    @ONE_REPOSITORY
    def test_pages_put_together_are_the_sorted_whole(
        self,
        repository: Repository,
        videos: dict[str, tuple[int, VideoState]],
        states: set[VideoState] | None,
        prefix: str,
        page: int,
    ) -> None:
        whole = [a_video(name, create_time_us=time, state=state) for name, (time, state) in videos.items()]
        expected = [
            video
            for video in sorted(whole, key=lambda video: (video.create_time_us, video.video_id))
            if video.video_id.startswith(prefix) and (states is None or video.state in states)
        ]
        with undone(repository) as transaction:
            transaction.put_video(a_video("a", user_id=2))
            for video in whole:
                transaction.put_video(video)
            listed: list[Video] = []
            after = None
            while part := transaction.list_videos(
                1, states=states, id_prefix=prefix, after=after, limit=page
            ):
                assert len(part) <= page
                listed += part
                after = (part[-1].create_time_us, part[-1].video_id)
            assert listed == expected
            if states is not None and not prefix:
                positions = transaction.list_video_positions(1, states=states, limit=page)
                assert positions == [(video.create_time_us, video.video_id) for video in expected[:page]]

    def test_videos_of_an_upload_are_counted_in_the_trash_too(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.put_video(an_uploaded_video("a", "u1"))
            transaction.put_video(replace(an_uploaded_video("b", "u1"), state=VideoState.DELETED))
            transaction.put_video(an_uploaded_video("c", "u2"))
            transaction.put_video(a_video("d"))
        with repository.read() as reader:
            assert [reader.count_videos_of_upload(upload) for upload in ("u1", "u2", "u3")] == [2, 1, 0]


class TestJobs:
    @pytest.mark.parametrize("active", [JobState.QUEUED, JobState.RUNNING])
    def test_a_video_has_one_active_job(self, repository: Repository, active: JobState) -> None:
        with repository.transaction() as transaction:
            transaction.put_job(a_job("1", state=JobState.ABORTED))
            transaction.put_job(a_job("2", state=active))
            transaction.put_job(a_job("3", user_id=2, state=active))
        with pytest.raises(ConflictError), repository.transaction() as transaction:
            transaction.put_job(a_job("4"))
        with repository.transaction() as transaction:
            assert transaction.get_active_job(1, "v") == a_job("2", state=active)
            transaction.put_job(a_job("2", state=JobState.COMPLETED))
            transaction.put_job(a_job("4"))

    def test_of_many_threads_one_gets_the_video(self, repository: Repository) -> None:
        def accept(job_id: str) -> bool:
            try:
                with repository.transaction() as transaction:
                    transaction.put_job(a_job(job_id, accept_number=transaction.next_accept_number()))
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(accept, map(str, range(16)))) == 1

    def test_active_jobs_are_listed_in_order_of_acceptance(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for number, (user, session, state) in enumerate(
                [
                    (1, "s", JobState.QUEUED),
                    (1, "t", JobState.RUNNING),
                    (2, "t", JobState.QUEUED),
                    (1, "s", JobState.FAILED),
                ]
            ):
                job = a_job(str(number), user_id=user, session_id=session, state=state, video_id=str(number))
                transaction.put_job(replace(job, accept_number=9 - number))
        with repository.read() as reader:
            assert [job.job_id for job in reader.list_active_jobs()] == ["2", "1", "0"]
            assert [job.job_id for job in reader.list_active_jobs(limit=2)] == ["2", "1"]
            assert [job.job_id for job in reader.list_active_jobs(user_id=1)] == ["1", "0"]
            assert [job.job_id for job in reader.list_active_jobs(user_id=1, session_id="t")] == ["1"]
            assert (reader.count_active_jobs(), reader.count_active_jobs(1), reader.count_active_jobs(3)) == (
                3,
                2,
                0,
            )

    def test_accept_numbers_rise_by_one(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            assert [transaction.next_accept_number() for _ in range(3)] == [1, 2, 3]


class TestPlans:
    def test_the_newest_unfinished_plan_under_the_settings_is_found(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.add_plan(a_plan("old", create_time_us=1), [])
            transaction.add_plan(a_plan("new", create_time_us=2), [])
            transaction.add_plan(a_plan("made", create_time_us=3), [])
            transaction.add_plan(a_plan("other", create_time_us=4, settings_fingerprint="g"), [])
            transaction.put_job(a_job(plan_id="made", state=JobState.COMPLETED))
            transaction.put_job(a_job("k", plan_id="new", state=JobState.ABORTED))
        with repository.read() as reader:
            assert reader.find_plan(1, "v", "f") == a_plan("new", create_time_us=2)
            assert reader.find_plan(2, "v", "f") is None
            assert [plan.plan_id for plan in reader.list_plans(1, "v")] == ["old", "new", "made", "other"]

    def test_of_a_plan_only_the_stages_change(self, repository: Repository) -> None:
        stages = (StageCost(phase=Phase.ANALYZE, wall_seconds=1.5, cpu_seconds=3.0),)
        with repository.transaction() as transaction:
            transaction.add_plan(a_plan(), [])
            transaction.put_plan(a_plan(stages=stages, fingerprint="changed"))
            transaction.put_plan(a_plan("unknown"))
        with repository.read() as reader:
            assert reader.get_plan("p") == a_plan(stages=stages)
            assert reader.get_plan("unknown") is None

    def test_segments_of_no_plan_are_refused(self, repository: Repository) -> None:
        with pytest.raises(ConflictError), repository.transaction() as transaction:
            transaction.add_plan(a_plan("p"), some_segments(1, "q"))


class TestLeases:
    @pytest.fixture(autouse=True)
    def _plan(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.add_plan(a_plan(), some_segments(4))
            transaction.add_plan(a_plan("q"), some_segments(4, "q"))

    def test_all_are_leased_or_none(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            assert transaction.lease_segments("p", [1, 2, 2], "t1")
            assert not transaction.lease_segments("p", [0, 1], "t2")
            assert not transaction.lease_segments("p", [3, 4], "t2")
            assert transaction.lease_segments("p", [], "t2")
        with repository.read() as reader:
            leased = {"state": SegmentState.LEASED, "lease_token": "t1", "attempt_count": 1}
            expected = some_segments(4)
            expected[1:3] = [replace(segment, **leased) for segment in expected[1:3]]
            assert list(reader.list_segments("p")) == expected
            assert reader.count_segments("p", SegmentState.WAITING) == 2
            assert reader.count_segments("q", SegmentState.WAITING) == 4

    def test_only_the_token_finishes_and_once(self, repository: Repository) -> None:
        done = SegmentRecord(
            plan_id="p",
            index=1,
            state=SegmentState.DONE,
            path="segments/1",
            size_bytes=7,
            sha256="a",
            frame_count=3,
            input_sha256="b",
            parameter_sets_sha256="c",
            cpu_seconds=0.5,
            measures=MEASURES,
        )
        with repository.transaction() as transaction:
            assert not transaction.finish_segment(done, "t1")
            transaction.lease_segments("p", [1], "t1")
            assert not transaction.finish_segment(done, "t2")
            assert not transaction.finish_segment(done, "")
            assert transaction.finish_segment(done, "t1")
            assert not transaction.finish_segment(done, "t1")
        with repository.transaction() as transaction:
            assert transaction.list_segments("p")[1] == replace(done, attempt_count=1)
            assert not transaction.lease_segments("p", [1], "t3")
            transaction.reset_segment("p", 1)
            transaction.reset_segment("p", 2)
            assert transaction.list_segments("p")[1] == SegmentRecord(plan_id="p", index=1, attempt_count=1)
            assert transaction.lease_segments("p", [1, 2], "t3")

    def test_a_lease_is_released_and_its_crash_counted(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.lease_segments("p", [0, 1], "t1")
            transaction.lease_segments("p", [2, 3], "t2")
            transaction.lease_segments("q", [0], "t1")
            transaction.release_segments("p", lease_token="t1", crashed_index=1)
            transaction.release_segments("p", lease_token="t1", crashed_index=2)
        with repository.transaction() as transaction:
            segments = transaction.list_segments("p")
            assert [segment.crash_count for segment in segments] == [0, 1, 0, 0]
            assert [segment.lease_token for segment in segments] == ["", "", "t2", "t2"]
            transaction.release_segments("p")
            assert transaction.count_segments("p", SegmentState.WAITING) == 4
            assert transaction.count_segments("q", SegmentState.LEASED) == 1

    def test_threads_that_race_for_segments_share_none(self, repository: Repository) -> None:
        won: list[tuple[int, str]] = []

        def race(number: int) -> None:
            for index in range(3):
                with repository.transaction() as transaction:
                    if transaction.lease_segments("p", [index, index + 1], f"t{number}"):
                        won.extend([(index, f"t{number}"), (index + 1, f"t{number}")])

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(race, range(8)))
        with repository.read() as reader:
            assert sorted(won) == [
                (segment.index, segment.lease_token) for segment in reader.list_segments("p")
            ]


class TestArtifacts:
    def test_expired_ones_are_listed_oldest_first_and_the_others_not(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for name, expire_time_us in (("kept", None), ("later", 6), ("at", 5), ("before", 4)):
                transaction.put_artifact(an_artifact(name, expire_time_us=expire_time_us))
        with repository.read() as reader:
            assert [artifact.artifact_id for artifact in reader.list_expired_artifacts(5, 9)] == [
                "before",
                "at",
            ]
            assert [artifact.artifact_id for artifact in reader.list_expired_artifacts(5, 1)] == ["before"]

    def test_a_jobs_artifacts_are_listed_by_stream(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for name, job, stream in (("a", "j", 2), ("b", "j", 1), ("c", "k", 0)):
                transaction.put_artifact(an_artifact(name, job_id=job, stream_id=stream))
        with repository.read() as reader:
            assert [artifact.artifact_id for artifact in reader.list_artifacts_of_job("j")] == ["b", "a"]
            assert list(reader.list_all_artifact_ids()) == ["a", "b", "c"]
