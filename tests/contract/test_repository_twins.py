"""The repository in memory answers as those in databases do, whatever was done to both."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_records import (
    IMPLEMENTATIONS,
    ONE_REPOSITORY,
    a_job,
    a_plan,
    a_replica,
    a_request,
    a_session,
    a_tombstone,
    a_video,
    an_artifact,
    an_event,
    an_upload,
    an_uploaded_video,
    some_segments,
    undone,
)

from soaking import SOAKING
from videoprocess_server.model.records import Priority, QueueClass, SegmentRecord
from videoprocess_server.model.states import JobState, SegmentState, UploadState, VideoState
from videoprocess_server.store.memory import MemoryRepository
from videoprocess_server.store.repository import (
    ConflictError,
    Reader,
    Repository,
    StoreUnavailableError,
    Transaction,
)

NAMES = st.sampled_from("abc")
USERS = st.integers(1, 2)
TIMES = st.integers(0, 3)
INDICES = st.integers(0, 2)
TOKENS = st.sampled_from(["", "t", "u"])


#: a method's name, its arguments, those by name
Change = tuple[str, tuple[Any, ...], dict[str, Any]]


@pytest.fixture(name="database", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def _database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    repository = IMPLEMENTATIONS[request.param](tmp_path)
    yield repository
    repository.close()


def changes() -> st.SearchStrategy[Change]:
    """Any change, over so few ids and times that changes meet."""
    records = {
        "put_session": st.builds(
            a_session, NAMES, user_id=USERS, last_used_time_us=TIMES, close_time_us=st.none() | TIMES
        ),
        "put_video": st.builds(
            a_video,
            NAMES,
            user_id=USERS,
            state=st.sampled_from(VideoState),
            create_time_us=TIMES,
            update_time_us=TIMES,
            expire_time_us=st.none() | TIMES,
            last_job_id=NAMES,
            source=st.none() | NAMES.map(lambda upload_id: an_uploaded_video("v", upload_id).source),
        ),
        "put_job": st.builds(
            a_job,
            NAMES,
            user_id=USERS,
            video_id=NAMES,
            session_id=NAMES,
            state=st.sampled_from(JobState),
            priority=st.sampled_from(Priority),
            queue_class=st.sampled_from(QueueClass),
            accept_number=TIMES,
            end_time_us=st.none() | TIMES,
            plan_id=st.just("") | NAMES,
        ),
        "put_upload": st.builds(
            an_upload,
            NAMES,
            user_id=USERS,
            state=st.sampled_from(UploadState),
            update_time_us=TIMES,
            size_bytes=TIMES,
        ),
        "put_artifact": st.builds(
            an_artifact,
            NAMES,
            user_id=USERS,
            video_id=NAMES,
            job_id=NAMES,
            stream_id=TIMES,
            size_bytes=TIMES,
            create_time_us=TIMES,
            expire_time_us=st.none() | TIMES,
            detached=st.booleans(),
        ),
        "append_event": st.builds(
            an_event, NAMES | st.sampled_from("defgh"), user_id=USERS, create_time_us=TIMES
        ),
        "put_request": st.builds(a_request, NAMES, user_id=USERS, answer_id=NAMES, create_time_us=TIMES),
        "put_tombstone": st.builds(a_tombstone, NAMES, create_time_us=TIMES),
        "put_plan": st.builds(a_plan, NAMES),
        "put_replica": st.builds(a_replica, NAMES, expire_time_us=TIMES),
    }
    done = st.builds(SegmentRecord, plan_id=NAMES, index=INDICES, path=st.just("x"), size_bytes=TIMES)
    plan = st.builds(a_plan, NAMES, user_id=USERS, video_id=NAMES, create_time_us=TIMES)
    arguments = {
        **{name: st.tuples(record) for name, record in records.items()},
        "add_plan": plan.map(lambda record: (record, some_segments(3, record.plan_id))),
        "delete_video": st.tuples(USERS, NAMES),
        "delete_plan": st.tuples(NAMES),
        "delete_upload": st.tuples(NAMES),
        "delete_artifact": st.tuples(NAMES),
        "delete_tombstone": st.tuples(st.just("segments"), NAMES),
        "delete_replica": st.tuples(NAMES),
        "next_accept_number": st.just(()),
        "lease_segments": st.tuples(NAMES, st.lists(INDICES, max_size=3), TOKENS),
        "finish_segment": st.tuples(done, TOKENS),
        "reset_segment": st.tuples(NAMES, INDICES),
        # with limits that all of it is under: of equals, either may go first
        "delete_events_before": st.tuples(TIMES, st.just(99)),
        "delete_requests_before": st.tuples(TIMES, st.just(99)),
        "delete_ended_jobs_before": st.tuples(TIMES, st.just(99)),
        "delete_closed_sessions_before": st.tuples(TIMES, st.just(99)),
    }
    release = st.fixed_dictionaries({"lease_token": st.none() | TOKENS, "crashed_index": st.none() | INDICES})
    return st.one_of(
        *(st.tuples(st.just(name), these, st.just({})) for name, these in arguments.items()),
        st.tuples(st.just("release_segments"), st.tuples(NAMES), release),
    )


def answers(reader: Reader) -> dict[str, object]:
    """All that can be asked of the few ids and times."""
    users, names, times = (1, 2), "abc", range(4)
    found: dict[str, object] = {
        "open": [reader.count_open_sessions(user) for user in (None, *users)],
        "idle": [list(reader.list_idle_sessions(time, 2)) for time in times],
        "active": [
            list(reader.list_active_jobs(user_id=u, session_id=s)) for u in (None, 1) for s in (None, "a")
        ],
        "counts": [reader.count_active_jobs(user) for user in (None, *users)],
        "running": list(reader.list_running_jobs()),
        "users": list(reader.list_active_users()),
        "queues": [list(reader.list_queue_head(user, 2)) for user in users],
        "oldest": [reader.get_oldest_queued(user) for user in users],
        "plan ids": list(reader.list_all_plan_ids()),
        "uploads": list(reader.list_all_uploads()),
        "active uploads": sorted(reader.list_active_uploads_among(names)),
        "artifact ids": list(reader.list_all_artifact_ids()),
        "expired artifacts": [len(reader.list_expired_artifacts(time, 9)) for time in times],
        "expired videos": [list(reader.list_expired_videos(time, 9)) for time in times],
        "expired uploads": [list(reader.list_expired_uploads(a, b, 2)) for a in times for b in times],
        "stale plans": [list(reader.list_stale_plans(time, 2)) for time in times],
        "tombstones": list(reader.list_tombstones(9)),
        "replicas": list(reader.list_replicas()),
        "stored": [reader.stored_bytes(user) for user in (None, *users)],
        "events": [(reader.event_bounds(user), list(reader.list_events(user, 1, 3))) for user in users],
        "videos": [
            list(reader.list_videos(user, states=states, id_prefix=prefix, after=after, limit=2))
            for user in users
            for states in (None, set(), {VideoState.PENDING, VideoState.DELETED, VideoState.QUEUED})
            for prefix in ("", "b")
            for after in (None, (1, "b"))
        ],
    }
    for name in names:
        found[name] = [
            reader.get_session(name),
            reader.get_job(name),
            reader.get_plan(name),
            list(reader.list_segments(name)),
            [reader.count_segments(name, state) for state in SegmentState],
            reader.get_upload(name),
            reader.count_videos_of_upload(name),
            reader.get_artifact(name),
            list(reader.list_artifacts_of_job(name)),
        ]
        found[f"{name} of a user"] = [
            (
                reader.get_video(user, name),
                reader.get_active_job(user, name),
                reader.find_plan(user, name, "f"),
                reader.find_resume_point(user, name, "f"),
                list(reader.list_plans(user, name)),
                list(reader.list_artifacts_of_video(user, name)),
                reader.get_request(user, "ProcessVideo", name),
            )
            for user in users
        ]
    return found


def call(transaction: Transaction, change: Change) -> object:
    name, arguments, options = change
    return getattr(transaction, name)(*arguments, **options)


class TestTwins:
    @given(changes=st.lists(changes(), min_size=20, max_size=60))
    @settings(ONE_REPOSITORY, max_examples=100 if SOAKING else 30)
    def test_the_same_changes_have_the_same_answers(
        self, database: Repository, changes: list[Change]
    ) -> None:
        """What the one refuses the other refuses too; both go on without it."""
        memory = MemoryRepository()
        taken: list[tuple[Change, object]] = []
        for change in changes:
            try:
                with memory.transaction() as transaction:
                    returned = call(transaction, change)
            except ConflictError:
                with undone(database) as transaction:
                    for earlier, _ in taken:
                        call(transaction, earlier)
                    with pytest.raises(ConflictError):
                        call(transaction, change)
            else:
                taken.append((change, returned))
        with undone(database) as transaction, memory.read() as reader:
            assert [call(transaction, change) for change, _ in taken] == [returned for _, returned in taken]
            assert answers(reader) == answers(transaction)


class TestMemory:
    def test_a_transaction_that_takes_too_long_does_not_hold_up_others_for_ever(self) -> None:
        repository = MemoryRepository(busy_timeout_seconds=0.1)

        def put() -> None:
            with repository.transaction() as transaction:
                transaction.put_video(a_video())

        with repository.transaction(), ThreadPoolExecutor(1) as threads:
            assert isinstance(threads.submit(put).exception(), StoreUnavailableError)
        put()
        with repository.read() as reader:
            assert reader.get_video(1, "v") == a_video()
