"""Two service programs over one PostgreSQL and one S3: whichever dies, the other goes on to the bytes of an embedded service."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import aclosing

import pytest

from replicas.replica_set import ReplicaSet
from replicas.shared_job import (
    VIDEO_ID,
    Order,
    assert_ends_once,
    assert_little_was_made_twice,
    in_the_middle,
    result_sha256,
    until,
)
from service_harness import PATIENCE_SECONDS, Api, connect
from videoprocess.v1 import video_process_session_pb2 as session

pytestmark = pytest.mark.scale

#: four times the contract's bound at p99, and several tries: a machine that others use gets more. Who heard nothing would look later
ABORT_SECONDS = 2.0
INTERRUPTS = 4


async def test_when_the_driving_one_dies_the_other_goes_on(
    replicas: ReplicaSet, dog: Order, embedded_dog: str
) -> None:
    job = await in_the_middle(replicas, dog)
    job.driving.kill()
    await until(lambda: not replicas.rows.is_changing())
    hit = replicas.rows.segments("leased")
    await assert_ends_once(job.other, [job.answer], embedded_dog)
    assert_little_was_made_twice(replicas, hit)


async def test_when_both_die_the_one_that_starts_again_goes_on(
    replicas: ReplicaSet, dog: Order, embedded_dog: str
) -> None:
    job = await in_the_middle(replicas, dog)
    job.driving.kill()
    job.other.kill()
    await until(lambda: not replicas.rows.is_changing())
    hit = replicas.rows.segments("leased")
    job.other.start()
    await assert_ends_once(job.other, [job.answer], embedded_dog)
    assert_little_was_made_twice(replicas, hit)


async def test_when_the_driving_one_is_frozen_the_other_goes_on_and_what_is_thawed_changes_nothing(
    local: ReplicaSet, dog: Order, embedded_dog: str
) -> None:
    """As a virtual machine that is paused: its workers go on meanwhile, and it does not know that its lease is over."""
    job = await in_the_middle(local, dog)
    with local.held():
        hit = local.rows.segments("leased")
        job.other.signal(signal.SIGCONT)
        await assert_ends_once(job.other, [job.answer], embedded_dog)
    async with connect(job.driving) as api:
        again = await api.process(job.session_id, VIDEO_ID)
        assert await result_sha256(api, again) == embedded_dog
    assert_little_was_made_twice(local, hit)
    assert "driver_broke" not in job.driving.log_path.read_text()


async def test_whose_replica_dies_follows_on_another(
    replicas: ReplicaSet, dog: Order, embedded_dog: str
) -> None:
    """Progress comes from the replica that does not drive, too."""
    job = await in_the_middle(replicas, dog)
    async with connect(job.other) as api:
        await _progress(api, job.answer.job_id)
        job.other.kill()
    async with connect(job.driving) as api:
        await _progress(api, job.answer.job_id)
    await assert_ends_once(job.driving, [job.answer], embedded_dog)
    assert_little_was_made_twice(replicas)


async def _progress(api: Api, job_id: str) -> None:
    """Wait until a replica tells how far a job is."""
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(api.events(after_sequence=0)) as events:
        async for event in events:
            if event.job_id == job_id:
                assert event.HasField("on_progress"), "the job has ended already"
                return


async def test_an_interrupt_reaches_the_driving_one_in_time(
    replicas: ReplicaSet, dog: Order, embedded_dog: str
) -> None:
    """Session, events and job are used at the one that does not drive; whichever goes on makes the same bytes."""
    job = await in_the_middle(replicas, dog)
    answers, taken = [job.answer], []
    for _ in range(INTERRUPTS):
        # The job may be queued still: what was begun for the one before it may be noted after that one's end.
        job_id = answers[-1].job_id
        await until(lambda job_id=job_id: replicas.rows.replica_of(job_id) is not None)  # type: ignore[misc]
        driving = replicas.driver_of(job_id)
        done = len(replicas.rows.segments("done"))
        async with connect(replicas.other_than(driving)) as api:
            ended = asyncio.create_task(api.terminal(answers[-1]))
            await _progress(api, job_id)
            begin = time.monotonic()
            await api.session.Interrupt(session.InterruptRequest(session_id=job.session_id))
            assert (await ended).on_error.reason == "INTERRUPTED"
            taken.append(time.monotonic() - begin)
            answers.append(await api.process(job.session_id, VIDEO_ID))
        await until(lambda done=done: len(replicas.rows.segments("done")) > done)  # type: ignore[misc]
    print(f"interrupt: {[round(seconds, 3) for seconds in taken]} s")
    assert min(taken) < ABORT_SECONDS
    await assert_ends_once(job.other, answers, embedded_dog)


async def test_an_interrupted_job_goes_on_at_the_other_when_its_replica_dies(
    replicas: ReplicaSet, dog: Order, embedded_dog: str
) -> None:
    job = await in_the_middle(replicas, dog)
    async with connect(job.other) as api:
        await api.session.Interrupt(session.InterruptRequest(session_id=job.session_id))
        assert (await api.terminal(job.answer)).on_error.reason == "INTERRUPTED"
        hit = replicas.rows.segments("leased")
        job.driving.kill()
        again = await api.process(job.session_id, VIDEO_ID)
    await assert_ends_once(job.other, [job.answer, again], embedded_dog)
    assert_little_was_made_twice(replicas, hit)
