"""Jobs as a client of the bench runs them: processed, interrupted, watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from benches.service import ROOT_NAME, Service
from videoprocess.v1.job_pb2 import JobPhase
from videoprocess.v1.report_pb2 import ProcessReport
from videoprocess_client import (
    Client,
    Event,
    ProcessDone,
    ProcessError,
    ProgressChanged,
    Session,
    shared,
    stream,
)

#: for anything here: a bound, so that a bench ends, no goal
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Seen:
    """A terminal event and when it came."""

    event: ProcessDone | ProcessError
    monotonic_seconds: float


class Watcher:
    """Follows a user's events; remembers each job's end, and how far it has come."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ends: dict[str, asyncio.Future[Seen]] = {}
        self._frames: dict[str, int] = {}
        self._came = asyncio.Condition()

    async def end_of(self, job_id: str) -> Seen:
        """Wait for a job's terminal event."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.shield(self._future(job_id))

    async def reaches(self, job_id: str, frames: int) -> None:
        """Wait until a job tells that so many frames are enhanced, or has ended."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._came:
            await self._came.wait_for(
                lambda: self._frames.get(job_id, 0) >= frames or self._future(job_id).done()
            )

    async def follow(self) -> None:
        """Read events, without end."""
        async with aclosing(self._client.subscribe(after_sequence=0)) as events:
            async for event in events:
                self._note(event, time.monotonic())
                async with self._came:
                    self._came.notify_all()

    def _note(self, event: Event, now: float) -> None:
        if isinstance(event, ProcessDone | ProcessError):
            self._future(event.job_id).set_result(Seen(event, now))
        elif isinstance(event, ProgressChanged) and event.progress.phase >= JobPhase.JOB_PHASE_ENHANCE:
            self._frames[event.job_id] = event.progress.frames_done

    def _future(self, job_id: str) -> asyncio.Future[Seen]:
        return self._ends.setdefault(job_id, asyncio.get_running_loop().create_future())


@dataclass(frozen=True)
class Desk:
    """A client with a session that is ready to process."""

    client: Client
    session: Session
    watcher: Watcher

    async def prepare(self, video_id: str, clip_name: str) -> None:
        """Register a clip of the shared root."""
        await self.session.prepare(video_id, shared(ROOT_NAME, clip_name))

    async def process(self, video_id: str) -> str:
        """Have work accepted; returns the job's id."""
        return (await self.session.process(video_id)).job_id

    async def done(self, job_id: str) -> ProcessReport:
        """Wait for a job's result."""
        seen = await self.watcher.end_of(job_id)
        if isinstance(seen.event, ProcessError):
            raise SystemExit(f"a job failed: {seen.event.reason}: {seen.event.message}")
        return seen.event.report

    async def interrupt(self, job_id: str) -> Seen | None:
        """Interrupt the session's work and wait for the job's ABORT; None where its result came first."""
        await self.session.interrupt()
        seen = await self.watcher.end_of(job_id)
        if isinstance(seen.event, ProcessError) and seen.event.reason != "INTERRUPTED":
            raise SystemExit(f"a job failed: {seen.event.reason}: {seen.event.message}")
        return seen if isinstance(seen.event, ProcessError) else None


@asynccontextmanager
async def desk(service: Service) -> AsyncIterator[Desk]:
    """Open a session with one committed video stream, its user's events followed."""
    async with Client(service.address) as client, client.session() as session:
        await session.create_streams([stream(1)])
        await session.commit_streams()
        watcher = Watcher(client)
        following = asyncio.create_task(watcher.follow())
        try:
            yield Desk(client, session, watcher)
        finally:
            following.cancel()
            await asyncio.wait([following])


def result_sha256(report: ProcessReport) -> str:
    """Return the SHA-256 of the one video of a report."""
    (artifact,) = report.artifacts
    return artifact.sha256
