"""Speed: the service beside the ffmpeg program, with the same clip, filters, encoder, settings and GOP length.

Both run in turn, A B A B …, so that a machine whose speed drifts changes both; what counts are the ratios of neighbouring runs. The service's time is from ProcessVideo to OnProcessDone: it measures the noise, makes
a plan, measures every segment, joins them, and decodes every packet of the result once more (the final check). The program does none of
that; it runs with its own choice of threads, and once more with one thread, for its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg  # type: ignore[import-untyped]

from benches.clips import DOG, scaled
from benches.figures import goal, say
from benches.job_run import desk
from benches.memory_peak import MemoryPeak
from benches.service import Service
from videoprocess.v1.job_pb2 import JobPhase
from videoprocess.v1.report_pb2 import ProcessReport

NAME = "speed"
WALL_GOAL = 1.00
CPU_GOAL, CHECKED_CPU_GOAL = 1.05, 1.10
#: beyond what the program takes with one thread for each worker
MEMORY_ALLOWANCE_BYTES = 250_000_000
GOP_FRAMES = 30


_THREADS_OF_X265 = ("pools=", "frame-threads=", "wpp=")


@dataclass(frozen=True)
class Case:
    """A clip that both enhance."""

    name: str
    width: int
    height: int
    codec: str
    frames: int


#: 24 segments of 120 frames, and at larger pictures what takes a few minutes; the last one is the fixed costs'
CASES = {
    case.name: case
    for case in (
        Case("720p-h264", 1280, 720, "h264", 2880),
        Case("720p-hevc", 1280, 720, "hevc", 2880),
        Case("1080p-h264", 1920, 1080, "h264", 960),
        Case("1080p-hevc", 1920, 1080, "hevc", 480),
        Case("2160p-h264", 3840, 2160, "h264", 480),
        Case("2160p-hevc", 3840, 2160, "hevc", 240),
        Case("720p-h264-8s", 1280, 720, "h264", 240),
    )
}
#: clips under 10 s: told, and in no median
SHORT = frozenset({"720p-h264-8s"})


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one enhancement took."""

    wall_seconds: float
    cpu_seconds: float
    #: without the final check
    unchecked_cpu_seconds: float
    peak_bytes: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="what both enhance; repeatable; all if not given"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each, of each case")
    parser.add_argument(
        "--frames-divided-by",
        type=int,
        default=1,
        help="shorter clips, for a look; figures are not comparable",
    )


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the medians over all pairs of runs, and each case."""
    cases = [
        replace(CASES[name], frames=max(1, CASES[name].frames // options.frames_divided_by))
        for name in options.case or CASES
    ]
    told = [_told(case, options.runs, folder) for case in cases]
    counted = [case for case in told if not case["short"]] or told
    workers = os.cpu_count() or 1
    ratios = {
        f"{name}_ratio_median": round(statistics.median(_all(counted, f"{name}_ratios")), 3)
        for name in ("wall", "cpu", "unchecked_cpu", "memory")
    }
    return {
        **ratios,
        "workers": workers,
        "runs": options.runs,
        "cases": told,
        "goals": {
            "wall_ratio_median": goal(ratios["wall_ratio_median"], WALL_GOAL),
            "unchecked_cpu_ratio_median": goal(ratios["unchecked_cpu_ratio_median"], CPU_GOAL),
            "cpu_ratio_median": goal(ratios["cpu_ratio_median"], CHECKED_CPU_GOAL),
            "memory_of_what_is_allowed": goal(
                max(case["memory_of_what_is_allowed"] for case in counted), 1.0
            ),
        },
    }


def _all(cases: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [ratio for case in cases for ratio in case[name]]


def _told(case: Case, runs: int, folder: Path) -> dict[str, Any]:
    media = folder / case.name
    media.mkdir()
    size = {"width": case.width, "height": case.height, "frames": case.frames}
    clip = scaled(DOG, media / f"{case.name}.mp4", gop_frames=GOP_FRAMES, codec=case.codec, **size)
    with Service(folder / f"{case.name}-service", media) as service:
        pairs, report = asyncio.run(_pairs(service, clip, runs, folder / "program.mp4", case.name))
    single = _program(clip, report, folder / "program.mp4", threads=1, frames=2 * GOP_FRAMES)
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = {
        "wall": [one.wall_seconds / other.wall_seconds for one, other in pairs],
        "cpu": [one.cpu_seconds / other.cpu_seconds for one, other in pairs],
        "unchecked_cpu": [one.unchecked_cpu_seconds / other.cpu_seconds for one, other in pairs],
        "memory": [one.peak_bytes / other.peak_bytes for one, other in pairs],
    }
    allowed = (os.cpu_count() or 1) * single.peak_bytes + MEMORY_ALLOWANCE_BYTES
    return {
        "case": case.name,
        "short": case.name in SHORT,
        "frames": report.frames.encoded,
        "segments": report.segment_count,
        "filters": list(report.filters),
        "encoder": f"{report.encodings[0].encoder} {report.encodings[0].settings}",
        **{f"{name}_ratio_median": round(statistics.median(values), 3) for name, values in ratios.items()},
        **{f"{name}_ratios": [round(value, 3) for value in values] for name, values in ratios.items()},
        "program_one_thread_peak_bytes": single.peak_bytes,
        "memory_of_what_is_allowed": round(max(one.peak_bytes for one in ours) / allowed, 3),
        "stages": [
            {
                "phase": JobPhase.Name(stage.phase).removeprefix("JOB_PHASE_"),
                "wall_seconds": round(stage.wall_seconds, 2),
                "cpu_seconds": round(stage.cpu_seconds, 2),
            }
            for stage in report.stages
        ],
        "service_runs": [asdict(one) for one in ours],
        "program_runs": [asdict(one) for one in theirs],
    }


async def _pairs(
    service: Service, clip: Path, runs: int, output: Path, name: str
) -> tuple[list[tuple[Run, Run]], ProcessReport]:
    """Run both so often; the report is of the service's last run."""
    pairs: list[tuple[Run, Run]] = []
    report: ProcessReport | None = None
    for number in range(runs):
        ours, report = await _service(service, clip, f"run-{number}")
        pairs.append((ours, await asyncio.to_thread(_program, clip, report, output)))
        one, other = pairs[-1]
        say(
            f"{NAME}: {name}, run {number + 1} of {runs}: wall {one.wall_seconds:.1f} / {other.wall_seconds:.1f} s, "
            f"CPU {one.cpu_seconds:.1f} / {other.cpu_seconds:.1f} s"
        )
    assert report is not None
    return pairs, report


