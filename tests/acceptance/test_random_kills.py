"""Killed at random moments of every phase, again and again: the same bytes, one terminal event, little made twice.

`make soak` does many runs. What one counts:

- a kill's phase is what the rows and files say that were there when it hit, not what it was aimed at;
- a kill's open segments are the rows that were LEASED then;
- a segment's attempts are its row's `attempt_count`, kept by a trigger when the row is deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import psutil
import pytest

from media_factory import shrink_clip
from post_mortem import attempts, call_witness, files, open_segments, rows
from service_harness import PATIENCE_SECONDS, USER, Server
from soaking import SOAKING
from videoprocess.v1 import job_pb2 as job
from videoprocess_client import Client, RetryPolicy
from videoprocess_client.jobs import Job, ProcessResult
from videoprocess_client.sources import stream, uploaded

pytestmark = pytest.mark.slow

#: each group is one test, so that two groups share the cores
GROUPS = 2
RUNS_PER_GROUP = 20 if SOAKING else 2
#: kills of the service, of a group that soaks; it goes on until it has them
LEAST_IN_EACH_PHASE = 3 if SOAKING else 0
MAX_RUNS_PER_GROUP = 2 * RUNS_PER_GROUP
SEED = 20263703
#: an unknown video, whose job ends after all others
MARKER = "unknown"
FLAGS = ("--segment-seconds", "0.4", "--longest-gop-seconds", "1", "--workers", "2")
FRAMES_OF_A_GOP = 10
LEAST_SEGMENTS = 12
#: slow enough for a kill to come between two messages
SECONDS_OF_A_READ = 0.03
#: from the result's name to the commit that makes it known, and a little longer
PUBLISH_SECONDS = 0.010
POLL_SECONDS = 0.0005


class Phase(IntEnum):
    """Where in a video's way a kill hits."""

    UPLOAD = 0
    ANALYZE = 1  # or before, or planning
    ENHANCE = 2
    JOIN = 3  # or verifying
    PUBLISH = 4  # or deleting what is of no more use
    END = 5


AIMS = (Phase.UPLOAD, Phase.ANALYZE, Phase.ENHANCE, Phase.JOIN, Phase.PUBLISH)


class SlowFile(io.FileIO):
    """A file that takes its time."""

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(SECONDS_OF_A_READ)
        return super().read(-1 if size is None else size)


