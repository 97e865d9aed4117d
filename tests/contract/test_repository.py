"""What every repository does with any record: keep it whole, undo it, number it, survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_records import (  # noqa: F401 fixtures
    DURABLE,
    IMPLEMENTATIONS,
    ONE_REPOSITORY,
    RECORDS,
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
    any_record,
    implementation_fixture,
    repository_fixture,
    some_segments,
    undone,
)

from videoprocess_server.model.records import (
    Artifact,
    Event,
    Job,
    PlanRecord,
    Replica,
    Request,
    SegmentRecord,
    Session,
    Tombstone,
    Upload,
    Video,
)
from videoprocess_server.model.states import SegmentState
from videoprocess_server.store.repository import ConflictError, Repository, StoreUnavailableError, Transaction


class TestRecords:
    @pytest.mark.parametrize("kind", RECORDS)
    @given(data=st.data())
    @ONE_REPOSITORY
    def test_every_record_comes_back_as_it_was(
        self, repository: Repository, kind: type, data: st.DataObject
    ) -> None:
        record = data.draw(any_record(kind))
        with undone(repository) as transaction:
            kept, found = _put_and_get(transaction, record)
            assert found == kept

    def test_what_is_not_there_is_none(self, repository: Repository) -> None:
        with repository.read() as reader:
            assert reader.get_session("x") is None
            assert reader.get_video(1, "x") is None
            assert reader.get_job("x") is None
            assert reader.get_active_job(1, "x") is None
            assert reader.get_plan("x") is None
            assert reader.find_plan(1, "x", "") is None
            assert reader.find_resume_point(1, "x", "") is None
            assert reader.get_upload("x") is None
            assert reader.get_artifact("x") is None
            assert reader.get_request(1, "x", "x") is None

    def test_put_replaces(self, repository: Repository) -> None:
        for changes in ({}, {"user_id": 2}):
            with repository.transaction() as transaction:
                transaction.put_session(a_session(**changes))
                transaction.put_job(a_job(**changes))
                transaction.put_upload(an_upload(**changes))
                transaction.put_video(a_video(update_time_us=len(changes)))
                transaction.put_request(a_request(answer_id=str(changes)))
                transaction.put_artifact(an_artifact(expire_time_us=len(changes)))
        with repository.read() as reader:
            assert reader.get_session("s") == a_session(user_id=2)
            assert reader.get_job("j") == a_job(user_id=2)
            assert reader.get_upload("u") == an_upload(user_id=2)
            assert reader.get_video(1, "v") == a_video(update_time_us=1)
            assert reader.get_artifact("a") == an_artifact(expire_time_us=1)
            assert reader.get_request(1, "ProcessVideo", "r") == a_request(answer_id="{'user_id': 2}")

    def test_deleting_deletes_that_row_alone_and_what_is_not_there_too(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            for name in "ab":
                transaction.put_video(a_video(name))
                transaction.put_upload(an_upload(name))
                transaction.put_artifact(an_artifact(name))
                transaction.put_tombstone(a_tombstone(name))
                transaction.put_replica(a_replica(name))
                transaction.add_plan(a_plan(name), some_segments(2, name))
            for name in ("a", "unknown"):
                transaction.delete_video(1, name)
                transaction.delete_upload(name)
                transaction.delete_artifact(name)
                transaction.delete_tombstone("segments", name)
                transaction.delete_tombstone("uploads", "b")
                transaction.delete_replica(name)
                transaction.delete_plan(name)
        with repository.read() as reader:
            assert [video.video_id for video in reader.list_videos(1, limit=9)] == ["b"]
            assert [upload.upload_id for upload in reader.list_all_uploads()] == ["b"]
            assert list(reader.list_all_artifact_ids()) == ["b"]
            assert list(reader.list_all_plan_ids()) == ["b"]
            assert list(reader.list_tombstones(9)) == [a_tombstone("b")]
            assert list(reader.list_replicas()) == [a_replica("b")]
            assert (len(reader.list_segments("a")), len(reader.list_segments("b"))) == (0, 2)

    def test_what_would_not_come_back_is_refused(self, repository: Repository) -> None:
        with pytest.raises(ValueError, match="Expected `float`"), repository.transaction() as transaction:
            transaction.put_job(replace(a_job(), progress=replace(a_job().progress, fps=float("nan"))))

    @pytest.mark.parametrize(
        "broken",
        [
            {"index": -1},
            {"attempt_count": -1},
            {"crash_count": -1},
            {"state": SegmentState.LEASED},
            {"lease_token": "t"},
            {"state": SegmentState.DONE},
            {"path": "p"},
            {"plan_id": "unknown"},
        ],
        ids=str,
    )
    def test_a_segment_that_breaks_an_invariant_is_a_conflict(
        self, repository: Repository, broken: dict[str, Any]
    ) -> None:
        with pytest.raises(ConflictError), repository.transaction() as transaction:
            transaction.add_plan(a_plan(), [replace(some_segments(1)[0], **broken)])
        with pytest.raises(ConflictError), repository.transaction() as transaction:
            transaction.add_plan(a_plan(), some_segments(1) * 2)
        with repository.read() as reader:
            assert list(reader.list_all_plan_ids()) == []

    def test_a_video_without_an_id_is_a_conflict(self, repository: Repository) -> None:
        with pytest.raises(ConflictError), repository.transaction() as transaction:
            transaction.put_video(a_video(""))

    def test_a_plan_added_twice_is_a_conflict(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.add_plan(a_plan(), some_segments(1))
        with pytest.raises(ConflictError), repository.transaction() as transaction:
            transaction.add_plan(a_plan(), some_segments(1))


class TestTransactions:
    def test_an_exception_undoes_everything(self, repository: Repository) -> None:
        with undone(repository) as transaction:
            transaction.put_video(a_video())
            transaction.append_event(an_event())
            transaction.next_accept_number()
        with repository.transaction() as transaction:
            assert transaction.get_video(1, "v") is None
            assert transaction.event_bounds(1) == (1, 0)
            assert transaction.next_accept_number() == 1

    def test_a_swallowed_conflict_undoes_everything_all_the_same(self, repository: Repository) -> None:
        def swallow() -> None:
            with repository.transaction() as transaction:
                transaction.append_event(an_event())
                with suppress(ConflictError):
                    transaction.append_event(an_event())

        with pytest.raises(ConflictError):
            swallow()
        with repository.read() as reader:
            assert reader.event_bounds(1) == (1, 0)

    def test_nothing_follows_a_failure(self, repository: Repository) -> None:
        with undone(repository) as transaction:
            transaction.append_event(an_event())
            with pytest.raises(ConflictError):
                transaction.append_event(an_event())
            with pytest.raises(ConflictError):
                transaction.put_video(a_video())

    def test_a_transaction_reads_its_own_writes(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.put_video(a_video())
            assert transaction.get_video(1, "v") == a_video()

    def test_a_reader_sees_nothing_committed_since_it_began(self, repository: Repository) -> None:
        with repository.read() as reader:
            with repository.transaction() as transaction:
                transaction.put_video(a_video())
            assert reader.get_video(1, "v") is None
            with repository.read() as later:
                assert later.get_video(1, "v") == a_video()

    def test_a_reader_does_not_see_what_is_not_committed(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.put_video(a_video())
            with repository.read() as reader:
                assert reader.get_video(1, "v") is None

    def test_a_nested_transaction_is_refused_and_the_outer_one_goes_on(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            with pytest.raises(RuntimeError), repository.transaction():
                pass
            transaction.put_video(a_video())
        with repository.read() as reader:
            assert reader.get_video(1, "v") == a_video()

    def test_a_view_is_of_no_use_after_its_block(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            pass
        with undone(repository) as other:
            pass
        with repository.read() as reader:
            pass
        for stale in (transaction, other):
            with pytest.raises(RuntimeError):
                stale.put_video(a_video())
        with pytest.raises(RuntimeError):
            reader.get_video(1, "v")
        with repository.read() as reader:
            assert reader.get_video(1, "v") is None

    def test_a_transaction_of_another_thread_is_waited_for(self, repository: Repository) -> None:
        begun = threading.Event()

        def put(video_id: str) -> None:
            begun.set()
            with repository.transaction() as transaction:
                transaction.put_video(a_video(video_id))

        with ThreadPoolExecutor(1) as threads:
            with repository.transaction() as transaction:
                waiting = threads.submit(put, "second")
                assert begun.wait(20)
                transaction.put_video(a_video("first"))
            waiting.result(20)
        with repository.read() as reader:
            assert [video.video_id for video in reader.list_videos(1, limit=9)] == ["first", "second"]

    def test_a_closed_repository_refuses(self, implementation: str, tmp_path: Path) -> None:
        repository = IMPLEMENTATIONS[implementation](tmp_path)
        repository.ping()
        repository.close()
        repository.close()
        with pytest.raises(StoreUnavailableError), repository.read():
            pass
        with pytest.raises(StoreUnavailableError), repository.transaction():
            pass
        with pytest.raises(StoreUnavailableError):
            repository.ping()

    def test_many_threads_read_while_one_writes(self, repository: Repository) -> None:
        """A transfer keeps the sum: a reader that saw half of one would see another count."""
        with repository.transaction() as transaction:
            transaction.put_video(a_video("0"))

        def read(_: int) -> int:
            with repository.read() as reader:
                return len(reader.list_videos(1, limit=9))

        with ThreadPoolExecutor(24) as threads:
            counts = threads.map(read, range(400))
            for number in range(60):
                with repository.transaction() as transaction:
                    transaction.delete_video(1, str(number))
                    transaction.put_video(a_video(str(number + 1)))
            assert set(counts) == {1}


class TestEvents:
    def test_numbers_are_per_user_from_1(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            assert transaction.event_bounds(1) == (1, 0)
            assert [transaction.append_event(an_event(job)).sequence for job in ("1", "2", "3")] == [1, 2, 3]
            assert transaction.append_event(an_event("4", user_id=2)) == an_event("4", user_id=2, sequence=1)
        with repository.read() as reader:
            assert (reader.event_bounds(1), reader.event_bounds(2), reader.event_bounds(3)) == (
                (1, 3),
                (1, 1),
                (1, 0),
            )
            assert [event.job_id for event in reader.list_events(1, 1, 9)] == ["2", "3"]
            assert [event.job_id for event in reader.list_events(1, 0, 2)] == ["1", "2"]
            assert list(reader.list_events(1, 3, 9)) == []

    def test_a_job_has_one_event_and_no_job_any_number(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            transaction.append_event(an_event("1"))
            transaction.append_event(an_event(""))
            transaction.append_event(an_event(""))
        with pytest.raises(ConflictError), repository.transaction() as transaction:
            transaction.append_event(an_event("1"))
        with repository.transaction() as transaction:
            assert transaction.append_event(an_event("2")).sequence == 4

    def test_numbers_of_eight_threads_have_no_gap_and_are_in_commit_order(
        self, repository: Repository
    ) -> None:
        committed: list[int] = []
        lock = threading.Lock()

        def append(number: int) -> None:
            for turn in range(10):
                with undone(repository) as transaction:
                    transaction.append_event(an_event("undone"))
                with repository.transaction() as transaction:
                    sequence = transaction.append_event(an_event(f"{number}-{turn}")).sequence
                with lock:
                    committed.append(sequence)
                with repository.read() as reader:  # nobody who sees a number misses one before it
                    kept = [event.sequence for event in reader.list_events(1, 0, 999)]
                    assert kept == list(range(1, len(kept) + 1))
                    assert sequence in kept

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(append, range(8)))
        assert sorted(committed) == list(range(1, 81))


@pytest.mark.parametrize("implementation", DURABLE, indirect=True)
class TestDurability:
    def test_what_was_committed_is_there_after_reopening(self, implementation: str, tmp_path: Path) -> None:
        for opening in range(1, 4):
            repository = IMPLEMENTATIONS[implementation](tmp_path)
            with repository.transaction() as transaction:
                assert transaction.append_event(an_event(str(opening))).sequence == opening
            repository.close()

    @pytest.mark.parametrize("announced", [1, 40])
    def test_what_was_committed_is_there_after_kill_9(
        self, implementation: str, tmp_path: Path, announced: int
    ) -> None:
        script = (
            "import sys, pathlib\n"
            "from repository_records import IMPLEMENTATIONS, an_event, a_plan, some_segments\n"
            "repository = IMPLEMENTATIONS[sys.argv[1]](pathlib.Path(sys.argv[2]))\n"
            "for number in range(1, 100_000):\n"
            "    with repository.transaction() as transaction:\n"
            "        transaction.add_plan(a_plan(str(number)), some_segments(50, str(number)))\n"
            "        sequence = transaction.append_event(an_event(str(number))).sequence\n"
            "    print(sequence, flush=True)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script, implementation, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout
            for _ in range(announced):
                assert child.stdout.readline()
            child.send_signal(signal.SIGKILL)
            last = announced + len([line for line in child.stdout if line.endswith("\n")])
        repository = IMPLEMENTATIONS[implementation](tmp_path)
        try:
            with repository.read() as reader:
                kept = [event.job_id for event in reader.list_events(1, 0, 999_999)]
                assert kept == [str(number) for number in range(1, len(kept) + 1)]
                assert last <= len(kept) <= last + 1
                assert sorted(reader.list_all_plan_ids()) == sorted(kept)
                assert all(len(reader.list_segments(plan)) == 50 for plan in kept)
        finally:
            repository.close()


def _put_and_get(transaction: Transaction, record: object) -> tuple[object, object]:
    """Keep a record; return it and what is found under its key."""
    match record:
        case Session():
            transaction.put_session(record)
            return record, transaction.get_session(record.session_id)
        case Video():
            transaction.put_video(record)
            return record, transaction.get_video(record.user_id, record.video_id)
        case Job():
            transaction.put_job(record)
            return record, transaction.get_job(record.job_id)
        case PlanRecord():
            transaction.add_plan(record, [])
            return record, transaction.get_plan(record.plan_id)
        case SegmentRecord():
            transaction.add_plan(a_plan(record.plan_id), [record])
            return record, transaction.list_segments(record.plan_id)[0]
        case Upload():
            transaction.put_upload(record)
            return record, transaction.get_upload(record.upload_id)
        case Artifact():
            transaction.put_artifact(record)
            return record, transaction.get_artifact(record.artifact_id)
        case Event():
            event = transaction.append_event(record)
            return event, transaction.list_events(record.user_id, 0, 1)[0]
        case Request():
            transaction.put_request(record)
            return record, transaction.get_request(record.user_id, record.method, record.request_id)
        case Tombstone():
            transaction.put_tombstone(record)
            return record, transaction.list_tombstones(1)[0]
        case Replica():
            transaction.put_replica(record)
            return record, transaction.list_replicas()[0]
    raise TypeError(record)
