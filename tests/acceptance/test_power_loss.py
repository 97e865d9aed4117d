"""The power goes at any moment of one short job: what fsync was not told to keep is gone, and nothing promised is missing.

The service and its workers run under strace; from every write, rename, unlink and fsync a simulated disk is rebuilt as it would
be found at each step. A kill is the same with a kinder disk, which keeps all that was written: so this has a kill at every
system call, too, also at those of FFmpeg and SQLite.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from data_directory import (
    DATABASE_FILES,
    DamagedDatabaseError,
    Files,
    Rows,
    broken_promises,
    files_below,
    read_rows,
    strays,
)
from service_harness import PATIENCE_SECONDS, SERVER, Server, connect
from short_job import FLAGS, ShortJob, broken_answers, check_to_the_end, short_clip
from simulated_disk import Change, DiskState, Recorder, Recording, Sent, Step, Survives, Sync, moments
from syscall_trace import CannotTraceError, command, read_trace, wait_for_the_end

SOAKING = "VIDEOPROCESS_SOAK" in os.environ
SEED = 20261124
STARTS = 40 if SOAKING else 3
#: different choices of what survives although nothing synced it
CHOICES = 40 if SOAKING else 2
LAST_STAGE = "events"
#: what the client is answered in each life of the service, and how that ends
LIVES: Sequence[tuple[str, Callable[[Server], object]]] = (
    ("process", Server.kill),
    ("process dropped", Server.stop),
    (LAST_STAGE, Server.stop),
)
DATA = "data"
TRACED_SECONDS = 30.0


@dataclass
class Traced:
    """One job, all that it did to the disk, and what the client knew when."""

    recording: Recording
    client: ShortJob
    #: of each answer, the number of the step that sent it, at the latest
    answered: Mapping[str, int]
    #: what was there at the end
    files: Files
    _rows: dict[tuple[str, ...], Rows] = field(default_factory=dict)

    def client_at(self, step: Step) -> ShortJob:
        """The client as it was when this step came."""
        answers = {
            stage: answer
            for stage, answer in self.client.answers.items()
            if self.answered[stage] <= step.number
        }
        begun = {stage: begin for stage, begin in self.client.begun.items() if begin <= step.time_seconds}
        return ShortJob(self.client.clip, self.client.upload_id, self.client.request_ids, answers, begun)

    def complaints(self, state: DiskState, step: Step) -> list[str]:
        """What is missing on a disk that is found after this step's moment."""
        files = state.below(DATA)
        try:
            rows = self._rows_of(files)
        except DamagedDatabaseError as error:
            return [f"the database is damaged: {error}"]
        return [*broken_promises(rows, files), *broken_answers(self.client_at(step), rows)]

    def _rows_of(self, files: Files) -> Rows:
        key = tuple(files[name].sha256 if name in files else "" for name in DATABASE_FILES)
        if key not in self._rows:
            self._rows[key] = read_rows(files)
        return self._rows[key]


@pytest.fixture(name="traced", scope="module")
def _traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """One job over three lives of the service: killed, stopped, stopped."""
    folder = tmp_path_factory.mktemp("traced")
    client = ShortJob(short_clip(folder))
    recorder = Recorder(folder / DATA)
    for number, (last_stage, end) in enumerate(LIVES):
        trace = folder / f"trace-{number}"
        try:
            program = [*command(trace), *SERVER]
        except CannotTraceError as error:
            pytest.skip(str(error))
        with Server(folder / DATA, *FLAGS, program=program) as server:
            service = server.pid
            asyncio.run(_go_on(server, client, last_stage))
            end(server)
        wait_for_the_end(trace, TRACED_SECONDS)
        recorder.take_life(read_trace(trace), service)
    recording = recorder.recording
    return Traced(recording, client, _answered(recording, client), files_below(folder / DATA))


async def _go_on(server: Server, client: ShortJob, last_stage: str) -> None:
    async with connect(server) as api, asyncio.timeout(PATIENCE_SECONDS):
        await client.go_on(api, last_stage)
        if last_stage == LAST_STAGE:
            await check_to_the_end(client, api)


def _answered(recording: Recording, client: ShortJob) -> dict[str, int]:
    """An answer had been sent, at the latest, by the last step that sent anything before it came."""
    sent = [step for step in recording.steps if isinstance(step, Sent)]
    return {
        stage: max(step.number for step in sent if step.time_seconds <= answer.time_seconds)
        for stage, answer in client.answers.items()
    }


