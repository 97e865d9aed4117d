"""What every repository says of the queue: who has work, and whose turn it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from repository_records import (  # noqa: F401 fixtures
    ONE_REPOSITORY,
    a_job,
    implementation_fixture,
    repository_fixture,
    undone,
)

from videoprocess_server.model.records import ActiveUser, Job, Priority, QueueClass
from videoprocess_server.model.states import JobState
from videoprocess_server.store.repository import Repository, Transaction


def queues() -> st.SearchStrategy[list[Job]]:
    """Jobs of few users, each of a video of its own; acceptance is in no relation to the ids."""
    job = st.builds(
        a_job,
        user_id=st.integers(1, 3),
        state=st.sampled_from([JobState.QUEUED] * 4 + list(JobState)),
        priority=st.sampled_from(Priority),
        queue_class=st.sampled_from(QueueClass),
    )
    jobs = st.lists(job, max_size=20)
    return st.tuples(jobs, st.randoms(use_true_random=False)).map(_told_apart)


def _told_apart(drawn: tuple[list[Job], Random]) -> list[Job]:
    jobs, random = drawn
    numbers = random.sample(range(1, 100), len(jobs))
    return [
        replace(job, job_id=f"j{index}", video_id=f"v{index}", accept_number=number)
        for index, (job, number) in enumerate(zip(jobs, numbers, strict=True))
    ]


def in_turn(jobs: list[Job]) -> list[Job]:
    """The order of the contract, put together as it is told: by turns, each split once more."""
    high = [job for job in jobs if job.priority is Priority.HIGH]
    normal = [job for job in jobs if job.priority is Priority.NORMAL]
    newest_first = sorted(high, key=lambda job: job.accept_number, reverse=True)
    oldest_first = sorted(normal, key=lambda job: job.accept_number)
    classes = (QueueClass.PAUSED, QueueClass.FRESH, QueueClass.FAILED)
    return [
        job
        for part in (newest_first, oldest_first)
        for kind in classes
        for job in part
        if job.queue_class is kind
    ]


def put(transaction: Transaction, jobs: list[Job]) -> None:
    for job in jobs:
        transaction.put_job(job)


class TestQueue:
    @given(jobs=queues(), limit=st.integers(0, 25))
    @ONE_REPOSITORY
    def test_the_head_of_a_users_queue_is_that_of_the_sorted_whole(
        self, repository: Repository, jobs: list[Job], limit: int
    ) -> None:
        with undone(repository) as transaction:
            put(transaction, jobs)
            for user_id in (1, 2, 3, 4):
                queued = [job for job in jobs if job.user_id == user_id and job.state is JobState.QUEUED]
                assert list(transaction.list_queue_head(user_id, limit)) == in_turn(queued)[:limit]

    @given(jobs=queues())
    @ONE_REPOSITORY
    def test_the_oldest_queued_is_the_one_accepted_first_whatever_its_priority(
        self, repository: Repository, jobs: list[Job]
    ) -> None:
        with undone(repository) as transaction:
            put(transaction, jobs)
            for user_id in (1, 2, 3, 4):
                queued = [job for job in jobs if job.user_id == user_id and job.state is JobState.QUEUED]
                oldest = min(queued, key=lambda job: job.accept_number, default=None)
                assert transaction.get_oldest_queued(user_id) == oldest

    @given(jobs=queues())
    @ONE_REPOSITORY
    def test_users_with_work_are_counted_and_running_jobs_listed(
        self, repository: Repository, jobs: list[Job]
    ) -> None:
        queued = Counter(job.user_id for job in jobs if job.state is JobState.QUEUED)
        running = Counter(job.user_id for job in jobs if job.state is JobState.RUNNING)
        with undone(repository) as transaction:
            put(transaction, jobs)
            assert list(transaction.list_active_users()) == [
                ActiveUser(user_id=user, queued_count=queued[user], running_count=running[user])
                for user in sorted(queued + running)
            ]
            assert list(transaction.list_running_jobs()) == sorted(
                (job for job in jobs if job.state is JobState.RUNNING), key=lambda job: job.accept_number
            )

    def test_the_turn_of_each_case_by_name(self, repository: Repository) -> None:
        """The law's order written out, so that a slip in the reference key shows."""
        cases = {
            "failed normal": (1, Priority.NORMAL, QueueClass.FAILED),
            "older normal": (2, Priority.NORMAL, QueueClass.FRESH),
            "newer normal": (3, Priority.NORMAL, QueueClass.FRESH),
            "paused normal": (4, Priority.NORMAL, QueueClass.PAUSED),
            "older high": (5, Priority.HIGH, QueueClass.FRESH),
            "newer high": (6, Priority.HIGH, QueueClass.FRESH),
            "failed high": (7, Priority.HIGH, QueueClass.FAILED),
            "paused high": (8, Priority.HIGH, QueueClass.PAUSED),
        }
        with repository.transaction() as transaction:
            for name, (number, priority, kind) in cases.items():
                job = a_job(name, video_id=name, accept_number=number, priority=priority, queue_class=kind)
                transaction.put_job(job)
        with repository.read() as reader:
            assert [job.job_id for job in reader.list_queue_head(1, 9)] == [
                "paused high",
                "newer high",
                "older high",
                "failed high",
                "paused normal",
                "older normal",
                "newer normal",
                "failed normal",
            ]

    def test_a_job_that_is_put_again_takes_its_new_place(self, repository: Repository) -> None:
        with repository.transaction() as transaction:
            put(
                transaction,
                [a_job("a", video_id="a", accept_number=1), a_job("b", video_id="b", accept_number=2)],
            )
            transaction.put_job(a_job("b", video_id="b", accept_number=3, priority=Priority.HIGH))
        with repository.transaction() as transaction:
            assert [job.job_id for job in transaction.list_queue_head(1, 9)] == ["b", "a"]
            transaction.put_job(a_job("b", video_id="b", accept_number=3, state=JobState.RUNNING))
        with repository.read() as reader:
            assert [job.job_id for job in reader.list_queue_head(1, 9)] == ["a"]
            assert [job.job_id for job in reader.list_running_jobs()] == ["b"]
