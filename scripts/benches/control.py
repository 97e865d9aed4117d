"""Control calls while all cores encode: GetVideo beside a ping of a bare grpc.aio service, in turn.

A job of this mode keeps a worker on every core meanwhile; GetVideo asks for its own video, which is the dearest to tell. The
ping's service is a process of its own beside the same workers. Without work both are measured too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from benches.clips import DOG, repeated
from benches.figures import goal, percentile, say, spread
from benches.ping import call_of, pinging
from benches.service import ROOT_NAME, Service
from videoprocess.v1 import video_catalog_pb2, video_catalog_pb2_grpc
from videoprocess.v1.video_pb2 import VideoState
from videoprocess.v1.video_process_session_pb2 import ProcessVideoRequest, ProcessVideoResponse
from videoprocess_client import Client, ExecutionMode, Session, shared, stream

NAME = "control"
EXTRA_SECONDS = 0.005
#: between two pairs of calls: as clients call, not as fast as they can
PAUSE_SECONDS = 0.01
#: of the dog in a row: more than is encoded while the calls are made
ROUNDS = 30
#: not measured: the first calls open connections, the first segments start workers
WARM_UP_SECONDS = 3.0
IDLE = "IDLE"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument(
        "--control-calls", type=int, default=2000, help="GetVideo and ping, each, in each mode"
    )
    parser.add_argument(
        "--control-modes",
        nargs="+",
        choices=[mode.name for mode in ExecutionMode],
        default=[ExecutionMode.DEFAULT.name, ExecutionMode.HIGH_PERFORMANCE.name],
        help="of the session whose job encodes",
    )


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return how long both took, and the goals."""
    media = folder / "media"
    media.mkdir()
    clip = repeated(DOG, media / "clip.mp4", ROUNDS)
    workers = os.cpu_count() or 1
    with Service(folder, media, "--workers", str(workers)) as service:
        told = {
            mode: asyncio.run(_measure(service, clip.name, mode, options.control_calls, folder))
            for mode in (IDLE, *options.control_modes)
        }
    return {
        "clip": f"{DOG.name}, {ROUNDS} times",
        "workers": workers,
        "by_mode": told,
        "goals": {
            f"get_video_p99_ms_{mode.lower()}": goal(found["get_video_ms"]["p99"], found["p99_bound_ms"])
            for mode, found in told.items()
            if mode != IDLE
        },
    }


async def _measure(service: Service, clip_name: str, mode: str, calls: int, folder: Path) -> dict[str, Any]:
    execution_mode = ExecutionMode.DEFAULT if mode == IDLE else ExecutionMode[mode]
    async with Client(service.address) as client, client.session(execution_mode) as session:
        video_id = mode.lower()
        await session.prepare(video_id, shared(ROOT_NAME, clip_name))
        await session.create_streams([stream(1)])
        await session.commit_streams()
        answer = await _answer(client, session, video_id, encodes=mode != IDLE)
        cpu, begin = service.cpu_seconds(), time.monotonic()
        told = await _in_turn(service.address, answer, video_id, calls, folder)
        cores = (service.cpu_seconds() - cpu) / (time.monotonic() - begin)
        if mode != IDLE and (await client.get_video(video_id)).state != VideoState.VIDEO_STATE_RUNNING:
            raise SystemExit(f"{NAME}: the job ended before {calls} calls: ask for fewer")
        await session.remove(video_id)
    say(f"{NAME}: {mode}: {told}")
    return {**told, "cores_used": round(cores, 2)}


async def _answer(client: Client, session: Session, video_id: str, *, encodes: bool) -> ProcessVideoResponse:
    """Return what the ping answers with: as large as what GetVideo tells; the video is being encoded by then."""
    if encodes:
        await session.process(video_id)
        while not (video := await client.get_video(video_id)).job.progress.frames_done:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.sleep(WARM_UP_SECONDS)
    else:
        video = await client.get_video(video_id)
    return ProcessVideoResponse(video=video)


async def _in_turn(
    address: str, answer: ProcessVideoResponse, video_id: str, calls: int, folder: Path
) -> dict[str, Any]:
    get_video: list[float] = []
    ping: list[float] = []
    with pinging(answer, folder) as ping_address:
        async with (
            grpc.aio.insecure_channel(ping_address) as bare,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub: Any = video_catalog_pb2_grpc.VideoCatalogServiceStub(channel)
            request = video_catalog_pb2.GetVideoRequest(user_id=100, video_id=video_id)
            kinds: list[tuple[list[float], Callable[[], Awaitable[object]]]] = [
                (ping, partial(call_of(bare), ProcessVideoRequest(video_id=video_id))),
                (get_video, partial(stub.GetVideo, request)),
            ]
            for _, call in kinds:
                await call()
            for number in range(calls):
                for taken, call in kinds if number % 2 else reversed(kinds):
                    begin = time.perf_counter()
                    await call()
                    taken.append(time.perf_counter() - begin)
                await asyncio.sleep(PAUSE_SECONDS)
    bound = 2 * percentile(ping, 99) + EXTRA_SECONDS
    return {
        "get_video_ms": spread(get_video),
        "bare_ping_ms": spread(ping),
        "p99_bound_ms": round(bound * 1000, 3),
    }
