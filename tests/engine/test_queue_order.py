"""Which of a user's jobs is next. Numbers are the cases of the reference, its section 9."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, LIMITS, USER, Engine, outcome, running_engine, until
from engine.scripted_executor import Gate, ScriptedExecutor, fail, stall
from videoprocess_server.model.hdi import ErrorCode
from videoprocess_server.model.records import Priority, QueueClass
from videoprocess_server.model.scheduling import OVERTAKES
from videoprocess_server.model.states import JobState, VideoState
from videoprocess_server.model.tasks import PlanTask

HIGH, NORMAL = Priority.HIGH, Priority.NORMAL


class Queue:
    """A service that runs one job at a time. What is accepted waits behind a job of another video until `go`."""

    def __init__(self, engine: Engine, workers: ScriptedExecutor) -> None:
        self.engine = engine
        self._workers = workers
        self.session_id = engine.ready_session()
        self._gate = Gate()

    def block(self) -> None:
        """Run what is ahead of the queue: HIGH, so that nothing takes its place."""
        self.engine.prepare(self.session_id, "ahead")
        self._workers.will(PlanTask, self._gate)
        self.accept("ahead", HIGH)
        self._gate.wait()

    def accept(self, video_id: str, priority: Priority | None = None) -> str:
        """Queue a video; return the job's id."""
        if self.engine.video(video_id) is None:
            self.engine.prepare(self.session_id, video_id)
        return self.engine.process(self.session_id, video_id, priority=priority).job.job_id

    def accept_all(self, names: Sequence[str]) -> None:
        for name in names:
            self.accept(name)

    def pause(self, video_id: str) -> None:
        """Leave a video interrupted in its first segment."""
        gate = Gate()
        self._workers.will(0, gate)
        job_id = self.accept(video_id)
        gate.wait()
        self.engine.stops.interrupt(CALLER, self.session_id, [video_id])
        until(lambda: self.engine.job(job_id).state is JobState.ABORTED)
        gate.open()

    def fail(self, video_id: str) -> None:
        """Leave a video FAILED."""
        self._workers.will(PlanTask, stall)
        self.accept(video_id)
        until(lambda: self.engine.state(video_id) is VideoState.FAILED)

    def go(self) -> list[str]:
        """Let everything run and return in which order it did."""
        self._gate.open()
        until(lambda: not self._is_active())
        self.engine.idle()
        return [name for name in self.engine.done_videos() if name != "ahead"]

    def _is_active(self) -> bool:
        with self.engine.repository.read() as reader:
            return reader.count_active_jobs() > 0


@pytest.fixture(name="queue")
def _queue(folder: Path, workers: ScriptedExecutor) -> Iterator[Queue]:
    with running_engine(folder, workers, limits=replace(LIMITS, max_running_jobs=1)) as engine:
        yield Queue(engine, workers)


def test_cases_36_37_39_normal_jobs_run_in_order_of_acceptance(queue: Queue) -> None:
    queue.block()
    queue.accept_all("ABC")
    assert queue.go() == ["A", "B", "C"]


def test_case_38_what_is_removed_is_not_run_and_the_others_keep_their_order(queue: Queue) -> None:
    queue.block()
    queue.accept_all("ABCDE")
    for name in "CAD":
        queue.engine.removals.remove(CALLER, queue.session_id, name, restorable=False)
    assert queue.go() == ["B", "E"]


def test_case_40_the_newest_high_job_is_next(queue: Queue) -> None:
    queue.block()
    queue.accept_all("ABCD")
    queue.accept("B", HIGH)
    queue.accept("D", HIGH)
    assert queue.go() == ["D", "B", "A", "C"]


def test_case_40_asking_for_high_again_makes_a_job_the_newest(queue: Queue) -> None:
    queue.block()
    for name in "AB":
        queue.accept(name, HIGH)
    queue.accept("A", HIGH)
    assert queue.go() == ["A", "B"]


def test_case_41_what_was_high_is_the_last_of_the_normal_ones(queue: Queue) -> None:
    queue.block()
    queue.accept_all("ABCD")
    queue.accept("B", HIGH)
    queue.accept("B", NORMAL)
    assert queue.go() == ["A", "C", "D", "B"]


