"""Growth: what a second of video costs must not depend on how many seconds the video has.

The same footage over and over, of a small picture so that ten minutes of it are soon through, joined by stream copy, at several
lengths and with several numbers of workers, each with a service and a data directory of its own. Costs are from ProcessVideo to OnProcessDone; memory is that of the service and all its
workers together, at its peak. The longest clip is compared with each of the others; in memory only with those that have two
segments for each worker: a shorter one does not use them all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benches.clips import DOG, DOG_SECONDS, repeated, smaller
from benches.figures import goal, say
from benches.job_run import desk
from benches.memory_peak import MemoryPeak
from benches.service import Service
from videoprocess.v1.job_pb2 import JobPhase

NAME = "growth"
MEMORY = "peak_memory_mebibytes"
GOALS = {"cpu_seconds_per_second": 1.05, "wall_seconds_per_second": 1.05, MEMORY: 1.10}
SEGMENTS_PER_WORKER = 2
MEBIBYTE, MICROSECONDS = 1 << 20, 1_000_000


@dataclass(frozen=True, kw_only=True)
class Grown:
    """One run."""

    workers: int
    video_seconds: float
    segments: int
    cpu_seconds_per_second: float
    wall_seconds_per_second: float
    peak_memory_mebibytes: float
    #: of that, the service's own process
    service_peak_mebibytes: float
    #: of each phase
    phase_cpu_seconds_per_second: dict[str, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument(
        "--growth-seconds", type=float, nargs="+", default=[10, 60, 600], help="lengths of the clips, about"
    )
    parser.add_argument("--growth-height", type=int, default=360, help="lines of their picture")
    parser.add_argument("--growth-workers", type=int, nargs="+", default=[1, 2, 4], help="that encode")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what each run took, and the growth from the shortest clip to the longest."""
    media = folder / "media"
    media.mkdir()
    rounds = sorted({max(1, round(seconds / DOG_SECONDS)) for seconds in options.growth_seconds})
    footage = smaller(DOG, folder / "footage.mp4", height=options.growth_height)
    clips = [repeated(footage, media / f"{count}.mp4", count) for count in rounds]
    runs: list[Grown] = []
    for workers in options.growth_workers:
        for clip in clips:
            with Service(folder / f"{workers}-{clip.stem}", media, "--workers", str(workers)) as service:
                runs.append(asyncio.run(_one_run(service, clip.name, workers)))
            say(f"{NAME}: {asdict(runs[-1])}")
    return {
        "footage": DOG.name,
        "lines": options.growth_height,
        "cores": os.cpu_count(),
        "runs": [asdict(each) for each in runs],
        "goals": {
            name: told
            for workers in options.growth_workers
            for name, told in _goals([each for each in runs if each.workers == workers]).items()
        },
    }


def table(told: Mapping[str, Any]) -> str:
    """Return Markdown of the runs.

    Args:
        told: what `run` returned.
    """
    rows = [
        f"| {run['workers']} | {run['video_seconds']} | {run['segments']} | {run['wall_seconds_per_second']} "
        f"| {run['cpu_seconds_per_second']} | {run['peak_memory_mebibytes']} | {run['service_peak_mebibytes']} |"
        for run in told["runs"]
    ]
    head = (
        "\nThe same footage at several lengths; seconds are for one second of video, memory is the peak in MiB:\n\n"
        "| workers | length, s | segments | wall | CPU | service and workers | of it the service |\n|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


async def _one_run(service: Service, clip_name: str, workers: int) -> Grown:
    async with desk(service) as client:
        await client.prepare("video", clip_name)
        with MemoryPeak(service.pid) as memory:
            cpu, begin = service.cpu_seconds(), time.monotonic()
            report = await client.done(await client.process("video"))
            wall_seconds = time.monotonic() - begin
            cpu_seconds = service.cpu_seconds() - cpu
    video_seconds = report.duration_us / MICROSECONDS
    return Grown(
        workers=workers,
        video_seconds=round(video_seconds, 1),
        segments=report.segment_count,
        cpu_seconds_per_second=round(cpu_seconds / video_seconds, 4),
        wall_seconds_per_second=round(wall_seconds / video_seconds, 4),
        peak_memory_mebibytes=round(memory.peak_bytes / MEBIBYTE, 1),
        service_peak_mebibytes=round(memory.own_peak_bytes / MEBIBYTE, 1),
        phase_cpu_seconds_per_second={
            JobPhase.Name(stage.phase).removeprefix("JOB_PHASE_").lower(): round(
                stage.cpu_seconds / video_seconds, 4
            )
            for stage in report.stages
        },
    )


def _goals(runs: Sequence[Grown]) -> dict[str, Any]:
    """Return the goals of the runs with one number of workers: the longest clip beside each of the others."""
    *shorter, last = runs
    return {
        f"{name}_growth_{first.video_seconds:.0f}_to_{last.video_seconds:.0f}_s_with_{last.workers}_workers": goal(
            getattr(last, name) / getattr(first, name), at_most
        )
        for name, at_most in GOALS.items()
        for first in shorter
        if name != MEMORY or first.segments >= SEGMENTS_PER_WORKER * first.workers
    }
