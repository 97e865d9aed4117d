"""Subscribe: numbers without gaps, replay, filters; and what stops work: Interrupt, Reset, RemoveVideo."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from service_harness import PATIENCE_SECONDS, Api, refused
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import job_pb2 as job
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

CLIP = "rot90_iphone_3f.mov"
#: takes long, for it is denoised
LONG_CLIP = "flower_540p_5s.mp4"
#: takes a second or two: long enough to be stopped at once, short enough to be waited for
SHORTER_CLIP = "nasa_2video_2audio_2subs.mp4"


async def _take(api: Api, user_id: int, after: int, count: int, session_id: str = "") -> list[Any]:
    found: list[Any] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events(user_id, after, session_id):
            if event.sequence:
                found.append(event)
            if len(found) == count:
                break
    return found


async def test_numbers_have_no_gaps_and_replay_is_the_same(api: Api) -> None:
    user = 501
    session_id = await api.open_session(user)
    for _ in range(5):
        await api.process(session_id, "unknown")
    events = await _take(api, user, 0, 5)
    assert [1, 2, 3, 4, 5] == [event.sequence for event in events]
    assert events[2:] == await _take(api, user, 2, 3)


async def test_the_first_message_is_the_status(api: Api) -> None:
    async for event in api.events(502):
        assert event.HasField("on_status_changed")
        assert hdi.SESSION_STATUS_READY == event.on_status_changed.status
        break


async def test_a_number_that_was_never_given_is_out_of_range(api: Api) -> None:
    refusal = await refused(_take(api, 503, 7, 1))
    assert (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE") == (refusal.status, refusal.reason)


async def test_users_do_not_see_each_others_events(api: Api) -> None:
    for user in (504, 505):
        await api.process(await api.open_session(user), f"of {user}")
    assert ["of 505"] == [event.video_id for event in await _take(api, 505, 0, 1)]


async def test_a_subscription_of_a_closed_session_ends_after_its_kept_events(api: Api) -> None:
    user = 506
    mine, other = await api.open_session(user), await api.open_session(user)
    await api.process(mine, "a")
    await api.process(other, "b")
    await api.process(mine, "c")
    await api.service.CloseVideoProcessSession(service.CloseVideoProcessSessionRequest(session_id=mine))
    async with asyncio.timeout(PATIENCE_SECONDS):
        events = [event async for event in api.events(user, 0, mine) if event.sequence]
    assert ["a", "c"] == [event.video_id for event in events]


async def _run_long(api: Api, user: int, video_id: str, clip: str = LONG_CLIP) -> tuple[str, Any]:
    session_id = await api.open_session(user)
    await api.prepare_path(session_id, video_id, clip)
    await api.commit_video(session_id)
    accepted = await api.process(session_id, video_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events(user):
            if event.on_progress.progress.phase == job.JOB_PHASE_ENHANCE:
                return session_id, accepted
    raise AssertionError("no progress came")


async def test_interrupt_pauses_running_work_and_process_goes_on(api: Api) -> None:
    user = 511
    session_id, accepted = await _run_long(api, user, "paused", SHORTER_CLIP)
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
    event = await api.terminal(accepted, user)
    assert hdi.ERROR_CODE_ABORT == event.on_error.error_code
    assert video.VIDEO_STATE_PAUSED == (await api.video("paused", user)).state
    again = await api.process(session_id, "paused")
    assert again.job_id != accepted.job_id
    assert (await api.terminal(again, user)).HasField("on_process_done")


@pytest.mark.slow
async def test_interrupt_of_queued_work_is_one_abort_each(api: Api) -> None:
    user = 512
    session_id, first = await _run_long(api, user, "ahead")
    names = [f"queued {number}" for number in range(4)]
    accepted = []
    for name in names:
        await api.prepare_path(session_id, name, LONG_CLIP)
        accepted.append(await api.process(session_id, name))
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
    for answer in (first, *accepted):
        assert hdi.ERROR_CODE_ABORT == (await api.terminal(answer, user)).on_error.error_code
    states = {(await api.video(name, user)).state for name in ("ahead", *names)}
    assert {video.VIDEO_STATE_PAUSED} == states


@pytest.mark.slow
async def test_interrupt_by_name_leaves_the_rest_alone(api: Api) -> None:
    user = 513
    session_id, accepted = await _run_long(api, user, "goes on")
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id, video_ids=["another"]))
    assert video.VIDEO_STATE_RUNNING == (await api.video("goes on", user)).state
    other = await api.open_session(user)
    await api.session.Interrupt(session.InterruptRequest(session_id=other, video_ids=["goes on"]))
    assert hdi.ERROR_CODE_ABORT == (await api.terminal(accepted, user)).on_error.error_code


@pytest.mark.slow
async def test_reset_aborts_and_the_video_is_pending(api: Api) -> None:
    user = 514
    session_id, accepted = await _run_long(api, user, "reset")
    await api.session.Reset(session.ResetRequest(session_id=session_id))
    assert "RESET" == (await api.terminal(accepted, user)).on_error.reason
    assert video.VIDEO_STATE_PENDING == (await api.video("reset", user)).state
    event = await api.terminal(await api.process(session_id, "reset"), user)
    assert "NO_COMMITTED_STREAMS" == event.on_error.reason


async def test_remove_aborts_running_work_and_frees_the_id_at_once(api: Api) -> None:
    user = 515
    session_id, accepted = await _run_long(api, user, "removed")
    await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id="removed"))
    assert "REMOVED" == (await api.terminal(accepted, user)).on_error.reason
    assert grpc.StatusCode.NOT_FOUND == (await refused(api.video("removed", user))).status
    await api.prepare_path(session_id, "removed", CLIP)
    assert (await api.terminal(await api.process(session_id, "removed"), user)).HasField("on_process_done")


@pytest.mark.slow
async def test_processing_again_joins_repeats_or_is_refused(api: Api) -> None:
    """The same settings join running work; others are ALREADY_RUNNING; a kept result is told again at once."""
    user = 516
    session_id, accepted = await _run_long(api, user, "again", SHORTER_CLIP)
    assert accepted.job_id == (await api.process(session_id, "again")).job_id
    other = await api.open_session(user)
    await api.commit_video(other, width=640, height=360)
    refusal = await api.terminal(await api.process(other, "again"), user)
    assert "ALREADY_RUNNING" == refusal.on_error.reason
    done = await api.terminal(accepted, user)
    repeated = await api.process(session_id, "again")
    assert job.JOB_STATE_COMPLETED == repeated.job.state
    event = await api.terminal(repeated, user)
    assert done.on_process_done.report.artifacts == event.on_process_done.report.artifacts
    assert done.job_id != event.job_id


async def test_a_request_id_accepts_once(api: Api) -> None:
    user = 517
    session_id = await api.open_session(user)
    await api.prepare_path(session_id, "once", CLIP)
    await api.commit_video(session_id)
    request_id = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    first = await api.process(session_id, "once", request_id=request_id)
    await api.terminal(first, user)
    assert first.job_id == (await api.process(session_id, "once", request_id=request_id)).job_id
    assert 1 == len(await _take(api, user, 0, 1))


@pytest.mark.slow
async def test_another_source_is_a_conflict_while_the_video_runs_and_starts_anew_afterwards(api: Api) -> None:
    user = 518
    session_id, accepted = await _run_long(api, user, "source")
    refusal = await refused(api.prepare_path(session_id, "source", CLIP))
    assert (grpc.StatusCode.ABORTED, -8, "SOURCE_IN_USE") == (
        refusal.status,
        refusal.cam_ret_code,
        refusal.reason,
    )
    await api.prepare_path(session_id, "source", LONG_CLIP)
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
    await api.terminal(accepted, user)
    await api.prepare_path(session_id, "source", CLIP)
    assert video.VIDEO_STATE_PENDING == (await api.video("source", user)).state
