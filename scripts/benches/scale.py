"""10,000 pending videos: what lists, ProcessVideo and the scheduler take, beside none and 1,000 of them.

Each number of videos has a data directory of its own. The manual gate is closed, so what is accepted stays queued: all the
videos are, by real calls, before anything is measured. ProcessVideo is measured in turn with a ping of a bare grpc.aio
service (in a process of its own, with the same messages) and an fsync of 4 KiB in the data directory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from benches.figures import goal, percentile, say, spread
from benches.many_videos import USER_ID, seed_videos, small_clip
from benches.passes import passes
from benches.ping import call_of, pinging
from benches.service import Service
from videoprocess.v1 import (
    hdi_enums_pb2,
    types_pb2,
    video_catalog_pb2,
    video_catalog_pb2_grpc,
    video_process_service_pb2,
    video_process_service_pb2_grpc,
    video_process_session_pb2_grpc,
)
from videoprocess.v1 import video_process_session_pb2 as session_pb2

NAME = "scale"
ACCEPT_EXTRA_SECONDS = 0.005
#: how much dearer one answer may be where nothing but the number of videos has changed
GROWTH_AT_MOST = 1.5
FSYNC_BYTES = 4096
PAGE = 100
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Stubs:
    """What is called: generated stubs, which have no types where the channel is asynchronous."""

    session: Any
    catalog: Any
    session_id: str


@dataclass(frozen=True)
class Sizes:
    """How many samples."""

    calls: int
    pages: int
    whole_lists: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--videos", type=int, nargs="+", default=[0, 1000, 10_000], help="queued already")
    parser.add_argument("--calls", type=int, default=500, help="ProcessVideo, ping, fsync and pass, each")
    parser.add_argument("--pages", type=int, default=200, help="pages of 100, each kind")
    parser.add_argument("--whole-lists", type=int, default=20, help="whole lists, each kind")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the samples by number of videos, and the goals of the largest."""
    media = folder / "media"
    media.mkdir()
    small_clip(media)
    sizes = Sizes(options.calls, options.pages, options.whole_lists)
    found = {
        count: _with_videos(count, folder / str(count), media, sizes) for count in sorted(options.videos)
    }
    return {"by_videos": {str(count): told for count, told in found.items()}, "goals": _goals(found)}


def _with_videos(count: int, folder: Path, media: Path, sizes: Sizes) -> dict[str, Any]:
    queued = [f"queued-{number:05d}" for number in range(count)]
    fresh = [f"fresh-{number:05d}" for number in range(sizes.calls)]
    seed_videos(folder, media, [*queued, *fresh])  # whole pages: the numbers are multiples of 100
    gates = folder / "data" / "gates"
    gates.mkdir(exist_ok=True)
    (gates / "manual").write_text("closed")
    say(f"{NAME}: {count} videos are seeded")
    limit = ("--max-queued-jobs", str(count + sizes.calls + 1))
    with Service(folder, media, *limit, "--log-level", "error") as service:
        told = asyncio.run(_measure(service, queued, fresh, sizes, folder))
    told["scheduler_pass_ms"] = spread(passes(service.data_dir, sizes.calls))
    say(f"{NAME}: {count} videos: accept p99 {told['accept_ms']['p99']} ms")
    return told


