from __future__ import annotations

import asyncio
from contextlib import aclosing

import grpc
import pytest
from fake_service import FakeService, Refusal, State, busy, cut

from videoprocess.v1 import job_pb2, video_pb2
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess_client import (
    Client,
    Event,
    JobAborted,
    JobFailed,
    OutOfRange,
    ProcessDone,
    ProcessError,
    ProgressChanged,
    StatusChanged,
    stream,
)


def error_event(video_id: str = "v") -> dict[str, object]:
    return {"video_id": video_id, "on_error": callback.OnError(error_code=1, reason="DECODE_FAILED")}


async def numbered(client: Client, count: int, after_sequence: int | None = 0) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(5), aclosing(client.subscribe(after_sequence)) as events:
        async for event in events:
            if event.sequence:
                seen.append(event.sequence)
            if len(seen) == count:
                break
    return seen


async def test_events_are_typed(client: Client, state: State) -> None:
    progress = callback.OnProgress(progress=job_pb2.JobProgress(percent=50))
    state.publish(video_id="v", job_id="j", session_id="s", on_progress=progress)
    state.publish(**error_event())
    state.publish(on_process_done=callback.OnProcessDone())
    seen: list[Event] = []
    async with aclosing(client.subscribe(0)) as events:
        async for event in events:
            seen.append(event)
            if isinstance(event, ProcessDone):
                break
    assert [StatusChanged, ProgressChanged, ProcessError, ProcessDone] == [type(event) for event in seen]
    assert (seen[1].video_id, seen[1].job_id, seen[1].session_id) == ("v", "j", "s")


async def test_a_subscription_comes_back_without_loss_or_repetition(client: Client, state: State) -> None:
    for _ in range(6):
        state.publish(**error_event())
    slow = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "SUBSCRIBER_TOO_SLOW", cam_ret_code=-2)
    state.faults = {"Subscribe event": [cut(), busy(), slow]}
    assert await numbered(client, 6) == [1, 2, 3, 4, 5, 6]
    assert state.calls == ["Subscribe"] * 4


async def test_a_live_subscription_misses_nothing_of_a_restart(
    client: Client, fake: FakeService, state: State
) -> None:
    state.publish(**error_event())
    waiting = asyncio.create_task(numbered(client, 2, None))
    await state.until_called("Subscribe", times=2)
    await fake.stop()
    state.publish(**error_event())
    state.publish(**error_event())
    again = await FakeService(state).start(fake.port)
    assert await waiting == [2, 3]
    await again.stop()


async def test_a_number_that_is_not_there_is_told(client: Client) -> None:
    with pytest.raises(OutOfRange) as caught:
        await numbered(client, 1, after_sequence=7)
    assert caught.value.metadata == {"oldest_sequence": "1", "newest_sequence": "0"}


@pytest.mark.parametrize(("code", "kind"), [(1, JobFailed), (5, JobAborted)])
async def test_a_failed_job_is_raised_with_its_reason(
    client: Client, state: State, code: int, kind: type[JobFailed]
) -> None:
    state.work = lambda state, job_id: state.fail(job_id, code, "SOME_REASON")
    async with client.session() as session:
        await session.prepare("v")
        await session.create_streams([stream(0)])
        await session.commit_streams()
        job = await session.process("v")
        with pytest.raises(JobFailed) as caught:
            await job.wait()
    assert kind is type(caught.value)
    assert (code, "SOME_REASON", "v", job.job_id) == (
        caught.value.error_code,
        caught.value.reason,
        caught.value.video_id,
        caught.value.job_id,
    )


async def test_a_job_whose_event_is_not_kept_any_more_is_known_from_its_video(
    client: Client, state: State
) -> None:
    gone = Refusal(
        grpc.StatusCode.OUT_OF_RANGE,
        "SEQUENCE_OUT_OF_RANGE",
        metadata={"oldest_sequence": "9", "newest_sequence": "9"},
    )
    async with client.session() as session:
        await session.prepare("v")
        await session.commit_streams()
        state.fail_next("Subscribe", gone)
        job = await session.process("v")
        video = state.videos["v"]
        video.job.state = job_pb2.JOB_STATE_COMPLETED
        video.report.fingerprint = "f"
        assert (await job.wait()).report.fingerprint == "f"


async def test_pages_are_followed(client: Client, state: State) -> None:
    state.videos = {f"v{n}": video_pb2.Video(video_id=f"v{n}") for n in range(5)}
    assert [f"v{n}" for n in range(5)] == [video.video_id async for video in client.list_videos()]
    async with client.session() as session:
        assert [f"v{n}" for n in range(5)] == [video_id async for video_id in session.get_pending()]
