"""What a Ray cluster costs: the same clips through the local executor and through a cluster of two nodes here, in turn.

CPU is that of all processes: service, workers, gateway, and all of Ray's own on the nodes. Files are copied to the nodes. Of each
pair the ratio ray / local counts; what is told is the median of the pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benches.figures import say
from benches.job_run import desk, result_sha256
from benches.service import Service

NAME = "ray"
_ROOT = Path(__file__).parent.parent.parent
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Run:
    """One clip through one executor."""

    executor: str
    clip: str
    #: from ProcessVideo to OnProcessDone
    wall_seconds: float
    cpu_seconds: float
    sha256: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--pairs", type=int, default=3, help="of runs of each clip")
    parser.add_argument(
        "--ray-clips", nargs="+", default=["dog_720p30_10s.mp4", "flower_540p_5s.mp4"], help="of tests/clips"
    )


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the ratios, and all runs."""
    sys.path.append(str(_ROOT / "tests"))
    try:
        from ray_nodes import ray_nodes

        cluster = ray_nodes()
        nodes = cluster.__enter__()
    except ImportError as error:
        raise SystemExit(f"{NAME}: Ray is not installed: make test-scale does it") from error
    media = folder / "media"
    media.mkdir()
    for clip in options.ray_clips:
        shutil.copy(_ROOT / "tests" / "clips" / clip, media)
    flags = {"local": (), "ray": ("--executor", "ray", "--ray-address", nodes.address)}
    runs: list[Run] = []
    try:
        for pair in range(options.pairs):
            for clip in options.ray_clips:
                for kind in ("local", "ray") if pair % 2 == 0 else ("ray", "local"):
                    home = folder / f"{pair}-{clip}-{kind}"
                    with Service(home, media, "--workers", str(WORKERS), *flags[kind]) as service:
                        runs.append(asyncio.run(_job(service, kind, clip)))
                    say(f"{NAME}: {kind}, {clip}: {runs[-1].cpu_seconds:.1f} CPU s")
    finally:
        cluster.__exit__(None, None, None)
    return _told(runs)


async def _job(service: Service, kind: str, clip: str) -> Run:
    async with desk(service) as client:
        await client.prepare("video", clip)
        cpu, begin = _cpu_seconds(), time.monotonic()
        report = await client.done(await client.process("video"))
        return Run(
            executor=kind,
            clip=clip,
            wall_seconds=time.monotonic() - begin,
            cpu_seconds=_cpu_seconds() - cpu,
            sha256=result_sha256(report),
        )


def _cpu_seconds() -> float:
    """Return what all processes that this one has started have used, those included that they have reaped."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _told(runs: list[Run]) -> dict[str, Any]:
    clips = sorted({run.clip for run in runs})
    ratios: dict[str, Any] = {}
    for clip in clips:
        local, ray = (
            [run for run in runs if (run.clip, run.executor) == (clip, kind)] for kind in ("local", "ray")
        )
        ratios[clip] = {
            name: round(
                statistics.median(
                    getattr(far, name) / getattr(near, name) for near, far in zip(local, ray, strict=True)
                ),
                3,
            )
            for name in ("cpu_seconds", "wall_seconds")
        }
    return {
        "ratios": ratios,
        "same_bytes": all(len({run.sha256 for run in runs if run.clip == clip}) == 1 for clip in clips),
        "runs": [asdict(run) for run in runs],
    }