@dataclass(frozen=True)
class Kill:
    """One kill -9."""

    phase: Phase
    victims: str
    open_segments: frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody kills, and where others begin."""

    clip: Path
    #: of a service that has been started and stopped, with a witness
    data_dir: Path
    sha256: str = ""
    segment_count: int = 0
    #: how long each phase takes
    seconds: dict[Phase, float] = field(default_factory=dict)


class Killer:
    """Aims at phases."""

    def __init__(self, server: Server, dice: random.Random, model: Undisturbed) -> None:
        self.server = server
        self.kills: list[Kill] = []
        self.job_ended = threading.Event()
        self._dice = dice
        self._model = model

    def strike(self, aim: Phase) -> None:
        """Wait until the phase has come, and a random time more; kill; start what must be started."""
        self._await(self._begin_of(aim))
        time.sleep(self._dice.uniform(0.0, self._model.seconds[aim]))
        if self.kills and (self.job_ended.is_set() or self.kills[-1].phase is Phase.END):
            return
        only_service = aim is Phase.PUBLISH or self._dice.random() < 0.6
        self.kill("service" if only_service else self._dice.choice(("workers", "both")))
        if not self.server.running:
            self.server.start()

    def kill(self, victims: str) -> None:
        """kill -9, and look at what there is then; a service that lives on is stopped meanwhile, so that no row moves."""
        if victims != "service":
            self.server.signal(signal.SIGSTOP)
            for worker in psutil.Process(self.server.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
        if victims == "workers":
            self._note(victims)
            self.server.signal(signal.SIGCONT)
        else:
            self.server.kill()
            self._note(victims)

    def _note(self, victims: str) -> None:
        data_dir = self.server.data_dir
        self.kills.append(Kill(_phase(data_dir), victims, open_segments(data_dir)))

    def _begin_of(self, aim: Phase) -> Callable[[], bool]:
        data_dir = self.server.data_dir
        begun = self._dice.randrange(1, self._model.segment_count)
        return {
            Phase.ANALYZE: lambda: True,
            Phase.ENHANCE: lambda: len(files(data_dir, "segments")) >= begun,
            Phase.JOIN: lambda: bool(files(data_dir, "work")),
            Phase.PUBLISH: lambda: bool(files(data_dir, "results")),
        }[aim]

    def _await(self, begun: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not begun() and not self.job_ended.is_set():
            assert time.monotonic() < deadline, self.server.log_path.read_text()[-5000:]
            time.sleep(POLL_SECONDS)


def _phase(data_dir: Path) -> Phase:
    """Where the service was, as its rows and files have it."""
    if not rows(data_dir, "SELECT 1 FROM uploads WHERE state = 'finished'"):
        return Phase.UPLOAD
    states = [state for (state,) in rows(data_dir, "SELECT state FROM jobs")]
    if "completed" in states:
        left = files(data_dir, "segments") or files(data_dir, "work")
        return Phase.PUBLISH if left else Phase.END
    segments = [state for (state,) in rows(data_dir, "SELECT state FROM segments")]
    if not segments:
        return Phase.ANALYZE
    if set(segments) != {"done"}:
        return Phase.ENHANCE
    verified = rows(data_dir, "SELECT 1 FROM plans WHERE stages LIKE '%verify%'")
    return Phase.PUBLISH if verified or files(data_dir, "results") else Phase.JOIN


# -- one run


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    result: ProcessResult
    sha256: str
    kills: list[Kill]
    attempts: dict[tuple[str, int], int]


async def _run(folder: Path, model: Undisturbed, dice: random.Random, aims: list[Phase]) -> Ended:
    """Upload, process and fetch the clip, with a kill for each aim."""
    data_dir = folder / "data"
    shutil.copytree(model.data_dir, data_dir)
    patience = RetryPolicy(patience_seconds=PATIENCE_SECONDS, first_contact_seconds=PATIENCE_SECONDS)
    with Server(data_dir, *FLAGS, "--listen", f"unix:{folder}/socket") as server:
        killer = Killer(server, dice, model)
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            Client(server.address, user_id=USER, retry=patience) as client,
        ):
            hearing = asyncio.create_task(_hear_all(client))
            upload_id = await _upload(client, killer, aims.count(Phase.UPLOAD))
            accepted = await _process(client, upload_id)
            waiting = asyncio.create_task(accepted.wait())
            waiting.add_done_callback(lambda _: killer.job_ended.set())
            for aim in aims:
                if aim is not Phase.UPLOAD:
                    await asyncio.to_thread(killer.strike, aim)
            result = await waiting
            sha256 = await _fetched(client, result, folder / "result.mp4")
            marker = await (await client.open_session()).process(MARKER)
            assert [(1, accepted.job_id), (2, marker.job_id)] == await hearing
        assert server.stop() == 0
    assert not files(data_dir, "segments")
    assert not files(data_dir, "work")
    assert len(files(data_dir, "results")) == 1
    return Ended(result, sha256, killer.kills, attempts(data_dir))


async def _upload(client: Client, killer: Killer, kill_count: int) -> str:
    """Upload the clip; the service is killed when a random part of it is there."""
    size = killer._model.clip.stat().st_size
    moments = sorted(killer._dice.uniform(0.0, size) for _ in range(kill_count))
    restart: asyncio.Task[Server] | None = None

    def on_progress(done: int, _total: int) -> None:
        nonlocal restart
        if moments and done >= moments[0] and (restart is None or restart.done()):
            moments.pop(0)
            killer.kill("service")
            restart = asyncio.create_task(asyncio.to_thread(killer.server.start))

    with SlowFile(killer._model.clip) as file:
        upload = await client.upload(file, on_progress=on_progress)  # type: ignore[arg-type]
    if restart is not None:
        await restart
    return upload.upload_id


async def _process(client: Client, upload_id: str) -> Job:
    session = await client.open_session()
    await session.prepare("v", uploaded(upload_id))
    await session.create_streams([stream(1)])
    await session.commit_streams()
    return await session.process("v")


async def _fetched(client: Client, result: ProcessResult, path: Path) -> str:
    artifact = result.video_artifact
    assert artifact is not None
    await client.download(artifact.artifact_id, path)
    return hashlib.sha256(await asyncio.to_thread(path.read_bytes)).hexdigest()


async def _hear_all(client: Client) -> list[tuple[int, str]]:
    """Note the numbered events of the user, whatever happens to the service, up to the marker's."""
    heard = []
    async with aclosing(client.subscribe(0)) as events:
        async for event in events:
            if event.sequence:
                heard.append((event.sequence, event.job_id))
            if event.video_id == MARKER:
                break
    return heard


