"""What ten interruptions cost: CPU of a whole job, its dead workers' included, against the same job undisturbed.

Three runs in turn, each with a service and a data directory of its own: undisturbed; interrupted, the work parked;
interrupted, every parked work given up at once (--parked-seconds 0). What counts is the median of the ratios of a turn's runs.
Where a job is interrupted is drawn anew for each turn, as counts of enhanced frames, the same for both kinds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benches.figures import goal, say
from benches.job_run import desk, result_sha256
from benches.many_segments import FLAGS, GOP_FRAMES, HEIGHT, WIDTH, many_segments
from benches.service import Service
from videoprocess.v1.report_pb2 import ProcessReport

NAME = "cost"
GOALS = {"parked": 1.02, "evicted": 1.10}
KINDS = {"undisturbed": (), "parked": (), "evicted": ("--parked-seconds", "0")}
#: between ABORT and the next ProcessVideo: what is to be given up is by then
REST_SECONDS = 0.3
#: progress is told four times a second; what is added to a moment, so that it is none of those times
TELL_SECONDS = 0.25

#: frames that are enhanced, and a delay in seconds
Moment = tuple[int, float]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One run."""

    kind: str
    #: from the first ProcessVideo to OnProcessDone
    cpu_seconds: float
    #: of the service and all its workers from their start to their end
    life_cpu_seconds: float
    wall_seconds: float
    interrupts: int
    went_on_where_parked: int
    given_up: int
    frames: int
    segments: int
    sha256: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--turns", type=int, default=5, help="of three runs each")
    parser.add_argument("--cost-interrupts", type=int, default=10, help="of one job")
    parser.add_argument("--cost-segments", type=int, default=110, help="of the clip")
    parser.add_argument("--cost-workers", type=int, default=1, help="that encode")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the ratios, and all runs."""
    media = folder / "media"
    media.mkdir()
    clip = many_segments(media, options.cost_segments)
    rng = random.Random(options.seed)
    turns: list[dict[str, Cost]] = []
    frames = options.cost_segments * GOP_FRAMES
    for number in range(options.turns):
        drawn = sorted(rng.randrange(frames) for _ in range(options.cost_interrupts))
        delays = [rng.uniform(0, TELL_SECONDS) for _ in drawn]
        turn: dict[str, Cost] = {}
        for kind in _rotated(list(KINDS), number):
            moments = list(zip(drawn, delays, strict=True)) if kind != "undisturbed" else []
            home = folder / f"{number}-{kind}"
            turn[kind] = _one_run(home, media, clip.name, kind, moments, options.cost_workers)
            say(f"{NAME}: turn {number + 1} of {options.turns}, {kind}: {turn[kind].cpu_seconds:.2f} CPU s")
        turns.append(turn)
    return _told(turns, options)


def _rotated(kinds: list[str], by: int) -> list[str]:
    return kinds[by % len(kinds) :] + kinds[: by % len(kinds)]


def _one_run(
    home: Path, media: Path, clip_name: str, kind: str, moments: Sequence[Moment], workers: int
) -> Cost:
    with Service(home, media, *FLAGS, "--workers", str(workers), *KINDS[kind]) as service:
        cpu_seconds, wall_seconds, interrupts, report = asyncio.run(_job(service, clip_name, moments))
        life = service.stop()
    return Cost(
        kind=kind,
        cpu_seconds=cpu_seconds,
        life_cpu_seconds=life.cpu_seconds,
        wall_seconds=wall_seconds,
        interrupts=interrupts,
        went_on_where_parked=service.count_logged("job_went_on"),
        given_up=service.count_logged("parked_work_given_up"),
        frames=report.frames.encoded,
        segments=report.segment_count,
        sha256=result_sha256(report),
    )


async def _job(
    service: Service, clip_name: str, moments: Sequence[Moment]
) -> tuple[float, float, int, ProcessReport]:
    """Run one job, interrupted at these moments."""
    async with desk(service) as client:
        await client.prepare("video", clip_name)
        cpu, begin = service.cpu_seconds(), time.monotonic()
        interrupts = 0
        job_id = await client.process("video")
        for frames, delay_seconds in moments:
            await client.watcher.reaches(job_id, frames)
            await asyncio.sleep(delay_seconds)
            if await client.interrupt(job_id) is None:
                break
            interrupts += 1
            await asyncio.sleep(REST_SECONDS)
            job_id = await client.process("video")
        report = await client.done(job_id)
        return service.cpu_seconds() - cpu, time.monotonic() - begin, interrupts, report


def _told(turns: Sequence[dict[str, Cost]], options: argparse.Namespace) -> dict[str, Any]:
    runs = [cost for turn in turns for cost in turn.values()]
    ratios = {
        kind: [turn[kind].cpu_seconds / turn["undisturbed"].cpu_seconds for turn in turns] for kind in GOALS
    }
    life_ratios = {
        kind: [turn[kind].life_cpu_seconds / turn["undisturbed"].life_cpu_seconds for turn in turns]
        for kind in GOALS
    }
    each = {
        kind: statistics.median(
            (turn[kind].cpu_seconds - turn["undisturbed"].cpu_seconds) / max(1, turn[kind].interrupts)
            for turn in turns
        )
        for kind in GOALS
    }
    return {
        "clip": f"{WIDTH}x{HEIGHT}",
        "segments": runs[0].segments,
        "workers": options.cost_workers,
        "seed": options.seed,
        "cpu_ratio_median": {kind: round(statistics.median(ratios[kind]), 4) for kind in GOALS},
        "cpu_ratios": {kind: [round(ratio, 4) for ratio in ratios[kind]] for kind in GOALS},
        "life_cpu_ratio_median": {kind: round(statistics.median(life_ratios[kind]), 4) for kind in GOALS},
        "cpu_seconds_per_interrupt_median": {kind: round(each[kind], 3) for kind in GOALS},
        "runs": [asdict(cost) for cost in runs],
        "goals": {
            **{f"{kind}_cpu_ratio": goal(statistics.median(ratios[kind]), GOALS[kind]) for kind in GOALS},
            "interrupts_short_of_those_asked_for": goal(
                sum(options.cost_interrupts - turn[kind].interrupts for turn in turns for kind in GOALS), 0
            ),
            "runs_with_other_bytes": goal(sum(cost.sha256 != runs[0].sha256 for cost in runs), 0),
            "runs_with_other_frames": goal(sum(cost.frames != runs[0].frames for cost in runs), 0),
        },
    }
