"""Two engines over the same rows and files, each with workers, a clock and a life of its own, and a witness of who writes what."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.engine_under_test import Engine, FakeClock, running_engine
from engine.meeting import History
from engine.scripted_executor import ScriptedExecutor
from videoprocess_server.model.records import Artifact, Job, Replica, SegmentRecord
from videoprocess_server.model.states import JobState
from videoprocess_server.store.repository import Reader, Repository, Transaction

#: ends that only who drives a job writes
_BY_DRIVERS = frozenset({JobState.COMPLETED, JobState.FAILED})


class Witness:
    """A Repository that sees what one replica writes, and whether that was its to write."""

    def __init__(self, inner: Repository, replica_id: str) -> None:
        self._inner = inner
        self.replica_id = replica_id
        #: what it wrote of jobs that it did not drive
        self.violations: list[str] = []
        #: kinds of changes that became durable
        self.changes: Counter[str] = Counter()
        self.history = History()

    def read(self) -> Any:
        return self._inner.read()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self.history.act() as act:
            with self._inner.transaction() as tx:
                witnessed = _Witnessed(tx, self)
                yield witnessed  # type: ignore[misc]
                time.sleep(act.lingers_seconds)
            act.changes = witnessed.changes
        self.changes.update(witnessed.changes)

    def ping(self) -> None:
        self._inner.ping()

    def close(self) -> None:
        """Whoever opened the inner one closes it."""


class _Witnessed:
    """A Transaction; what is not here is the inner one's."""

    def __init__(self, inner: Transaction, witness: Witness) -> None:
        self._inner = inner
        self._witness = witness
        self.changes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put_job(self, job: Job) -> None:
        before = self._inner.get_job(job.job_id)
        self._inner.put_job(job)
        if before is None or before.state is not job.state:
            self.changes[f"{before.state.value if before else 'no'} to {job.state.value}"] += 1
        if before is not None and before.state is JobState.RUNNING and job.state in _BY_DRIVERS:
            self._must_be_mine(before, job.state.value)

    def put_artifact(self, artifact: Artifact) -> None:
        job = self._inner.get_job(artifact.job_id)
        assert job is not None
        if not artifact.detached:
            self._must_be_mine(job, "artifact")
        self._inner.put_artifact(artifact)

    def lease_segments(self, plan_id: str, indices: Sequence[int], lease_token: str) -> bool:
        leased = self._inner.lease_segments(plan_id, indices, lease_token)
        if leased:
            self._must_be_mine(self._job_of(plan_id), "lease")
            self.changes["lease"] += 1
        return leased

    def finish_segment(self, segment: SegmentRecord, lease_token: str) -> bool:
        finished = self._inner.finish_segment(segment, lease_token)
        plan = self._inner.get_plan(segment.plan_id)
        if finished:
            assert plan is not None
            video = self._inner.get_video(plan.user_id, plan.video_id)
            assert video is not None
            if video.last_driver is None or video.last_driver.replica_id != self._witness.replica_id:
                self._witness.violations.append(f"finished {segment} of {video.last_driver}")
        self.changes["finish" if finished else "finish refused"] += 1
        return finished

    def release_segments(
        self, plan_id: str, *, lease_token: str | None = None, crashed_index: int | None = None
    ) -> None:
        self._inner.release_segments(plan_id, lease_token=lease_token, crashed_index=crashed_index)
        self.changes["give back" if lease_token else "give all back"] += 1

    def put_replica(self, replica: Replica) -> None:
        self._inner.put_replica(replica)
        self.changes["renew"] += 1

    def _job_of(self, plan_id: str) -> Job | None:
        plan = self._inner.get_plan(plan_id)
        assert plan is not None
        return self._inner.get_active_job(plan.user_id, plan.video_id)

    def _must_be_mine(self, job: Job | None, what: str) -> None:
        mine = self._witness.replica_id
        if job is None or job.driver is None or job.driver.replica_id != mine:
            self._witness.violations.append(f"{what} by {mine} of {job}")


@dataclass(frozen=True)
class Pair:
    """Two replicas."""

    database: Repository
    engines: tuple[Engine, Engine]
    witnesses: tuple[Witness, Witness]
    #: of the rows' server
    clock: FakeClock

    @property
    def a(self) -> Engine:
        return self.engines[0]

    @property
    def b(self) -> Engine:
        return self.engines[1]

    def pass_time(self, seconds: float) -> None:
        """Of all clocks alike."""
        for clock in (self.clock, *(engine.clock for engine in self.engines)):
            clock.advance(seconds)

    def wake(self) -> None:
        for engine in self.engines:
            engine.scheduler.wake()

    @contextmanager
    def only(self, *engines: Engine) -> Iterator[None]:
        """Jobs that are queued in here begin at these, or not at all: the others may be looking just then."""
        with pytest.MonkeyPatch.context() as patch:
            for other in self.engines:
                if other not in engines:
                    patch.setattr(other.membership, "may_drive", lambda: False)
            yield


@contextmanager
def two_replicas(
    folder: Path,
    database: Repository,
    workers: Callable[[], ScriptedExecutor] = ScriptedExecutor,
    **more: Any,
) -> Iterator[Pair]:
    clock = FakeClock()
    with ExitStack() as stack:
        witnesses = Witness(database, "a"), Witness(database, "b")
        first, second = (
            stack.enter_context(
                running_engine(
                    folder,
                    workers(),
                    database=witness,
                    replica_id=witness.replica_id,
                    server_clock=clock,
                    **more,
                )
            )
            for witness in witnesses
        )
        yield Pair(database, (first, second), witnesses, clock)


def all_rows(reader: Reader, users: Sequence[int]) -> Sequence[object]:
    """What calls could tell of these users, and the checkpoints."""
    videos = [video for user_id in users for video in reader.list_videos(user_id, limit=100)]
    return [
        videos,
        [reader.get_job(video.last_job_id) for video in videos],
        [reader.list_artifacts_of_video(video.user_id, video.video_id) for video in videos],
        [reader.list_segments(plan_id) for plan_id in reader.list_all_plan_ids()],
        [reader.list_events(user_id, 0, 10_000) for user_id in users],
    ]
