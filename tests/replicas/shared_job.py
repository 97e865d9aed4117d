"""A job of several replicas: begun by an upload to one, hit in its middle, held against what an embedded service makes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicas.replica_set import ReplicaSet
from replicas.shared_rows import Segment
from service_harness import PATIENCE_SECONDS, Api, Server, assert_each_ends_once, connect
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_process_session_pb2 as session

#: of a service, for a clip with a key frame every half second
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1")
VIDEO_ID = "v"
POLL_SECONDS = 0.01
#: after which the middle begins
SEGMENTS_BEFORE = 3


@dataclass(frozen=True)
class Order:
    """What a client wants."""

    clip: Path
    setting: mode.ModeSetting | None = None


@dataclass(frozen=True)
class Accepted:
    """An order that a service has taken."""

    session_id: str
    #: the answer to ProcessVideo
    answer: Any


@dataclass(frozen=True)
class Middle(Accepted):
    """One in the middle of its segments."""

    driving: Server
    other: Server


@dataclass(frozen=True)
class Hit(Middle):
    """One that something happened to there."""

    #: what was open then
    segments: Collection[Segment]


async def begin(api: Api, order: Order) -> Accepted:
    """Upload the clip and have it processed."""
    uploaded = await api.upload(order.clip.read_bytes(), file_name=order.clip.name)
    session_id = await api.open_session()
    file = types.FileDescriptor(upload_id=uploaded.upload_id)
    await api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id=VIDEO_ID, fds=[file]))
    await api.commit_video(session_id)
    if order.setting is not None:
        request = session.CommitStreamsRequest(session_id=session_id, typed=order.setting)
        await api.session.CommitStreams(request)
    return Accepted(session_id, await api.process(session_id, VIDEO_ID))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


async def in_the_middle(replicas: ReplicaSet, order: Order) -> Middle:
    """Begin a job and wait until some of its segments are finished."""
    async with connect(replicas.servers[0]) as api:
        accepted = await begin(api, order)
    await until(lambda: len(replicas.rows.segments("done")) >= SEGMENTS_BEFORE)
    driving = replicas.driver_of(accepted.answer.job_id)
    return Middle(accepted.session_id, accepted.answer, driving, replicas.other_than(driving))


async def hit_in_the_middle(replicas: ReplicaSet, order: Order, hit: Callable[[], None]) -> Hit:
    """Begin a job, and do this in the middle of its segments, while no replica does anything."""
    job = await in_the_middle(replicas, order)
    with replicas.held():
        segments = replicas.rows.segments("leased")
        hit()
    return Hit(job.session_id, job.answer, job.driving, job.other, segments)


async def result_sha256(api: Api, answer: Any) -> str:
    """Wait for a job's video, and fetch it."""
    event = await api.terminal(answer)
    assert event.HasField("on_process_done"), event
    data = await api.download(event.on_process_done.report.artifacts[0].artifact_id)
    return hashlib.sha256(data).hexdigest()


def embedded_sha256(folder: Path, order: Order) -> str:
    """What a service that is alone makes of it, with SQLite, local files and local workers."""

    async def made(server: Server) -> str:
        async with connect(server) as api:
            return await result_sha256(api, (await begin(api, order)).answer)

    with Server(folder / "data", *FLAGS, "--workers", "2") as server:
        return asyncio.run(made(server))


async def assert_ends_once(server: Server, answers: list[Any], expected: str) -> None:
    """The last of these jobs makes the expected bytes; each has one terminal event, and numbers have no gap."""
    async with connect(server) as api:
        assert await result_sha256(api, answers[-1]) == expected
        await assert_each_ends_once(api, answers)


def assert_little_was_made_twice(replicas: ReplicaSet, hit: Collection[Segment] = ()) -> None:
    """No more segments were begun once more than a hit found open."""
    again = {segment: count - 1 for segment, count in replicas.rows.attempts().items() if count > 1}
    assert sum(again.values()) <= len(hit), (again, hit)


async def assert_a_hit_cost_no_byte(replicas: ReplicaSet, job: Hit, expected: str) -> None:
    """It has the expected end, and of its segments those are made twice at most that were open."""
    await assert_ends_once(job.other, [job.answer], expected)
    assert_little_was_made_twice(replicas, job.segments)
