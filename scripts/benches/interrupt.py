"""G3: from Interrupt to its ABORT at a client, and what the service and its workers use in the second after it.

A 1080p job is interrupted at random moments of every phase, goes on, is interrupted again; a job that ends is followed by
another. Which phase an Interrupt hit, the aborted job tells.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benches.clips import DOG, scaled
from benches.figures import goal, percentile, say, spread
from benches.job_run import Desk, desk, result_sha256
from benches.service import Service
from videoprocess.v1.job_pb2 import JobPhase

NAME = "interrupt"
WIDTH, HEIGHT = 1920, 1080
#: three segments
FRAMES, GOP_FRAMES = 60, 20
FLAGS = ("--segment-seconds", "0.6", "--longest-gop-seconds", "2")
GOAL_ABORT_SECONDS = 0.5
GOAL_CORES = 0.05
POLL_SECONDS = 0.005

ANALYZE, PLAN, ENHANCE = JobPhase.JOB_PHASE_ANALYZE, JobPhase.JOB_PHASE_PLAN, JobPhase.JOB_PHASE_ENHANCE
JOIN, VERIFY = JobPhase.JOB_PHASE_JOIN, JobPhase.JOB_PHASE_VERIFY
#: where each job is interrupted, in this order; the longest phase most often
AIMS = (ANALYZE, PLAN, ENHANCE, ENHANCE, ENHANCE, JOIN, VERIFY)


@dataclass
class _Tries:
    abort_seconds: list[float] = field(default_factory=list)
    cores_after: list[float] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)
    completed_first: int = 0
    jobs_completed: int = 0
    other_bytes: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--tries", type=int, default=100, help="Interrupts that are measured")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return latencies and CPU with their goals."""
    media = folder / "media"
    media.mkdir()
    clip = scaled(DOG, media / "clip.mp4", width=WIDTH, height=HEIGHT, frames=FRAMES, gop_frames=GOP_FRAMES)
    with Service(folder, media, *FLAGS) as service:
        tries = asyncio.run(_measure(service, clip.name, options.tries, random.Random(options.seed)))
        parked, went_on = service.count_logged("job_parked"), service.count_logged("job_went_on")
    return {
        "clip": f"{WIDTH}x{HEIGHT}, {FRAMES} frames, H.264",
        "seed": options.seed,
        "abort_ms": spread(tries.abort_seconds),
        "cores_in_the_next_second": spread(tries.cores_after, 1.0),
        "phases_hit": dict(tries.phases),
        "completed_first": tries.completed_first,
        "jobs_completed": tries.jobs_completed,
        "jobs_with_other_bytes": tries.other_bytes,
        "parked": parked,
        "went_on_where_parked": went_on,
        "goals": {
            "abort_p99_seconds": goal(percentile(tries.abort_seconds, 99), GOAL_ABORT_SECONDS),
            "cores_in_the_next_second_p50": goal(statistics.median(tries.cores_after), GOAL_CORES),
            "cores_in_the_next_second_p99": goal(percentile(tries.cores_after, 99), GOAL_CORES),
            "jobs_with_other_bytes": goal(tries.other_bytes, 0),
        },
    }


async def _measure(service: Service, clip_name: str, count: int, rng: random.Random) -> _Tries:
    tries = _Tries()
    async with desk(service) as client:
        await client.prepare("undisturbed", clip_name)
        undisturbed = await client.done(await client.process("undisturbed"))
        seconds = {stage.phase: stage.wall_seconds for stage in undisturbed.stages}
        seconds[ENHANCE] /= AIMS.count(ENHANCE)
        say(f"{NAME}: undisturbed { ({JobPhase.Name(k): round(v, 3) for k, v in seconds.items()}) } s")
        for number in range(count):  # each job is interrupted at least once, so these are enough
            video_id = f"video-{number}"
            await client.prepare(video_id, clip_name)
            await _one_job(service, client, video_id, count, seconds, rng, tries)
            if len(tries.abort_seconds) >= count:
                break
            report = await client.done(await client.process(video_id))  # COMPLETED: its result again
            tries.jobs_completed += 1
            tries.other_bytes += result_sha256(report) != result_sha256(undisturbed)
            await client.session.remove(video_id)
            say(f"{NAME}: {len(tries.abort_seconds)} of {count} tries, {dict(tries.phases)}")
    return tries


async def _one_job(
    service: Service,
    client: Desk,
    video_id: str,
    count: int,
    seconds: Mapping[JobPhase.ValueType, float],
    rng: random.Random,
    tries: _Tries,
) -> None:
    """Interrupt one video's work at each aim, until it has a result or there are tries enough."""
    job_id = await client.process(video_id)
    for aim in AIMS:
        if await _reaches(client, video_id, aim):
            await asyncio.sleep(rng.uniform(0, seconds.get(aim, 0.0)))
        begin = time.monotonic()
        seen = await client.interrupt(job_id)
        if seen is None:
            tries.completed_first += 1
            return
        cpu = service.cpu_seconds()
        measured = time.monotonic()
        await asyncio.sleep(1.0)
        tries.cores_after.append((service.cpu_seconds() - cpu) / (time.monotonic() - measured))
        tries.abort_seconds.append(seen.monotonic_seconds - begin)
        video = await client.client.get_video(video_id)
        tries.phases[JobPhase.Name(video.job.progress.phase).removeprefix("JOB_PHASE_")] += 1
        if len(tries.abort_seconds) >= count:
            return
        job_id = await client.process(video_id)
    await client.done(job_id)


async def _reaches(client: Desk, video_id: str, aim: JobPhase.ValueType) -> bool:
    """Wait until a video's job is in a phase, or past it; True for in it."""
    while True:
        job = (await client.client.get_video(video_id)).job
        if job.end_time.seconds or job.progress.phase >= aim:
            return bool(job.progress.phase == aim)
        await asyncio.sleep(POLL_SECONDS)
