"""Forward progress: a job that is interrupted each time at 0.3 of a segment's time still ends, with the same bytes.

A segment's time is that of an undisturbed run: the ENHANCE phase's wall seconds, times its workers, by its segments.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from benches.figures import goal, say
from benches.job_run import Desk, desk, result_sha256
from benches.many_segments import FLAGS, HEIGHT, WIDTH, many_segments
from benches.service import Service
from videoprocess.v1.job_pb2 import JobPhase
from videoprocess.v1.report_pb2 import ProcessReport

NAME = "forward"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--forward-interrupts", type=int, default=100, help="of one job")
    parser.add_argument("--forward-part", type=float, default=0.3, help="of a segment's time between two")
    parser.add_argument("--forward-segments", type=int, default=90, help="of the clip")
    parser.add_argument("--forward-workers", type=int, default=2, help="that encode")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return whether the job ended, and with which bytes."""
    media = folder / "media"
    media.mkdir()
    clip = many_segments(media, options.forward_segments)
    flags = (*FLAGS, "--workers", str(options.forward_workers))
    with Service(folder, media, *flags) as service:
        result = asyncio.run(_measure(service, clip.name, options))
        result["went_on_where_parked"] = service.count_logged("job_went_on")
        result["given_up"] = service.count_logged("parked_work_given_up")
    return result


async def _measure(service: Service, clip_name: str, options: argparse.Namespace) -> dict[str, Any]:
    async with desk(service) as client:
        await client.prepare("undisturbed", clip_name)
        undisturbed = await client.done(await client.process("undisturbed"))
        segment_seconds = _segment_seconds(undisturbed, options.forward_workers)
        say(f"{NAME}: {undisturbed.segment_count} segments of {segment_seconds:.3f} s each")
        await client.prepare("interrupted", clip_name)
        begin = time.monotonic()
        interrupts, report = await _interrupted(client, options, segment_seconds * options.forward_part)
        wall_seconds = time.monotonic() - begin
    same = result_sha256(report) == result_sha256(undisturbed)
    return {
        "clip": f"{WIDTH}x{HEIGHT}",
        "segments": undisturbed.segment_count,
        "segment_seconds": round(segment_seconds, 4),
        "seconds_between_interrupts": round(segment_seconds * options.forward_part, 4),
        "interrupts": interrupts,
        "frames": [undisturbed.frames.encoded, report.frames.encoded],
        "wall_seconds": round(wall_seconds, 2),
        "same_bytes": same,
        "goals": {
            "interrupts_short_of_those_asked_for": goal(max(0, options.forward_interrupts - interrupts), 0),
            "other_bytes": goal(not same, 0),
        },
    }


def _segment_seconds(report: ProcessReport, workers: int) -> float:
    """Return how long a worker has one segment."""
    enhance = next(stage for stage in report.stages if stage.phase == JobPhase.JOB_PHASE_ENHANCE)
    return enhance.wall_seconds * workers / report.segment_count


async def _interrupted(
    client: Desk, options: argparse.Namespace, between_seconds: float
) -> tuple[int, ProcessReport]:
    """Interrupt as often as asked for, then let it end; returns how many it took."""
    for number in range(options.forward_interrupts):
        job_id = await client.process("interrupted")
        await asyncio.sleep(between_seconds)
        if await client.interrupt(job_id) is None:
            return number, await client.done(job_id)
        if number % 20 == 19:
            progress = (await client.client.get_video("interrupted")).job.progress
            say(f"{NAME}: {number + 1} interrupts, {progress.segments_done} segments")
    return options.forward_interrupts, await client.done(await client.process("interrupted"))