def _moments_that_count(
    traced: Traced, taken_out: Callable[[Sync], bool] = lambda _: False
) -> Iterator[tuple[Step, DiskState]]:
    """What a strict disk has: it changes by a sync only, and what was promised by an answer only."""
    for step, disk in moments(traced.recording, taken_out):
        if isinstance(step, Sync | Sent):
            yield step, disk.after_power_loss()


def test_the_recording_is_what_happened(traced: Traced) -> None:
    """Were anything written that the trace does not show, the simulated disk would not end as the real one."""
    *_, (_, disk) = moments(traced.recording)
    found = disk.after_power_loss(lambda _: True).below(DATA)
    real = {name: file for name, file in traced.files.items() if not name.endswith("-shm")}
    assert {name: file.sha256 for name, file in real.items()} == {
        name: file.sha256 for name, file in found.items()
    }
    kinds = Counter(type(step).__name__ for step in traced.recording.steps)
    print(f"one short job: {dict(kinds)}")


def test_what_is_not_synced_is_gone_and_nothing_promised_is_missing(traced: Traced) -> None:
    states = 0
    for step, state in _moments_that_count(traced):
        assert [] == traced.complaints(state, step), f"at {step}"
        states += 1
    print(f"count power_losses_with_nothing_unsynced_kept = {states}")


def _everything(_: Change) -> bool:
    return True


def _something(seed: int) -> Survives:
    """Each write, size and name survives for itself; the same one always does, or never."""
    return lambda change: bool(random.Random(f"{seed} {change.number}").getrandbits(1))


@pytest.mark.parametrize(
    ("name", "survives"),
    [
        ("kills_between_system_calls", _everything),
        *(("power_losses_with_some_unsynced_kept", _something(SEED + k)) for k in range(CHOICES)),
    ],
    ids=["everything", *(f"choice {k}" for k in range(CHOICES))],
)
def test_whatever_else_survives_nothing_promised_is_missing(
    traced: Traced, name: str, survives: Survives
) -> None:
    states = 0
    for step, disk in moments(traced.recording):
        assert [] == traced.complaints(disk.after_power_loss(survives), step), f"at {step}"
        states += 1
    print(f"seed {SEED}\ncount {name} = {states}")


#: calls of fsync of ours that no promise needs
NEEDLESS: Mapping[str, str] = {
    "worker fsync data/work": "a joined file's first name may go: it is published under another one",
    "service fsync data/work": "a published file's first name may come back: the next start sweeps it",
}


def test_every_sync_of_ours_is_needed(traced: Traced) -> None:
    """Each call of fsync in the code is taken out in turn; then some moment has less than was promised."""
    syncs = [step for step in traced.recording.steps if isinstance(step, Sync)]
    needless = []
    for site, count in Counter(sync.site for sync in syncs).items():
        missing = _first_complaint(traced, lambda sync, site=site: sync.site == site)
        print(f"{count} x {site}: {missing or 'not needed'}")
        if not missing and " fsync " in site:  # SQLite calls fdatasync
            needless.append(site)
    assert sorted(NEEDLESS) == sorted(needless)
    alone = [bool(_first_complaint(traced, lambda sync, one=one: sync is one)) for one in syncs]
    print(
        f"of {len(syncs)} syncs {sum(alone)} are needed each for itself, the others are followed by one that does it too"
    )


def _first_complaint(traced: Traced, taken_out: Callable[[Sync], bool]) -> str:
    found = (traced.complaints(state, step) for step, state in _moments_that_count(traced, taken_out))
    return "; ".join(next(filter(None, found), []))


def test_the_service_starts_on_what_is_left_and_ends_the_job(traced: Traced, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    found = list(_moments_that_count(traced))
    for number, (step, state) in enumerate(dice.sample(found, min(STARTS, len(found)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        state.put_into(folder)
        client = traced.client_at(step)
        with Server(folder / DATA, *FLAGS) as server:
            asyncio.run(_go_on(server, client, LAST_STAGE))
            assert 0 == server.stop()
        assert traced.client.result_sha256 == client.result_sha256
        files = files_below(folder / DATA)
        rows = read_rows(files)
        assert [] == [*broken_promises(rows, files), *strays(rows, folder / DATA)], f"after {step}"
    print(f"seed {SEED}\ncount starts_after_a_power_loss = {min(STARTS, len(found))}")