# -- all of them


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    clip = folder / "dog.mp4"
    shrink_clip(clips / "dog_720p30_10s.mp4", clip, width=320, height=180, gop=FRAMES_OF_A_GOP, crf=4)
    with Server(folder / "empty") as server:
        assert server.stop() == 0
    call_witness(folder / "empty")
    model = Undisturbed(clip, folder / "empty")
    ended = asyncio.run(_run(folder, model, random.Random(SEED), []))
    report = ended.result.report
    assert set(ended.attempts.values()) == {1}
    assert len(ended.attempts) == report.segment_count >= LEAST_SEGMENTS
    took = {stage.phase: stage.wall_seconds for stage in report.stages}
    seconds = {
        Phase.ANALYZE: took[job.JOB_PHASE_ANALYZE] + took[job.JOB_PHASE_PLAN],
        Phase.ENHANCE: took[job.JOB_PHASE_ENHANCE] / report.segment_count,
        Phase.JOIN: took[job.JOB_PHASE_JOIN] + took[job.JOB_PHASE_VERIFY],
        Phase.PUBLISH: PUBLISH_SECONDS,
    }
    return Undisturbed(clip, folder / "empty", ended.sha256, report.segment_count, seconds)


def _assert_little_was_made_twice(ended: Ended, segment_count: int) -> None:
    """One plan; and a segment was begun once more only for a kill that hit it while it was open."""
    assert len(ended.attempts) == segment_count
    hit = Counter(segment for kill in ended.kills for segment in kill.open_segments)
    again = {segment: count - 1 for segment, count in ended.attempts.items() if count > 1}
    assert (
        again.items()
        <= {segment: min(again.get(segment, 0), count) for segment, count in hit.items()}.items()
    )


@dataclass
class Histogram:
    """Which phases the kills of several runs hit."""

    of_service: Counter[Phase] = field(default_factory=Counter)
    of_workers_alone: Counter[Phase] = field(default_factory=Counter)

    def add(self, kills: list[Kill]) -> None:
        for kill in kills:
            counts = self.of_workers_alone if kill.victims == "workers" else self.of_service
            counts[kill.phase] += 1

    def is_full(self) -> bool:
        return all(self.of_service[phase] >= LEAST_IN_EACH_PHASE for phase in AIMS)

    def tell(self) -> None:
        """Print it; conftest.py takes what is called a phase of a job into the results."""
        print(
            "of workers alone:", {phase.name: count for phase, count in sorted(self.of_workers_alone.items())}
        )
        print({f"JOB_PHASE_{phase.name}": count for phase, count in sorted(self.of_service.items())})


@pytest.mark.parametrize("group", range(GROUPS))
def test_kills_at_random_moments_do_not_change_a_byte(
    tmp_path: Path, undisturbed: Undisturbed, group: int
) -> None:
    histogram, run = Histogram(), 0
    while run < RUNS_PER_GROUP or not (histogram.is_full() or run == MAX_RUNS_PER_GROUP):
        seed = SEED + GROUPS * run + group
        dice = random.Random(seed)
        aims = sorted(dice.choices(AIMS, k=dice.randint(1, 5)))
        folder = tmp_path / str(run)
        folder.mkdir()
        ended = asyncio.run(_run(folder, undisturbed, dice, aims))
        print(f"seed {seed}:", ", ".join(f"{kill.victims} in {kill.phase.name}" for kill in ended.kills))
        assert ended.kills
        assert ended.sha256 == undisturbed.sha256
        _assert_little_was_made_twice(ended, undisturbed.segment_count)
        histogram.add(ended.kills)
        shutil.rmtree(folder)
        run += 1
    histogram.tell()
    assert histogram.is_full()
