"""Killed before and after each durable step of one short job: nothing promised is lost, nothing is left over."""

from __future__ import annotations

import asyncio
import random
import re
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
from durable_steps import SERVICE_DIES, SHARED, WORKERS_DIE, read_log
from file_systems import another_file_system
from service_harness import PATIENCE_SECONDS, SERVER, Server, connect
from short_job import (
    ShortJob,
    broken_answers,
    broken_publications,
    check_to_the_end,
    flags,
    half_done,
    left_in_shared_root,
    short_clip,
)
from soaking import SOAKING
from videoprocess_server.blobs.blob_store import BlobKind

pytestmark = pytest.mark.slow

SEED = 20261123
#: runs in the sample; of each shard in the soak all that fall to it
SAMPLE = 6
#: and of those that write into the shared root
PUBLISHING_SAMPLE = 3
_PUBLISHES = re.compile(rf" {SHARED}\b| production\._(bring_beside|publish)")
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


def _mortal(folder: Path, shared: Path, step: int, victim: str) -> Server:
    program = (sys.executable, LAUNCHER, str(folder / "steps.log"), str(step), victim)
    return Server(folder / "data", *flags(shared), program=program)


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    client = ShortJob(short_clip(folder))
    with another_file_system(folder) as shared:
        with _mortal(folder, shared, 0, SERVICE_DIES) as server:
            asyncio.run(_go_on(server, client))
            assert 0 == server.stop()
        _check_left_over(folder / "data", shared, client)
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


def _check_promises(data_dir: Path, shared: Path, client: ShortJob, sha256: str) -> None:
    files, published = files_below(data_dir), files_below(shared)
    rows = read_rows(files)
    assert [] == [*broken_promises(rows, files), *broken_answers(client, rows)]
    assert [] == [*broken_publications(rows, published), *half_done(published, sha256)]


def _check_left_over(data_dir: Path, shared: Path, client: ShortJob) -> None:
    rows = read_rows(files_below(data_dir))
    assert [] == [*strays(rows, data_dir), *left_in_shared_root(rows, files_below(shared))]
    assert rows["artifacts"], "or nothing says what is published"
    assert sorted(client.job_ids) == sorted(job["job_id"] for job in rows["jobs"])


def _survive(folder: Path, undisturbed: Undisturbed, step: int, victim: str) -> str:
    """Kills at a step and goes on; returns what was done there, or "" where the step did not come."""
    folder.mkdir()
    client = ShortJob(undisturbed.clip)
    with ExitStack() as stack:
        shared = stack.enter_context(another_file_system(folder))
        server = _mortal(folder, shared, step, victim)
        stack.push(server)
        killed = _run_until_killed(server, client)
        steps = read_log(folder / "steps.log")
        if killed:
            _check_promises(folder / "data", shared, client, undisturbed.sha256)
            server.program = SERVER
            server.start()
            asyncio.run(_go_on(server, client))
            assert 0 == server.stop()
        assert undisturbed.sha256 == client.result_sha256
        _check_promises(folder / "data", shared, client, undisturbed.sha256)
        _check_left_over(folder / "data", shared, client)
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
    publishing = [case for case in cases if _PUBLISHES.search(undisturbed.steps[case[0] - 1])]
    if SOAKING:
        chosen = cases[shard::SHARDS]
    else:
        dice = random.Random(SEED)
        chosen = [
            *dice.sample(cases[: len(undisturbed.steps)], SAMPLE - 1),
            dice.choice(cases[len(undisturbed.steps) :]),
            *dice.sample(publishing, PUBLISHING_SAMPLE),
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
    "service after COMMIT production._bring_beside",
    f"service after open {SHARED}/.videoprocess-",
    "service after COMMIT production._bring_beside",
    f"service after pwrite {SHARED}/.videoprocess-",
    f"service after fsync {SHARED}/.videoprocess-",
    f"service after link /{WORK}/",
    "service after fsync /results",
    f"service after rename {SHARED}/.videoprocess-",
    f"service after fsync {SHARED}",
    "service before COMMIT",
    "service after rmdir /segments/",
    "service after unlink /uploads/",
    "service after closing the database",
)


def test_the_steps_are_those_of_every_part(undisturbed: Undisturbed) -> None:
    """Were a part not numbered, no kill would ever come there; and what is durable first comes first."""
    steps = iter(undisturbed.steps)
    assert [] == [part for part in PARTS if not any(step.startswith(part) for step in steps)]
