"""Fixed costs: what everybody pays once, however long the video is.

The start is measured from spawning the process to the first answer SERVING of `grpc.health.v1`, in a data directory that is new and in
one that has been used. From ProcessVideo on, the first OnProgress is measured and the first that tells enhanced frames; it comes
four times a second at most. Interrupt is measured to its answer and to the job's ABORT at a subscriber, while workers encode.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benches.clips import DOG, scaled
from benches.figures import say, spread
from benches.job_run import Desk, desk
from benches.service import Service
from videoprocess.v1.job_pb2 import JobPhase
from videoprocess_client import Client, ProgressChanged

NAME = "fixed"
WIDTH_4K, HEIGHT_4K, FRAMES_4K, GOP_FRAMES_4K = 3840, 2160, 60, 30
WIDTH, HEIGHT, FRAMES, GOP_FRAMES = 1280, 720, 90, 30
FLAGS = ("--segment-seconds", "1", "--longest-gop-seconds", "2")
CLIP_4K, CLIP = "4k.mp4", "720p.mp4"
#: between work that is stopped and the next measurement
REST_SECONDS = 0.3
#: after the first enhanced frame, so that workers are in the middle of segments
ENCODING_SECONDS = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--fixed-sessions", type=int, default=500, help="empty sessions, opened and closed")
    parser.add_argument("--fixed-prepares", type=int, default=100, help="of a 4K clip")
    parser.add_argument("--fixed-jobs", type=int, default=100, help="begun, and interrupted")
    parser.add_argument("--fixed-starts", type=int, default=20, help="of the service, of each kind")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the samples; there are no goals."""
    media = folder / "media"
    media.mkdir()
    scaled(
        DOG,
        media / CLIP_4K,
        width=WIDTH_4K,
        height=HEIGHT_4K,
        frames=FRAMES_4K,
        gop_frames=GOP_FRAMES_4K,
    )
    scaled(DOG, media / CLIP, width=WIDTH, height=HEIGHT, frames=FRAMES, gop_frames=GOP_FRAMES)
    with Service(folder / "calls", media, *FLAGS) as service:
        samples = asyncio.run(_calls(service, options))
    begin = time.monotonic()
    kinds: dict[str, Callable[[int], str]] = {
        "new": lambda number: f"new-{number}",
        "used": lambda _: "calls",
    }
    for kind, name in kinds.items():
        starts = [_start(folder / name(number), media) for number in range(options.fixed_starts)]
        samples[f"start_to_serving_{kind}_data_directory"] = starts
    say(f"{NAME}: starts took {time.monotonic() - begin:.1f} s")
    told = {f"{name}_ms": spread(taken) for name, taken in samples.items()}
    for name, figures in told.items():
        say(f"{NAME}: {name} p50 {figures['p50']}, p99 {figures['p99']}")
    return told


def table(told: Mapping[str, Any]) -> str:
    """Return Markdown of the samples.

    Args:
        told: what `run` returned.
    """
    rows = [
        f"| {name.removesuffix('_ms').replace('_', ' ')} | {figures['p50']} | {figures['p99']} | {figures['count']} |"
        for name, figures in told.items()
        if name.endswith("_ms")
    ]
    head = "\nFixed costs, in milliseconds:\n\n| what | median | p99 | samples |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


async def _calls(service: Service, options: argparse.Namespace) -> dict[str, list[float]]:
    async with desk(service) as client:

        async def empty_session() -> None:
            await client.client.close_session((await client.client.open_session()).session_id)

        samples = {"empty_session": [await _timed(empty_session) for _ in range(options.fixed_sessions)]}
        samples["prepare_4k"] = [
            await _prepare_4k(client, number) for number in range(options.fixed_prepares)
        ]
        firsts = Firsts()
        following = asyncio.create_task(firsts.follow(client.client))
        await firsts.listening.wait()
        jobs = [await _begun_and_interrupted(client, firsts, number) for number in range(options.fixed_jobs)]
        following.cancel()
    return samples | {name: [job[name] for job in jobs] for name in jobs[0]}


class Firsts:
    """When a subscriber first heard of jobs' progress, in monotonic seconds."""

    def __init__(self) -> None:
        #: set from the first thing on that a subscription tells: the status
        self.listening = asyncio.Event()
        self.progress: dict[str, float] = {}
        self.enhanced: dict[str, float] = {}

    async def follow(self, client: Client) -> None:
        """Listen, without end."""
        async with aclosing(client.subscribe()) as events:
            async for event in events:
                self.listening.set()
                if not isinstance(event, ProgressChanged):
                    continue
                now = time.monotonic()
                self.progress.setdefault(event.job_id, now)
                if event.progress.phase == JobPhase.JOB_PHASE_ENHANCE and event.progress.frames_done:
                    self.enhanced.setdefault(event.job_id, now)


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    begin = time.perf_counter()
    await call()
    return time.perf_counter() - begin


async def _prepare_4k(client: Desk, number: int) -> float:
    video_id = f"4k-{number}"
    seconds = await _timed(lambda: client.prepare(video_id, CLIP_4K))
    await client.session.remove(video_id)
    return seconds


async def _begun_and_interrupted(client: Desk, firsts: Firsts, number: int) -> dict[str, float]:
    """Run one job to its first frames, then interrupt it."""
    video_id = f"job-{number}"
    await client.prepare(video_id, CLIP)
    begin = time.monotonic()
    job_id = await client.process(video_id)
    accepted = time.monotonic()
    await client.watcher.reaches(job_id, 1)
    await asyncio.sleep(ENCODING_SECONDS)
    asked = time.monotonic()
    await client.session.interrupt()
    answered = time.monotonic()
    aborted = (await client.watcher.end_of(job_id)).monotonic_seconds
    await client.session.remove(video_id)
    await asyncio.sleep(REST_SECONDS)
    return {
        "process_accepted": accepted - begin,
        "first_progress": firsts.progress[job_id] - begin,
        "first_enhanced_frames": firsts.enhanced[job_id] - begin,
        "interrupt_answered": answered - asked,
        "interrupt_to_abort": aborted - asked,
    }


def _start(folder: Path, media: Path) -> float:
    """Start a service, wait until it says SERVING, and end it."""
    begin = time.monotonic()
    with Service(folder, media) as service:
        asyncio.run(_is_serving(service.address))
        return time.monotonic() - begin


async def _is_serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async for told in stub.Watch(health_pb2.HealthCheckRequest()):
            if told.status == health_pb2.HealthCheckResponse.SERVING:
                return
