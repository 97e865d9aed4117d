"""What passes by itself is waited out; what was finished does not count as a crash; progress does not go back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.engine_under_test import Engine, MortalBlobs, running_engine, until
from engine.observers import READY, Statuses
from engine.scripted_executor import ScriptedExecutor, crash, fail
from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreFullError
from videoprocess_server.engine import scheduler
from videoprocess_server.engine.progress import ProgressMeter
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.records import EventKind, Phase
from videoprocess_server.model.states import BlockReason, VideoState
from videoprocess_server.model.tasks import JoinTask, Task
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError, Transaction

SEGV = -11


@pytest.fixture(name="_short_pauses", autouse=True)
def _fixture_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.1)


class FullOnce(MortalBlobs):
    """Has no space for the first result."""

    was_full = False

    def publish(self, work_key: str, kind: BlobKind, key: str, *more: Any) -> None:
        if not self.was_full:
            self.was_full = True
            raise BlobStoreFullError("no space left")
        super().publish(work_key, kind, key, *more)


def test_a_job_that_met_a_full_disk_is_tried_again_by_itself(folder: Path, workers: ScriptedExecutor) -> None:
    with running_engine(folder, workers, blobs=FullOnce) as engine:
        accepted = engine.process(engine.ready())
        assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
        assert [event.sequence for event in engine.events()] == [1]


@pytest.mark.parametrize("reason", ["STORAGE_FULL", "NO_WORKER"])
@pytest.mark.parametrize("where", [1, JoinTask])
def test_what_passes_by_itself_is_no_crash_of_the_video(
    engine: Engine, workers: ScriptedExecutor, reason: str, where: type[Task] | int
) -> None:
    workers.will(where, *[fail(reason)] * 5)
    accepted = engine.process(engine.ready())
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


class AwayOnce:
    """A store whose first view cannot be opened."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self.was_away = False

    @contextmanager
    def read(self) -> Iterator[Reader]:
        if not self.was_away:
            self.was_away = True
            raise StoreUnavailableError("away")
        with self._inner.read() as reader:
            yield reader

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._inner.transaction() as tx:
            yield tx


def test_while_the_disk_is_full_the_job_is_queued_and_says_so(
    engine: Engine, workers: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 60.0)
    workers.will(1, fail("STORAGE_FULL"))
    accepted = engine.process(engine.ready())
    until(lambda: engine.blocked_by(accepted) is BlockReason.SPACE_LIMIT)
    until(lambda: engine.state() is VideoState.QUEUED)
    assert engine.job(accepted.job.job_id).blocked_by is BlockReason.SPACE_LIMIT
    assert not engine.events()
    other = engine.process(engine.ready("other"), "other")
    assert engine.end_of(other).kind is EventKind.PROCESS_DONE
    assert engine.state() is VideoState.QUEUED


class Away:
    """A store that is away until it is told to come back."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self.is_away = True

    @contextmanager
    def read(self) -> Iterator[Reader]:
        if self.is_away:
            raise StoreUnavailableError("away")
        with self._inner.read() as reader:
            yield reader

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        if self.is_away:
            raise StoreUnavailableError("away")
        with self._inner.transaction() as tx:
            yield tx


def test_while_the_store_is_away_sessions_are_told_and_work_goes_on_when_it_is_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "RETRY_SECONDS", 0.02)
    session_id = engine.ready()
    statuses = Statuses(engine, session_id)
    away = Away(engine.scheduler._repository)
    monkeypatch.setattr(engine.scheduler, "_repository", away)
    accepted = engine.process(session_id)
    told = (SessionStatus.NOT_READY_TEMPORARILY, BlockReason.STORE_UNREACHABLE)
    until(lambda: statuses.told() == [READY, told])
    assert engine.state() is VideoState.QUEUED
    away.is_away = False
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert statuses.told() == [READY, told, READY]


def test_a_driver_waits_for_a_store_that_is_away(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session_id = engine.ready()
    durable = engine.scheduler._durable
    monkeypatch.setattr(durable, "_repository", AwayOnce(durable._repository))
    accepted = engine.process(session_id)
    assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert "driver_broke" not in capsys.readouterr().out


def test_a_worker_that_dies_with_its_work_done_has_not_crashed_on_it(
    engine: Engine, workers: ScriptedExecutor
) -> None:
    workers.will(1, crash(SEGV), crash(SEGV))
    workers.will_after(1, crash(SEGV))
    assert engine.finished(engine.ready()).kind is EventKind.PROCESS_DONE


def test_preparing_again_forgets_the_crashes(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    workers.will(1, *[crash(SEGV)] * 3)
    engine.finished(session_id)
    assert engine.state() is VideoState.ERROR
    engine.prepare(session_id, "v")
    workers.will(1, crash(SEGV))
    assert engine.finished(session_id).kind is EventKind.PROCESS_DONE


def test_percent_does_not_fall_when_an_open_segment_is_lost() -> None:
    meter = ProgressMeter()
    meter.enter(Phase.ENHANCE, 20)
    meter.open_frames("task", 10, 0.0)
    before = meter.read(0.0).percent
    meter.close_task("task")
    assert meter.read(0.0).percent == before


class SlowToCommit:
    """Says when a transaction is durable, and waits before its caller learns of it."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self.committed, self.go_on = threading.Event(), threading.Event()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        with self._inner.read() as reader:
            yield reader

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._inner.transaction() as tx:
            yield tx
        self.committed.set()
        self.go_on.wait(5)


def test_a_stop_between_a_drivers_commit_and_its_start_is_orderly(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowToCommit(engine.scheduler._repository)
    monkeypatch.setattr(engine.scheduler, "_repository", slow)
    session_id = engine.ready()
    engine.process(session_id)
    assert slow.committed.wait(5)
    threading.Timer(0.2, slow.go_on.set).start()
    engine.scheduler.close(5)
    assert engine.state() is VideoState.QUEUED