def test_case_42_what_failed_comes_after_what_is_fresh(queue: Queue) -> None:
    queue.fail("D")
    queue.block()
    queue.accept_all("DABC")
    assert queue.go() == ["A", "B", "C", "D"]


def test_case_43_what_is_in_error_does_not_run_before_it_is_prepared(
    queue: Queue, workers: ScriptedExecutor
) -> None:
    workers.will(PlanTask, fail("DECODE_FAILED"))
    queue.accept("A")
    until(lambda: queue.engine.state("A") is VideoState.ERROR)
    queue.block()
    queue.accept_all("BAC")
    assert queue.go() == ["B", "C"]
    assert outcome(queue.engine.events()[1]) == (ErrorCode.PROCESS, "NEEDS_PREPARE")


def test_case_44_high_is_before_normal_and_of_each_paused_before_fresh_before_failed(queue: Queue) -> None:
    for name in ("paused", "paused high"):
        queue.pause(name)
    for name in ("failed", "failed high"):
        queue.fail(name)
    queue.block()
    queue.accept_all(["failed", "fresh", "paused", "fresher"])
    for name in ("failed high", "high", "paused high", "newer high"):
        queue.accept(name, HIGH)
    assert queue.go() == [
        "paused high",
        "newer high",
        "high",
        "failed high",
        "paused",
        "fresh",
        "fresher",
        "failed",
    ]


def test_case_44_what_runs_or_has_ended_is_not_in_the_queue(queue: Queue) -> None:
    queue.block()
    queue.accept_all("AB")
    with queue.engine.repository.read() as reader:
        assert [job.video_id for job in reader.list_queue_head(USER, 10)] == ["A", "B"]
    queue.go()
    with queue.engine.repository.read() as reader:
        assert not reader.list_queue_head(USER, 10)


def test_case_57_processing_a_queued_video_with_high_raises_it(queue: Queue) -> None:
    queue.block()
    job_id = queue.accept("A")
    assert queue.accept("A", HIGH) == job_id
    assert queue.engine.job(job_id).priority is HIGH
    queue.go()
    assert [event.job_id for event in queue.engine.events()][1:] == [job_id]


def test_case_57_processing_a_failed_video_queues_it_again(queue: Queue) -> None:
    queue.fail("A")
    queue.block()
    job = queue.engine.job(queue.accept("A"))
    assert (job.state, job.queue_class) == (JobState.QUEUED, QueueClass.FAILED)
    assert queue.engine.state("A") is VideoState.QUEUED
    assert queue.go() == ["A"]


def test_case_58_processing_with_normal_lowers_a_job_without_an_event(queue: Queue) -> None:
    queue.block()
    job_id = queue.accept("A", HIGH)
    assert queue.accept("A", NORMAL) == job_id
    assert queue.engine.job(job_id).priority is NORMAL
    assert not queue.engine.events()
    assert queue.go() == ["A"]


def test_joining_without_a_priority_leaves_the_jobs_own(queue: Queue) -> None:
    queue.block()
    job_id = queue.accept("A", HIGH)
    before = queue.engine.job(job_id)
    assert queue.accept("A") == job_id
    assert queue.engine.job(job_id) == before
    assert queue.go() == ["A"]


@pytest.mark.slow
def test_no_stream_of_high_jobs_starves_a_normal_one(queue: Queue) -> None:
    queue.block()
    queue.accept("normal")
    for number in range(2 * OVERTAKES):
        queue.accept(f"high {number}", HIGH)
    order = queue.go()
    assert order.index("normal") <= OVERTAKES
    assert len(order) == 2 * OVERTAKES + 1


@pytest.mark.slow
def test_no_stream_of_new_high_jobs_starves_the_first_high_one(queue: Queue) -> None:
    """The newest comes first, so that the oldest has its turn only because somebody counts."""
    queue.block()
    for number in range(2 * OVERTAKES):
        queue.accept(f"high {number}", HIGH)
    order = queue.go()
    assert order.index("high 0") <= OVERTAKES
