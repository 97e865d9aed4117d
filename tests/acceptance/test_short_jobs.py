"""After many short jobs the service has no more of anything than it had before them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest

from data_directory import DATABASE
from service_harness import PATIENCE_SECONDS, USER, Server
from short_job import short_clip
from soaking import SOAKING
from videoprocess_client import Client, InvalidArgument, JobAborted, stream, uploaded

pytestmark = pytest.mark.slow

JOBS = 500 if SOAKING else 8
AT_ONCE = 8
#: beside every so many jobs: one that is interrupted and removed, and a file that is no video
OTHERS_EVERY = 10
#: everything that is kept, is kept so briefly
KEPT_SECONDS = 3
RETENTION = (
    "results",
    "removed-results",
    "trash",
    "checkpoints",
    "events",
    "unfinished-uploads",
    "unused-uploads",
)
FLAGS = (
    *("--segment-seconds", "0.4", "--longest-gop-seconds", "1", "--workers", "2", "--parked-seconds", "1"),
    *("--housekeeping-seconds", "0.5", "--steady-clock-seconds", "0", "--log-level", "warning"),
    *("--max-calls-per-second-per-user", "0", "--max-calls-per-second-per-peer", "0"),
    *(part for name in RETENTION for part in (f"--keep-{name}-seconds", str(KEPT_SECONDS))),
)
MEBIBYTE = 1 << 20
#: How much more there may be. Pools have as many threads and connections as were ever needed at once, an allocator
#: keeps some of what was given back, and a database the pages of rows that are gone; none of it grows with the jobs.
MAY_GROW: Mapping[str, int] = {
    "memory_bytes": 24 * MEBIBYTE,
    "worker_memory_bytes": 48 * MEBIBYTE,
    "descriptors": 16,
    "worker_descriptors": 0,
    "threads": 8,
    "processes": 0,
    "files": 0,
    "file_bytes": 0,
    "database_bytes": MEBIBYTE // 2,
    "log_bytes": 8 * MEBIBYTE,
    "rows": 0,
}
LOOK_SECONDS = 0.5
#: one row for each user, or for the service
TABLES_THAT_STAY = {"user_counters", "service_counters", "stored_sizes"}


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What a service and its workers have."""

    memory_bytes: int
    worker_memory_bytes: int
    descriptors: int
    worker_descriptors: int
    threads: int
    processes: int
    #: without the database's
    files: int
    file_bytes: int
    database_bytes: int
    log_bytes: int
    rows: int

    @classmethod
    def of(cls, server: Server) -> Holdings:
        service = psutil.Process(server.pid)
        workers = service.children(recursive=True)
        files = [path for path in server.data_dir.rglob("*") if path.is_file()]
        database = [path for path in files if path.name.startswith(DATABASE)]
        sizes = {path.name: path.stat().st_size for path in database}
        return cls(
            memory_bytes=service.memory_info().rss,
            worker_memory_bytes=sum(worker.memory_info().rss for worker in workers),
            descriptors=service.num_fds(),
            worker_descriptors=sum(worker.num_fds() for worker in workers),
            threads=service.num_threads(),
            processes=1 + len(workers),
            files=len(files) - len(database),
            file_bytes=sum(path.stat().st_size for path in files if path not in database),
            database_bytes=sizes[DATABASE],
            log_bytes=sizes[f"{DATABASE}-wal"],
            rows=_rows(server.data_dir / DATABASE),
        )


def _rows(path: Path) -> int:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return sum(
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables
            if table not in TABLES_THAT_STAY and not table.startswith("sqlite_")
        )


def _grown(before: Holdings, after: Holdings) -> dict[str, int]:
    """What there is more of than there may be, and how much more."""
    first, last = asdict(before), asdict(after)
    more = {name: last[name] - first[name] for name in first}
    return {name: amount for name, amount in more.items() if amount > MAY_GROW[name]}


async def _settled(server: Server, before: Holdings | None = None) -> Holdings:
    """What there is once housekeeping is through; of what still shrinks, the least."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = Holdings.of(server)
        settled = not now.rows if before is None else not _grown(before, now)
        if settled or time.monotonic() > deadline:
            return now


@dataclass
class Jobs:
    """Short jobs of one user, by several clients at once."""

    client: Client
    clip: Path
    folder: Path
    #: of the first result: all others have the same
    sha256: str = ""
    done: int = 0
    others: int = 0

    async def run(self, jobs: int, at_once: int) -> None:
        numbers = iter(range(jobs))

        async def one_after_another() -> None:
            for number in numbers:
                await self._enhance(f"{at_once}-{number}")
                if number % OTHERS_EVERY == 0:
                    await self._interrupt_and_remove(f"stopped-{at_once}-{number}")
                    await self._is_refused(f"broken-{at_once}-{number}")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(one_after_another())

    async def _enhance(self, name: str) -> None:
        output = self.folder / f"{name}.mp4"
        result = await self.client.enhance(self.clip, output)
        output.unlink()
        self.sha256 = self.sha256 or result.artifact.sha256
        assert result.artifact.sha256 == self.sha256
        assert not result.kept
        self.done += 1

    async def _interrupt_and_remove(self, video_id: str) -> None:
        upload = await self.client.upload(self.clip)
        async with self.client.session() as session:
            await session.prepare(video_id, uploaded(upload.upload_id))
            await session.create_streams([stream(1)])
            await session.commit_streams()
            job = await session.process(video_id)
            await session.interrupt()
            try:
                await job.wait()
            except JobAborted:
                self.others += 1
            await session.remove(video_id)

    async def _is_refused(self, video_id: str) -> None:
        path = self.folder / f"{video_id}.mp4"
        path.write_bytes(self.clip.read_bytes()[:1000])
        upload = await self.client.upload(path)
        path.unlink()
        async with self.client.session() as session:
            with pytest.raises(InvalidArgument):
                await session.prepare(video_id, uploaded(upload.upload_id))
        self.others += 1


async def test_nothing_is_left_of_many_short_jobs(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(short_clip(tmp_path))
    with Server(tmp_path / "data", *FLAGS) as server:
        async with Client(server.address, user_id=USER) as client:
            jobs = Jobs(client, clip, tmp_path)
            await jobs.run(2 * AT_ONCE, 2 * AT_ONCE)  # pools are as large as they become
            jobs.done = jobs.others = 0
            before = await _settled(server)
            await jobs.run(JOBS, 1)
            between = await _settled(server, before)
            await jobs.run(JOBS, AT_ONCE)
            after = await _settled(server, before)
        log = server.log_path.read_text()
    assert jobs.done == 2 * JOBS
    assert jobs.others >= 2 * JOBS // OTHERS_EVERY
    for name, amount in {"jobs": jobs.done, "stopped_or_refused": jobs.others}.items():
        print(f"count {name} = {amount}")
    for when, found in {"before": before, "one_after_another": between, "at_once": after}.items():
        for name, amount in asdict(found).items():
            print(f"count {name}_{when} = {amount}")
    assert before.rows == 0
    assert not _grown(before, between)
    assert not _grown(before, after)
    assert "failed" not in log
