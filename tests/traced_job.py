"""The short job under strace: what each life of the service did to the disk, and what the client knew when."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_directory import (
    DATABASE_FILES,
    DamagedDatabaseError,
    Files,
    Rows,
    broken_promises,
    files_below,
    read_rows,
)
from service_harness import PATIENCE_SECONDS, SERVER, Server, connect
from short_job import (
    LAST_STAGE,
    SHARED,
    ShortJob,
    broken_answers,
    broken_publications,
    check_to_the_end,
    flags,
    half_done,
    short_clip,
)
from simulated_disk import DiskState, Recorder, Recording, Sent, Step, Sync, moments
from syscall_trace import Call, command, read_trace, wait_for_the_end

DATA = "data"
TRACED_SECONDS = 30.0

#: the last stage that the client is answered in a life of the service, and how that ends
Life = tuple[str, Callable[[Server], object]]
LIVES: Sequence[Life] = (
    ("process", Server.kill),
    ("process dropped", Server.stop),
    (LAST_STAGE, Server.stop),
)


@dataclass(frozen=True)
class TracedLife:
    """From a start of the service to its end."""

    calls: Sequence[Call]
    service_pid: int


@dataclass
class TracedJob:
    """One job over several lives."""

    folder: Path
    lives: Sequence[TracedLife]
    client: ShortJob
    recording: Recording
    #: of each answer, the number of the step that sent it, at the latest
    answered: Mapping[str, int]
    #: SHA-256 of the files that were there at the end
    left: Mapping[str, str]
    _rows: dict[tuple[str, ...], Rows] = field(default_factory=dict)

    def client_at(self, step: Step) -> ShortJob:
        """The client as it was when this step came."""
        client = self.client
        known = {key: answer for key, answer in client.answers.items() if self.answered[key] <= step.number}
        begun = {key: begin for key, begin in client.begun.items() if begin <= step.time_seconds}
        return ShortJob(client.clip, client.upload_id, client.request_ids, known, begun)

    def complaints(self, state: DiskState, step: Step) -> list[str]:
        """What is missing on a disk that is found when this step was about to come."""
        files = state.below(DATA)
        try:
            rows = self._rows_of(files)
        except DamagedDatabaseError as error:
            return [f"the database is damaged: {error}"]
        shared = state.below(SHARED)
        return [
            *broken_promises(rows, files),
            *broken_answers(self.client_at(step), rows),
            *broken_publications(rows, shared),
            *half_done(shared, self.client.result_sha256),
        ]

    def _rows_of(self, files: Files) -> Rows:
        key = tuple(files[name].sha256 if name in files else "" for name in DATABASE_FILES)
        if key not in self._rows:
            self._rows[key] = read_rows(files)
        return self._rows[key]

    def killed_before(self, step: Step) -> TracedJob:
        """The same job where the service is killed when this step is about to come, and the client goes on with another."""
        recorder = Recorder(self.folder / DATA, self.folder / SHARED)
        for life in self.lives:
            recorder.take_life(life.calls, life.service_pid, step.number)
        *_, (_, disk) = moments(recorder.recording)
        for name in (DATA, SHARED):
            shutil.rmtree(self.folder / name)
        disk.take(recorder.recording.steps[-1])
        disk.after_power_loss(lambda _: True).put_into(self.folder)
        return go_on_traced(self.folder, self.client_at(step), LIVES[-1:], self.lives, recorder)

    def strict_moments(
        self, taken_out: Callable[[Sync], bool] = lambda _: False
    ) -> Iterator[tuple[Step, DiskState]]:
        """What a strict disk has: it changes by a sync only, and what was promised by an answer only."""
        for step, disk in moments(self.recording, taken_out):
            if isinstance(step, Sync | Sent):
                yield step, disk.after_power_loss()


def trace_job(folder: Path) -> TracedJob:
    """Has the short job done over all lives.

    Raises:
        CannotTraceError: this machine cannot.
    """
    client = ShortJob(short_clip(folder))
    (folder / SHARED).mkdir()
    return go_on_traced(folder, client, LIVES, (), Recorder(folder / DATA, folder / SHARED))


def go_on_traced(
    folder: Path, client: ShortJob, lives: Sequence[Life], before: Sequence[TracedLife], recorder: Recorder
) -> TracedJob:
    """Has a client go on over more lives.

    Args:
        folder: where the data directory and the shared root are.
        client: as it is when the first of these lives begins.
        lives: what is to come.
        before: the lives that there were.
        recorder: of those, as far as they count.

    Raises:
        CannotTraceError: this machine cannot.
    """
    traced = list(before)
    for last_stage, end in lives:
        trace = folder / f"trace-{len(traced)}"
        with Server(folder / DATA, *flags(folder / SHARED), program=[*command(trace), *SERVER]) as server:
            life_pid = server.pid
            asyncio.run(go_on(server, client, last_stage))
            end(server)
        wait_for_the_end(trace, TRACED_SECONDS)
        traced.append(TracedLife(read_trace(trace), life_pid))
        recorder.take_life(traced[-1].calls, life_pid)
    recording = recorder.recording
    left = {
        f"{part}/{name}": file.sha256
        for part in (DATA, SHARED)
        for name, file in files_below(folder / part).items()
    }
    return TracedJob(folder, traced, client, recording, _answered(recording, client), left)


async def go_on(server: Server, client: ShortJob, last_stage: str = LAST_STAGE) -> None:
    """Has a client go on, and checks the end if it comes to it."""
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