async def _service(service: Service, clip: Path, video_id: str) -> tuple[Run, ProcessReport]:
    async with desk(service) as client:
        await client.prepare(video_id, clip.name)
        cpu, begin = service.cpu_seconds(), time.monotonic()
        with MemoryPeak(service.pid) as memory:
            report = await client.done(await client.process(video_id))
            wall_seconds = time.monotonic() - begin
        cpu_seconds = service.cpu_seconds() - cpu
        check = sum(stage.cpu_seconds for stage in report.stages if stage.phase == JobPhase.JOB_PHASE_VERIFY)
        await client.session.remove(video_id)
        return Run(
            wall_seconds=wall_seconds,
            cpu_seconds=cpu_seconds,
            unchecked_cpu_seconds=cpu_seconds - check,
            peak_bytes=memory.peak_bytes,
        ), report


def _program(
    clip: Path, report: ProcessReport, output: Path, *, threads: int | None = None, frames: int | None = None
) -> Run:
    """Run the ffmpeg program with the filters and the encoder that the service chose.

    Args:
        clip: what it reads.
        report: what the service did.
        output: what it writes.
        threads: of each of its parts; None: its own choice.
        frames: after which it ends.
    """
    encoding = report.encodings[0]
    settings = dict(part.split("=", 1) for part in encoding.settings.split(" "))
    if "x265-params" in settings:  # the service's choice of threads is no setting of the picture
        parameters = settings["x265-params"].split(":")
        settings["x265-params"] = ":".join(
            part for part in parameters if not part.startswith(_THREADS_OF_X265)
        )
    # What each segment has for itself is told as "least..most"; one run has one bound.
    encoder_options = [
        text for name, value in settings.items() for text in (f"-{name}", value.rpartition("..")[2])
    ]
    one = [] if threads is None else ["-threads", str(threads)]
    begin = time.monotonic()
    process = subprocess.Popen(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", *one, "-i", str(clip), "-map", "0:v:0", "-map", "0:a?", "-c:a", "copy"),
            *(() if threads is None else ("-filter_threads", str(threads))),
            *(() if frames is None else ("-frames:v", str(frames))),
            *("-vf", ",".join(report.filters), "-c:v", encoding.encoder, *one, *encoder_options, str(output)),
        ],
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the ffmpeg program ended with {process.returncode}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Run(
        wall_seconds=time.monotonic() - begin,
        cpu_seconds=cpu_seconds,
        unchecked_cpu_seconds=cpu_seconds,
        peak_bytes=usage.ru_maxrss * 1024,
    )
