"""The reference's black-box cases that only a whole service can show. All cases, and their tests: docs/reference-cases.md."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from media_factory import make_clip
from rpc.odd_texts import ODD_IDS, random_id
from service_harness import PATIENCE_SECONDS, USER, Api, Server, connect, refused
from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import job_pb2 as job
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_session_pb2 as session

SHORT, LONG = "short.mp4", "long.mp4"
SEED = 109


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cases")
    media = folder / "media"
    media.mkdir()
    make_clip(media / SHORT, frames=3, width=64, height=48)
    make_clip(media / LONG, frames=150)
    flags = ("--shared-root", f"media={media}", "--workers", "1", "--segment-seconds", "0.5")
    with Server(folder / "data", *flags, "--longest-gop-seconds", "0.5") as server:
        yield server


@pytest.fixture(name="api")
async def _api(server: Server) -> AsyncIterator[Api]:
    async with connect(server) as api:
        yield api


async def _ready(api: Api, user: int, video_id: str, clip: str = SHORT) -> str:
    session_id = await api.open_session(user)
    await api.commit_video(session_id)
    await api.prepare_path(session_id, video_id, clip)
    return session_id


async def _running(api: Api, user: int, video_id: str) -> tuple[str, Any]:
    """Have a video encoded, and return while it is."""
    session_id = await _ready(api, user, video_id, LONG)
    accepted = await api.process(session_id, video_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events(user):
            if event.on_progress.progress.phase == job.JOB_PHASE_ENHANCE:
                return session_id, accepted
    raise AssertionError("no progress came")


async def _terminal_events(api: Api, user: int, count: int) -> list[Any]:
    """Return the user's events; another that comes after them ends the wait, so that one too many would be seen."""
    last = await api.process(await api.open_session(user), "nobody")
    found = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events(user, 0):
            found += [event] if event.sequence else []
            if event.job_id == last.job_id:
                break
    assert len(found) == count + 1
    return found[:-1]


async def _listed(api: Api, user: int, *states: video.VideoState) -> list[video.Video]:
    answer = await api.catalog.ListVideos(catalog.ListVideosRequest(user_id=user, states=states))
    return list(answer.videos)


async def test_case_12_a_finished_job_is_told_once_with_the_map_and_the_report(api: Api) -> None:
    user = 12
    session_id = await _ready(api, user, "v")
    accepted = await api.process(session_id, "v")
    await api.terminal(accepted, user)
    (event,) = await _terminal_events(api, user, 1)
    assert (event.job_id, event.video_id) == (accepted.job_id, "v")
    assert event.on_process_done.HasField("meta_data")
    assert event.on_process_done.report.frames.encoded == 3


async def test_case_13_interrupt_is_answered_at_once_and_ends_the_job_once(api: Api) -> None:
    user = 13
    session_id, accepted = await _running(api, user, "v")
    for _ in range(2):
        answer = await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
        assert list(answer.job_ids) in ([accepted.job_id], [])
    await api.terminal(accepted, user)
    (event,) = await _terminal_events(api, user, 1)
    assert event.on_error.error_code == hdi.ERROR_CODE_ABORT
    assert (await api.video("v", user)).state == video.VIDEO_STATE_PAUSED


async def test_case_46_the_same_file_twice_is_the_same_answer(api: Api) -> None:
    session_id = await _ready(api, 46, "v")
    first, again = [await api.prepare_path(session_id, "v", SHORT) for _ in range(2)]
    assert first == again


async def test_case_48_a_video_is_there_once_however_often_it_is_prepared(api: Api) -> None:
    user = 48
    session_id = await _ready(api, user, "v")
    await asyncio.gather(*(api.prepare_path(session_id, "v", SHORT) for _ in range(4)))
    assert [found.video_id for found in await _listed(api, user)] == ["v"]
    assert (await refused(api.video("another", user))).reason == "UNKNOWN_VIDEO"


async def test_cases_49_51_53_calls_on_an_unknown_id_change_nothing(api: Api) -> None:
    user = 49
    session_id, accepted = await _running(api, user, "runs")
    await api.prepare_path(session_id, "waits", SHORT)
    unknown = await api.process(session_id, "unknown", priority=job.PRIORITY_HIGH)
    assert (await api.terminal(unknown, user)).on_error.error_code == hdi.ERROR_CODE_INVALID_ID
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id, video_ids=["unknown"]))
    for restorable in (True, False):
        request = session.RemoveVideoRequest(session_id=session_id, video_id="unknown", restorable=restorable)
        await api.session.RemoveVideo(request)
    await refused(api.catalog.RestoreVideo(catalog.RestoreVideoRequest(user_id=user, video_id="unknown")))
    states = {found.video_id: found.state for found in await _listed(api, user)}
    assert states.pop("runs") in (video.VIDEO_STATE_RUNNING, video.VIDEO_STATE_COMPLETED)
    assert states == {"waits": video.VIDEO_STATE_PENDING}
    assert (await api.terminal(accepted, user)).HasField("on_process_done")


