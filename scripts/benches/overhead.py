"""What leaving one machine costs: the same clips embedded, with PostgreSQL, with Ray, and with PostgreSQL, S3 and Ray, in turn.

CPU is that of all processes: service, workers, PostgreSQL, the S3 server, Ray's own on its head and two nodes. Of each round the ratio to
embedded counts; what is told is the median of the rounds. Segments are of a second, a quarter of what they are by default: so what a
segment costs beside its encoding weighs more here. Requests are those of a service's life with a job, less those of one without.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benches.figures import say
from benches.job_run import desk, result_sha256
from benches.service import Service

_ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(_ROOT / "tests"))
if TYPE_CHECKING:
    from postgres_server import PostgresServer
    from ray_nodes import RayNodes
    from s3_server import S3Server

NAME = "overhead"
WORKERS = 2
FLAGS = ("--segment-seconds", "1", "--longest-gop-seconds", "2", "--workers", str(WORKERS))
EMBEDDED, POSTGRES, RAY, ALL = "embedded", "postgres", "ray", "postgres, s3, ray"


@dataclass(frozen=True)
class Engines:
    """What a service may stand on."""

    database: PostgresServer
    s3: S3Server
    nodes: RayNodes

    def rows(self, name: str) -> tuple[str, ...]:
        """Flags of a service with rows of its own here."""
        return ("--database-url", self.database.url(), "--database-schema", name)

    def work(self) -> tuple[str, ...]:
        """Flags of a service whose videos are encoded here."""
        return ("--executor", "ray", "--ray-address", self.nodes.address)

    def requests(self) -> Counter[str]:
        """How often the stores were asked for what since they began; PostgreSQL tells of a session when it ends."""
        ((transactions, changes),) = self.database.execute(
            "SELECT sum(xact_commit)::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM pg_stat_database"
        )
        asked = Counter({f"S3 {name}": count for name, count in Counter(self.s3.requests()).items()})
        return asked + Counter({"transactions": int(str(transactions)), "changes": int(str(changes))})


KINDS: Mapping[str, Callable[[Engines, str], tuple[str, ...]]] = {
    EMBEDDED: lambda _engines, _name: (),
    POSTGRES: lambda engines, name: engines.rows(name),
    RAY: lambda engines, _name: engines.work(),
    ALL: lambda engines, name: (*engines.rows(name), *engines.s3.flags(name), *engines.work()),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One clip through one kind of service."""

    kind: str
    clip: str
    segments: int
    #: from ProcessVideo to OnProcessDone
    wall_seconds: float
    cpu_seconds: float
    sha256: str
    #: of the stores
    requests: Mapping[str, int] = field(default_factory=dict)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--rounds", type=int, default=3, help="of all kinds with each clip")
    parser.add_argument(
        "--kinds", nargs="+", default=[POSTGRES, ALL], choices=[POSTGRES, RAY, ALL], help="beside embedded"
    )
    parser.add_argument(
        "--overhead-clips",
        nargs="+",
        default=["dog_720p30_10s.mp4", "flower_540p_5s.mp4"],
        help="of tests/clips",
    )


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the ratios, the requests of a segment, and all runs."""
    media = folder / "media"
    media.mkdir()
    for clip in options.overhead_clips:
        shutil.copy(_ROOT / "tests" / "clips" / clip, media)
    kinds = [EMBEDDED, *options.kinds]
    runs: list[Run] = []
    with _engines(folder) as engines:
        idle = {kind: _idle(engines, kind, folder, media) for kind in kinds}
        for number in range(options.rounds):
            for clip in options.overhead_clips:
                for kind in kinds if number % 2 == 0 else reversed(kinds):
                    runs.append(_run(engines, kind, clip, folder, media, idle[kind]))
                    told = runs[-1]
                    say(f"{NAME}: {kind}, {clip}: {told.cpu_seconds:.1f} CPU s, {told.wall_seconds:.1f} s")
    return _told(runs)


def table(told: Mapping[str, Any]) -> str:
    """Return Markdown of the ratios and the requests.

    Args:
        told: what `run` returned.
    """
    rows = [
        f"| {kind} | {clip} | {of['segments']} | {of['wall_ratio']} | {of['cpu_ratio']} | "
        + (", ".join(f"{name} {count}" for name, count in of["requests"].items()) or "none")
        + " |"
        for clip, kinds in told["clips"].items()
        for kind, of in kinds.items()
    ]
    head = (
        "\n## Beside an embedded service\n\nRatios of the median round; requests are those of one job, start and end included.\n\n"
        "| with | clip | segments | wall | CPU | requests |\n|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


@contextmanager
def _engines(folder: Path) -> Iterator[Engines]:
    try:
        from postgres_server import PostgresServer
        from ray_nodes import ray_nodes
        from s3_server import PROGRAM, S3Server, credentials
    except ImportError as error:
        raise SystemExit(f"{NAME}: {error}: make test-scale installs what is needed") from error
    if not PROGRAM.exists():
        raise SystemExit(f"{NAME}: there is no S3 server: make s3-server builds it")
    os.environ.update(credentials())
    with ray_nodes() as nodes:
        database, s3 = PostgresServer(durable=True).start(), S3Server(folder / "s3").start()
        try:
            database.execute("ALTER SYSTEM SET autovacuum = off")  # it would count, whoever's turn it is
            database.execute("SELECT pg_reload_conf()")
            yield Engines(database, s3, nodes)
        finally:
            s3.kill()
            database.remove()


def _life(engines: Engines, kind: str, folder: Path, media: Path) -> Service:
    name = f"run_{uuid.uuid4().hex}"
    return Service(folder / name, media, *FLAGS, *KINDS[kind](engines, name))


def _idle(engines: Engines, kind: str, folder: Path, media: Path) -> Counter[str]:
    before = engines.requests()
    with _life(engines, kind, folder, media):
        pass
    return _since(engines, before)


def _since(engines: Engines, before: Counter[str]) -> Counter[str]:
    return engines.requests() - before


def _run(engines: Engines, kind: str, clip: str, folder: Path, media: Path, idle: Counter[str]) -> Run:
    before = engines.requests()
    with _life(engines, kind, folder, media) as service:
        told = asyncio.run(_job(service, clip))
    return Run(kind=kind, clip=clip, requests=dict(_since(engines, before) - idle), **told)


async def _job(service: Service, clip: str) -> dict[str, Any]:
    async with desk(service) as client:
        await client.prepare("video", clip)
        cpu, begin = _cpu_seconds(), time.monotonic()
        report = await client.done(await client.process("video"))
        return {
            "segments": report.segment_count,
            "wall_seconds": time.monotonic() - begin,
            "cpu_seconds": _cpu_seconds() - cpu,
            "sha256": result_sha256(report),
        }


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
    clips: dict[str, Any] = {}
    for clip in sorted({run.clip for run in runs}):
        near = [run for run in runs if (run.clip, run.kind) == (clip, EMBEDDED)]
        clips[clip] = {
            kind: _compared(near, [run for run in runs if (run.clip, run.kind) == (clip, kind)])
            for kind in dict.fromkeys(run.kind for run in runs)
        }
    return {
        "clips": clips,
        "same_bytes": all(len({run.sha256 for run in runs if run.clip == clip}) == 1 for clip in clips),
        "runs": [asdict(run) for run in runs],
    }


def _compared(near: list[Run], far: list[Run]) -> dict[str, Any]:
    """Return medians, of the ratios and of each kind of request."""
    pairs = list(zip(near, far, strict=True))
    names = sorted({name for run in far for name in run.requests})
    return {
        "segments": far[0].segments,
        "wall_ratio": round(statistics.median(b.wall_seconds / a.wall_seconds for a, b in pairs), 2),
        "cpu_ratio": round(statistics.median(b.cpu_seconds / a.cpu_seconds for a, b in pairs), 2),
        "requests": {
            name: round(statistics.median(run.requests.get(name, 0) for run in far)) for name in names
        },
    }
