"""The power goes at any moment of one short job: what fsync was not told to keep is gone, and nothing promised is missing.

The service and its workers run under strace; from every write, rename, unlink and fsync a simulated disk is rebuilt as it would
be found at each step. A kill is the same with a kinder disk, which keeps all that was written: so this has a kill at every
system call, too, also at those of FFmpeg and SQLite.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_directory import DATABASE, broken_promises, files_below, read_rows, strays
from service_harness import Server
from short_job import SHARED, broken_publications, flags, left_in_shared_root
from simulated_disk import Change, Sent, Step, Survives, Sync, moments
from soaking import SOAKING
from syscall_trace import CannotTraceError
from traced_job import DATA, TracedJob, go_on, trace_job

pytestmark = pytest.mark.slow

SEED = 20261124
STARTS = 40 if SOAKING else 3
#: different choices of what survives although nothing synced it
CHOICES = 40 if SOAKING else 2
#: of the writes between two that settle or tell something, every so manieth is looked at
STRIDE = 1 if SOAKING else 4


@pytest.fixture(name="traced", scope="module")
def _traced(tmp_path_factory: pytest.TempPathFactory) -> TracedJob:
    try:
        return trace_job(tmp_path_factory.mktemp("traced"))
    except CannotTraceError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class KilledJob:
    """The job once more, with a kill that was not there the first time."""

    where: str
    kill: Step
    job: TracedJob

    def complaints(self) -> Iterator[str]:
        """What is missing if the power goes after the kill, before anybody has done more than start the next service."""
        for step, state in self.job.strict_moments():
            missing = self.job.complaints(state, step) if step.number > self.kill.number else []
            yield from (f"killed at {self.where}, power lost at {step}: {text}" for text in missing)


#: where a service that is killed leaves something that is written and not synced, for the next one to build on
KILLS: Mapping[str, Callable[[TracedJob], Sync]] = {
    "the commit that makes a session": lambda job: _last_before_answer(
        job, f"service fdatasync data/{DATABASE}-wal", "session"
    ),
    "the making of a plan's folder": lambda job: _first_that_settles(job, "service fsync data/segments"),
    "the making of a write-ahead log": lambda job: _syncs(job, "service fdatasync data")[-1],
}


def _syncs(job: TracedJob, site: str = "") -> list[Sync]:
    return [step for step in job.recording.steps if isinstance(step, Sync) and site in {"", step.site}]


def _last_before_answer(job: TracedJob, site: str, stage: str) -> Sync:
    return [sync for sync in _syncs(job, site) if sync.number < job.answered[stage]][-1]


def _first_that_settles(job: TracedJob, site: str) -> Sync:
    changed = {step.inode: step.number for step in reversed(job.recording.steps) if isinstance(step, Change)}
    return next(sync for sync in _syncs(job, site) if changed[sync.inode] < sync.begin)


@pytest.fixture(name="killed", scope="module")
def _killed(traced: TracedJob) -> Sequence[KilledJob]:
    kills = [(where, find(traced)) for where, find in KILLS.items()]
    return [KilledJob(where, kill, traced.killed_before(kill)) for where, kill in kills]


def _everything(_: Change) -> bool:
    return True


def _something(seed: int) -> Survives:
    """Each write, size and name survives for itself; the same one always does, or never."""
    return lambda change: bool(random.Random(f"{seed} {change.number}").getrandbits(1))


def test_the_recording_is_what_happened(traced: TracedJob) -> None:
    """Were anything written that the trace does not show, the simulated disk would not end as the real one."""
    *_, (_, disk) = moments(traced.recording)
    found = {name: file.sha256 for name, file in disk.after_power_loss(_everything).files.items()}
    assert any(name.startswith(f"{SHARED}/") for name in found)
    assert {name: digest for name, digest in traced.left.items() if not name.endswith("-shm")} == found
    kinds = Counter(type(step).__name__ for step in traced.recording.steps)
    print(f"one short job: {dict(kinds)}")


def test_what_is_not_synced_is_gone_and_nothing_promised_is_missing(traced: TracedJob) -> None:
    states = 0
    for step, state in traced.strict_moments():
        assert [] == traced.complaints(state, step), f"at {step}"
        states += 1
    print(f"count power_losses_with_nothing_unsynced_kept = {states}")


@pytest.mark.parametrize(
    ("name", "survives"),
    [
        ("kills_between_system_calls", _everything),
        *(("power_losses_with_some_unsynced_kept", _something(SEED + k)) for k in range(CHOICES)),
    ],
    ids=["everything", *(f"choice {k}" for k in range(CHOICES))],
)
def test_whatever_else_survives_nothing_promised_is_missing(
    traced: TracedJob, name: str, survives: Survives
) -> None:
    states = 0
    for position, (step, disk) in enumerate(moments(traced.recording)):
        if isinstance(step, Sync | Sent) or position % STRIDE == 0:
            assert [] == traced.complaints(disk.after_power_loss(survives), step), f"at {step}"
            states += 1
    print(f"seed {SEED}\ncount {name} = {states}")


def test_every_sync_of_ours_is_needed(traced: TracedJob, killed: Sequence[KilledJob]) -> None:
    """Each call of fsync in the code is taken out in turn; then some moment has less than was promised."""
    jobs = [traced, *(one.job for one in killed)]
    needless = []
    for site, count in Counter(sync.site for job in jobs for sync in _syncs(job)).items():
        missing = next(filter(None, (_first_complaint(job, site) for job in jobs)), "")
        print(f"{count} x {site}: {missing or 'not needed'}")
        if not missing and " fsync " in site:  # SQLite calls fdatasync
            needless.append(site)
    assert needless == []


def _first_complaint(job: TracedJob, taken_out: str) -> str:
    found = (
        job.complaints(state, step) for step, state in job.strict_moments(lambda sync: sync.site == taken_out)
    )
    return "; ".join(next(filter(None, found), []))


def test_the_service_starts_on_what_is_left_and_ends_the_job(traced: TracedJob, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    found = list(traced.strict_moments())
    for number, (step, state) in enumerate(dice.sample(found, min(STARTS, len(found)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        state.put_into(folder)
        client = traced.client_at(step)
        with Server(folder / DATA, *flags(folder / SHARED)) as server:
            asyncio.run(go_on(server, client))
            assert 0 == server.stop()
        assert traced.client.result_sha256 == client.result_sha256
        files = files_below(folder / DATA)
        rows = read_rows(files)
        assert [] == [*broken_promises(rows, files), *strays(rows, folder / DATA)], f"after {step}"
        shared = files_below(folder / SHARED)
        assert [] == [*broken_publications(rows, shared), *left_in_shared_root(rows, shared)], f"after {step}"
    print(f"seed {SEED}\ncount starts_after_a_power_loss = {min(STARTS, len(found))}")


def test_what_a_killed_service_wrote_is_synced_before_the_next_one_builds_on_it(
    traced: TracedJob, killed: Sequence[KilledJob]
) -> None:
    """Killed just before an fsync; the next service finds what was written; then the power goes."""
    kills = 0
    for one in itertools.chain(killed, _kills_before_every_sync(traced) if SOAKING else ()):
        assert [] == list(one.complaints())
        assert traced.client.result_sha256 == one.job.client.result_sha256
        kills += 1
    print(f"count power_losses_after_a_kill = {kills}")


def _kills_before_every_sync(traced: TracedJob) -> Iterator[KilledJob]:
    for sync in _syncs(traced):
        yield KilledJob(sync.site, sync, traced.killed_before(sync))