async def test_cases_54_59_68_what_runs_is_listed_as_running_until_it_has_ended(api: Api) -> None:
    user = 59
    _, accepted = await _running(api, user, "v")
    (found,) = await _listed(api, user, video.VIDEO_STATE_RUNNING)
    assert (found.video_id, found.job.job_id) == ("v", accepted.job_id)
    await api.terminal(accepted, user)
    assert not await _listed(api, user, video.VIDEO_STATE_RUNNING)
    (found,) = await _listed(api, user, video.VIDEO_STATE_COMPLETED)
    assert found.job.state == job.JOB_STATE_COMPLETED


async def test_cases_84_to_86_synchronising_is_a_diff_of_what_is_listed(api: Api) -> None:
    """The caller has b, c and d; the service a, b and c. No window is open meanwhile in which calls are lost."""
    user = 86
    session_id = await api.open_session(user)
    for name in "abc":
        await api.prepare_path(session_id, name, SHORT)
    wanted = {"b", "c", "d"}
    there = {found.video_id for found in await _listed(api, user)}
    for name in there - wanted:
        await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id=name))
    for name in wanted - there:
        await api.prepare_path(session_id, name, SHORT)
    pending = await api.session.GetPendingVideos(session.GetPendingVideosRequest(session_id=session_id))
    assert list(pending.video_ids) == ["b", "c", "d"]


def _names() -> list[str]:
    rng = random.Random(SEED)
    return [*rng.sample(ODD_IDS, 8), "\0", "x" * 256, *(random_id(rng) for _ in range(3))]


@pytest.mark.slow
async def test_case_109_any_text_of_1_to_256_bytes_names_a_video(api: Api) -> None:
    user = 109
    session_id = await api.open_session(user)
    await api.commit_video(session_id)
    for name in dict.fromkeys(_names()):
        await api.prepare_path(session_id, name, SHORT)
        event = await api.terminal(await api.process(session_id, name), user)
        assert (event.video_id, event.HasField("on_process_done")) == (name, True)
        assert (await api.video(name, user)).video_id == name
        (artifact,) = event.on_process_done.report.artifacts
        assert len(await api.download(artifact.artifact_id, user)) == artifact.size_bytes
        listed = catalog.ListVideosRequest(user_id=user, video_id_prefix=name)
        assert name in [found.video_id for found in (await api.catalog.ListVideos(listed)).videos]
        await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id=name))
        assert (await refused(api.video(name, user))).reason == "UNKNOWN_VIDEO"


#: width, height, time stamp in microseconds, and the slip that ends the job; None where it is done
ASKED: tuple[tuple[int, int, int, str | None], ...] = (
    (0, 0, 0, None),
    (1, 1, 0, "SIZE_NOT_SUPPORTED"),
    (0, 0, 66_000, None),
    (32, 96, 33_333, None),
    (8960, 2, 0, None),
    (0, 47, 0, "SIZE_NOT_SUPPORTED"),
    (63, 0, 0, "SIZE_NOT_SUPPORTED"),
    (2**31 - 1, 2**31 - 1, 0, "SIZE_NOT_SUPPORTED"),
    (0, 0, 10**7, "TIMESTAMP_BEYOND_END"),
    (0, 0, 2**64 - 1, "TIMESTAMP_BEYOND_END"),
)


@pytest.mark.parametrize(("width", "height", "timestamp_us", "reason"), ASKED)
async def test_case_111_any_size_and_any_time_stamp_is_made_or_a_slip(
    api: Api, width: int, height: int, timestamp_us: int, reason: str | None
) -> None:
    session_id = await api.open_session()
    await api.commit_video(session_id, width=width, height=height)
    name = f"{width} x {height} from {timestamp_us}"
    await api.prepare_path(session_id, name, SHORT)
    event = await api.terminal(await api.process(session_id, name, timestamp_us), USER)
    assert (event.on_error.reason or None) == reason
    assert (await api.video(name)).state == (
        video.VIDEO_STATE_PENDING if reason else video.VIDEO_STATE_COMPLETED
    )