async def _measure(
    service: Service, queued: Sequence[str], fresh: Sequence[str], sizes: Sizes, folder: Path
) -> dict[str, Any]:
    resident = {"at_start": service.resident_bytes()}
    async with grpc.aio.insecure_channel(service.address, options=_LARGE_ANSWERS) as channel:
        stubs = await _open(channel)
        queueing = [await _timed(partial(_process, stubs, video_id)) for video_id in queued]
        resident["queued"] = service.resident_bytes()
        told = await _accepts(stubs, fresh, folder, service.data_dir)
        lists = await _lists(stubs, sizes)
        resident["after_lists"] = service.resident_bytes()
    if queueing:
        tenth = max(1, len(queueing) // 10)
        told["queueing_first_tenth_ms"] = spread(queueing[:tenth])
        told["queueing_last_tenth_ms"] = spread(queueing[-tenth:])
    return {
        **told,
        **lists,
        "resident_mebibytes": {when: round(size / MEBIBYTE, 1) for when, size in resident.items()},
    }


_LARGE_ANSWERS = (("grpc.max_receive_message_length", 64 * MEBIBYTE),)


async def _open(channel: grpc.aio.Channel) -> Stubs:
    service = video_process_service_pb2_grpc.VideoProcessServiceStub(channel)
    request = video_process_service_pb2.CreateVideoProcessSessionRequest(user_id=USER_ID)
    session_id = (await service.CreateVideoProcessSession(request)).session_id
    session = video_process_session_pb2_grpc.VideoProcessSessionServiceStub(channel)
    info = types_pb2.StreamInfo(stream_id=1, intent=hdi_enums_pb2.STREAM_INTENT_VIDEO)
    streams = [types_pb2.StreamInfoV11(v1_0=info)]
    await session.CreateStreams(session_pb2.CreateStreamsRequest(session_id=session_id, stream_infos=streams))
    await session.CommitStreams(session_pb2.CommitStreamsRequest(session_id=session_id))
    return Stubs(session, video_catalog_pb2_grpc.VideoCatalogServiceStub(channel), session_id)


def _request(stubs: Stubs, video_id: str) -> session_pb2.ProcessVideoRequest:
    return session_pb2.ProcessVideoRequest(
        session_id=stubs.session_id, video_id=video_id, timestamp_us=0, request_id=str(uuid.uuid4())
    )


async def _process(stubs: Stubs, video_id: str) -> Any:  # noqa: ANN401 - see Stubs
    return await stubs.session.ProcessVideo(_request(stubs, video_id))


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    begin = time.perf_counter()
    await call()
    return time.perf_counter() - begin


async def _accepts(stubs: Stubs, video_ids: Sequence[str], folder: Path, data_dir: Path) -> dict[str, Any]:
    """Measure ProcessVideo, ping and fsync in turn."""
    answer = await _process(stubs, video_ids[0])
    accept: list[float] = []
    ping: list[float] = []
    fsync: list[float] = []
    scratch = data_dir / "work" / "bench-fsync"
    scratch.parent.mkdir(exist_ok=True)
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with pinging(answer, folder) as address:
            async with grpc.aio.insecure_channel(address) as channel:
                bare = call_of(channel)
                await bare(_request(stubs, "warm-up"))
                for video_id in video_ids[1:]:
                    ping.append(await _timed(partial(bare, _request(stubs, video_id))))
                    fsync.append(_fsync(fd))
                    accept.append(await _timed(partial(_process, stubs, video_id)))
    finally:
        os.close(fd)
        scratch.unlink()
    bound = 2 * percentile(ping, 99) + ACCEPT_EXTRA_SECONDS + percentile(fsync, 99)
    return {
        "accept_ms": spread(accept),
        "bare_ping_ms": spread(ping),
        "fsync_ms": spread(fsync),
        "accept_p99_bound_ms": round(bound * 1000, 3),
    }


def _fsync(fd: int) -> float:
    os.write(fd, os.urandom(FSYNC_BYTES))
    begin = time.perf_counter()
    os.fsync(fd)
    return time.perf_counter() - begin


async def _lists(stubs: Stubs, sizes: Sizes) -> dict[str, Any]:
    pending_last, listed_last = await _last_pages(stubs)
    kinds: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
        "get_pending_first_page_ms": (lambda: _pending(stubs, PAGE), sizes.pages),
        "get_pending_last_page_ms": (lambda: _pending(stubs, PAGE, pending_last), sizes.pages),
        "get_pending_whole_ms": (lambda: _pending(stubs, 0), sizes.whole_lists),
        "list_videos_first_page_ms": (lambda: _listed(stubs, PAGE), sizes.pages),
        "list_videos_last_page_ms": (lambda: _listed(stubs, PAGE, listed_last), sizes.pages),
        "list_videos_whole_ms": (lambda: _list_all(stubs), max(1, sizes.whole_lists // 4)),
    }
    told: dict[str, Any] = {}
    for name, (call, count) in kinds.items():
        told[name] = spread([await _timed(call) for _ in range(count)])
    told["get_pending_whole_ids"] = len((await _pending(stubs, 0)).video_ids)
    told["list_videos_whole_videos"] = await _list_all(stubs)
    return told


async def _pending(stubs: Stubs, size: int, token: str = "") -> Any:  # noqa: ANN401 - see Stubs
    request = session_pb2.GetPendingVideosRequest(
        session_id=stubs.session_id, page_size=size, page_token=token
    )
    return await stubs.session.GetPendingVideos(request)


async def _listed(stubs: Stubs, size: int, token: str = "") -> Any:  # noqa: ANN401 - see Stubs
    request = video_catalog_pb2.ListVideosRequest(user_id=USER_ID, page_size=size, page_token=token)
    return await stubs.catalog.ListVideos(request)


async def _list_all(stubs: Stubs) -> int:
    """Read all pages, of the size that a client gets who asks for none; returns how many videos they had."""
    token, count = "", 0
    while True:
        page = await _listed(stubs, 0, token)
        token, count = page.next_page_token, count + len(page.videos)
        if not token:
            return count


async def _last_pages(stubs: Stubs) -> tuple[str, str]:
    """Return the tokens of the last page of 100 of each list; "" where the first is the last."""
    pending = listed = token = ""
    while token := (await _pending(stubs, PAGE, token)).next_page_token:
        pending = token
    while token := (await _listed(stubs, PAGE, token)).next_page_token:
        listed = token
    return pending, listed


def _goals(found: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the goals: the accept's bound everywhere; beside the smallest number of videos that has whole pages, no growth."""
    goals = {
        f"accept_p99_ms_with_{count}": goal(told["accept_ms"]["p99"], told["accept_p99_bound_ms"])
        for count, told in found.items()
    }
    small, large = min(found), max(found)
    if small == large:
        return goals
    for name in (
        "accept_ms",
        "scheduler_pass_ms",
        "get_pending_first_page_ms",
        "get_pending_last_page_ms",
        "list_videos_first_page_ms",
        "list_videos_last_page_ms",
    ):
        growth = found[large][name]["p50"] / found[small][name]["p50"]
        goals[f"{name.removesuffix('_ms')}_growth_{small}_to_{large}"] = goal(growth, GROWTH_AT_MOST)
    for name, count in (
        ("get_pending_whole", "get_pending_whole_ids"),
        ("list_videos_whole", "list_videos_whole_videos"),
    ):
        growth = (found[large][f"{name}_ms"]["p50"] / found[large][count]) / (
            found[small][f"{name}_ms"]["p50"] / found[small][count]
        )
        goals[f"{name}_growth_per_video_{small}_to_{large}"] = goal(growth, GROWTH_AT_MOST)
    return goals
