"""The service beside the ffmpeg program: same clip, same filters, same encoder.

Both run in turn, A B A B …, so that a machine whose speed drifts changes both; what counts is the median of the ratios of
neighbouring runs. The service's time is from ProcessVideo to OnProcessDone: it measures the noise, checks every segment,
and decodes the result once more, which the program does not.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import imageio_ffmpeg  # type: ignore[import-untyped]

from benches.clips import DOG
from benches.figures import say
from benches.job_run import desk
from benches.service import Service
from videoprocess.v1.report_pb2 import ProcessReport

NAME = "peer"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--clip", type=Path, default=DOG, help="what both enhance")
    parser.add_argument("--runs", type=int, default=3, help="of each")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the ratios, and all runs."""
    clip: Path = options.clip.resolve()
    with Service(folder, clip.parent) as service:
        return asyncio.run(_compare(service, clip, options.runs, folder))


async def _compare(service: Service, clip: Path, runs: int, folder: Path) -> dict[str, Any]:
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for number in range(runs):
        cost, report = await _service(service, clip, f"run-{number}")
        ours.append(cost)
        theirs.append(await asyncio.to_thread(_program, clip, report, folder / "program.mp4"))
        say(f"{NAME}: run {number + 1} of {runs}")
    ratios = {
        name: statistics.median(a[name] / b[name] for a, b in zip(ours, theirs, strict=True))
        for name in ours[0]
    }
    return {
        "clip": clip.name,
        "frames": report.frames.encoded,
        "segments": report.segment_count,
        "filters": list(report.filters),
        "wall_ratio_median": round(ratios["wall_seconds"], 3),
        "cpu_ratio_median": round(ratios["cpu_seconds"], 3),
        "service": ours,
        "ffmpeg_program": theirs,
    }


async def _service(service: Service, clip: Path, video_id: str) -> tuple[dict[str, float], ProcessReport]:
    async with desk(service) as client:
        await client.prepare(video_id, clip.name)
        cpu, begin = service.cpu_seconds(), time.monotonic()
        report = await client.done(await client.process(video_id))
        cost = {"wall_seconds": time.monotonic() - begin, "cpu_seconds": service.cpu_seconds() - cpu}
        await client.session.remove(video_id)
        return cost, report


def _program(clip: Path, report: ProcessReport, output: Path) -> dict[str, float]:
    """Run the ffmpeg program with the filters and the encoder that the service chose."""
    encoding = report.encodings[0]
    settings = dict(part.split("=", 1) for part in encoding.settings.split(" "))
    # What each segment has for itself is told as "least..most"; one run has one bound.
    encoder_options = [
        text for name, value in settings.items() for text in (f"-{name}", value.rpartition("..")[2])
    ]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-i", str(clip), "-map", "0:v:0", "-map", "0:a?", "-c:a", "copy"),
            *("-vf", ",".join(report.filters), "-c:v", encoding.encoder, *encoder_options, str(output)),
        ],
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": time.monotonic() - begin, "cpu_seconds": cpu}
