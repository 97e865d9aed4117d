"""How long a job waited, ran and stood aside."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.model.job_times import JobTimes, begun, ceased, times_of
from videoprocess_server.model.records import Job, Priority
from videoprocess_server.model.states import JobState

JOB = Job(
    job_id="j",
    user_id=1,
    video_id="v",
    session_id="s",
    state=JobState.QUEUED,
    priority=Priority.NORMAL,
    accept_number=1,
    create_time_us=1000,
)


def test_a_job_that_was_set_aside_once() -> None:
    job = begun(JOB, 1010)
    job = ceased(job, 1040)
    job = begun(job, 1100)
    assert JobTimes(waiting_us=10, running_us=50, paused_us=60) == times_of(job, 1120)
    job = replace(ceased(job, 1130), end_time_us=1130)
    assert JobTimes(waiting_us=10, running_us=60, paused_us=60) == times_of(job, 99_999)


def test_a_job_that_never_ran_only_waited() -> None:
    assert JobTimes(waiting_us=500, running_us=0, paused_us=0) == times_of(JOB, 1500)
    assert ceased(JOB, 1500) is JOB


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=12))
def test_the_three_add_up_to_its_life(steps_us: list[int]) -> None:
    job, now = JOB, JOB.create_time_us
    for number, step in enumerate(steps_us):
        now += step
        job = begun(job, now) if number % 2 == 0 else ceased(job, now)
    times = times_of(job, now + 7)
    assert now + 7 - JOB.create_time_us == times.waiting_us + times.running_us + times.paused_us


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_a_clock_that_is_set_back_makes_no_time_negative(first: int, second: int) -> None:
    times = times_of(ceased(begun(JOB, 1000 + first), 1000 + first + second), 1000)
    assert min(times.waiting_us, times.running_us, times.paused_us) >= 0
