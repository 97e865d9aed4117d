"""Killed before and after each durable step of one short job: nothing promised is lost, nothing is left over."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from data_directory import broken_promises, files_below, read_rows, strays
from durable_steps import SERVICE_DIES, WORKERS_DIE, read_log
from service_harness import PATIENCE_SECONDS, SERVER, Server, connect
from short_job import FLAGS, ShortJob, broken_answers, check_to_the_end, short_clip
from soaking import SOAKING
from videoprocess_server.blobs.blob_store import BlobKind

pytestmark = pytest.mark.slow

SEED = 20261123
#: runs in the sample; of each shard in the soak all that fall to it
SAMPLE = 6
SHARDS = 12 if SOAKING else 1
LAUNCHER = str(Path(__file__).parent.parent / "mortal_server.py")
KILLED = -signal.SIGKILL
GOING_SECONDS = 10.0


@dataclass(frozen=True)
class Undisturbed:
    """What the job is when nobody is killed."""

    clip: bytes
    sha256: str
    #: what was done at each step
    steps: Sequence[str]


def _mortal(folder: Path, step: int, victim: str) -> Server:
    program = (sys.executable, LAUNCHER, str(folder / "steps.log"), str(step), victim)
    return Server(folder / "data", *FLAGS, program=program)


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    client = ShortJob(short_clip(folder))
    with _mortal(folder, 0, SERVICE_DIES) as server:
        asyncio.run(_go_on(server, client))
        assert 0 == server.stop()
    _check_left_over(folder / "data", client)
    return Undisturbed(client.clip, client.result_sha256, read_log(folder / "steps.log"))


async def _go_on(server: Server, client: ShortJob) -> None:
    async with connect(server) as api, asyncio.timeout(PATIENCE_SECONDS):
        await client.go_on(api)
        await check_to_the_end(client, api)


def _is_gone(server: Server) -> bool:
    """Whether the service is dead, or dies within the time that a kill takes."""
    deadline = time.monotonic() + GOING_SECONDS
    while server.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return server.exit_code == KILLED


def _run_until_killed(server: Server, client: ShortJob) -> bool:
    """Whether the fatal step came."""
    try:
        server.start()
        asyncio.run(_go_on(server, client))
    except (AssertionError, grpc.aio.AioRpcError):
        if not _is_gone(server):
            raise
    return server.stop() == KILLED


def _check_promises(data_dir: Path, client: ShortJob) -> None:
    files = files_below(data_dir)
    rows = read_rows(files)
    assert [] == [*broken_promises(rows, files), *broken_answers(client, rows)]


def _check_left_over(data_dir: Path, client: ShortJob) -> None:
    rows = read_rows(files_below(data_dir))
    assert [] == list(strays(rows, data_dir))
    assert sorted(client.job_ids) == sorted(job["job_id"] for job in rows["jobs"])


def _survive(folder: Path, undisturbed: Undisturbed, step: int, victim: str) -> str:
    """Kills at a step and goes on; returns what was done there, or "" where the step did not come."""
    folder.mkdir()
    client = ShortJob(undisturbed.clip)
    server = _mortal(folder, step, victim)
    with ExitStack() as stack:
        stack.push(server)
        killed = _run_until_killed(server, client)
        steps = read_log(folder / "steps.log")
        if killed:
            _check_promises(folder / "data", client)
            server.program = SERVER
            server.start()
            asyncio.run(_go_on(server, client))
            assert 0 == server.stop()
    assert undisturbed.sha256 == client.result_sha256
    _check_promises(folder / "data", client)
    _check_left_over(folder / "data", client)
    return steps[step - 1] if len(steps) >= step else ""


def _cases(steps: Sequence[str]) -> list[tuple[int, str]]:
    """All kills there are: of the service at each step, and of the worker alone at each of its own."""
    numbers = range(1, 1 + len(steps))
    alone = [(number, WORKERS_DIE) for number in numbers if steps[number - 1].startswith("worker")]
    return [*((number, SERVICE_DIES) for number in numbers), *alone]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_kill_at_any_durable_step_loses_nothing_and_leaves_nothing_over(
    tmp_path: Path, undisturbed: Undisturbed, shard: int
) -> None:
    cases = _cases(undisturbed.steps)
    if SOAKING:
        chosen = cases[shard::SHARDS]
    else:
        dice = random.Random(SEED)
        chosen = [
            *dice.sample(cases[: len(undisturbed.steps)], SAMPLE - 1),
            dice.choice(cases[len(undisturbed.steps) :]),
        ]
    hit = []
    for step, victim in chosen:
        what = _survive(tmp_path / f"{step}-{victim}", undisturbed, step, victim)
        hit += [f"{step} ({victim}): {what}"] if what else []
    print(f"seed {SEED}: {len(undisturbed.steps)} steps, {len(chosen)} kills planned")
    print(f"count kills_at_durable_steps = {len(hit)}")
    print(*hit, sep="\n")
    assert len(hit) > len(chosen) / 2, "most of the steps come again"


WORK = BlobKind.WORK.value
#: in this order, with others between
PARTS = (
    "service after opening the database",
    "service after mkdir /segments",
    "service before open /uploads/",
    "service after pwrite /uploads/",
    "service after fsync /uploads/",
    "service before COMMIT uploads.",
    "service after COMMIT jobs.process",
    "service after mkdir /segments/",
    "worker before open /segments/",
    "worker after fsync /segments/*/",
    "worker after fsync /segments/*",
    "service after COMMIT",
    f"worker before open /{WORK}/",
    f"worker after fsync /{WORK}/",
    f"service after link /{WORK}/",
    "service after fsync /results",
    "service before COMMIT",
    "service after rmdir /segments/",
    "service after unlink /uploads/",
    "service after closing the database",
)


def test_the_steps_are_those_of_every_part(undisturbed: Undisturbed) -> None:
    """Were a part not numbered, no kill would ever come there; and what is durable first comes first."""
    steps = iter(undisturbed.steps)
    assert [] == [part for part in PARTS if not any(step.startswith(part) for step in steps)]
