"""Segments that take their time to become durable, as in S3: the worker goes on, no row is early, and who stops waits for none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine.engine_under_test import Engine, Life, MortalBlobs, running_engine, until
from engine.scripted_executor import ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreUnavailableError
from videoprocess_server.engine import scheduler
from videoprocess_server.engine.work import StopReason
from videoprocess_server.model.records import EventKind
from videoprocess_server.model.states import BlockReason, SegmentState, VideoState


class SlowBlobs(MortalBlobs):
    """Keeps segments when it is told to."""

    def __init__(self, root: Path, life: Life) -> None:
        super().__init__(root, life)
        self.asked: list[tuple[str, Future[None]]] = []
        self.is_slow = True

    def keep(self, kind: BlobKind, key: str, sha256: str) -> Future[None]:
        if kind is not BlobKind.SEGMENT or not self.is_slow:
            return super().keep(kind, key, sha256)
        kept: Future[None] = Future()
        self.asked.append((key, kept))
        return kept

    def go_on(self) -> None:
        """All is kept from now on."""
        self.is_slow = False
        for _, kept in self.asked:
            if not kept.done():
                kept.set_result(None)


def slow(engine: Engine) -> SlowBlobs:
    assert isinstance(engine.blobs, SlowBlobs)
    return engine.blobs


def states(engine: Engine) -> list[SegmentState]:
    return [row.state for row in engine.segments()]


def test_all_segments_are_made_before_one_is_durable_and_no_row_is_early(folder: Path) -> None:
    with running_engine(folder, ScriptedExecutor(worker_count=1), blobs=SlowBlobs) as engine:
        accepted = engine.process(engine.ready())
        until(lambda: len(slow(engine).asked) == 3)
        assert SegmentState.DONE not in states(engine)
        slow(engine).go_on()
        assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


def test_a_store_that_is_away_is_asked_again_and_no_segment_is_made_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = ScriptedExecutor(worker_count=1)
    with running_engine(folder, workers, blobs=SlowBlobs) as engine:
        accepted = engine.process(engine.ready())
        until(lambda: len(slow(engine).asked) == 3)
        for _, kept in slow(engine).asked[:3]:
            kept.set_exception(BlobStoreUnavailableError("away"))
        until(lambda: len(slow(engine).asked) == 6)
        assert {key for key, _ in slow(engine).asked[:3]} == {key for key, _ in slow(engine).asked[3:]}
        slow(engine).go_on()
        assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
    assert "segment_attempt_failed" not in capsys.readouterr().out


def test_an_interrupt_waits_for_nothing_that_is_being_kept(folder: Path) -> None:
    with running_engine(folder, ScriptedExecutor(worker_count=1), blobs=SlowBlobs) as engine:
        session_id = engine.ready()
        accepted = engine.process(session_id)
        until(lambda: len(slow(engine).asked) == 3)
        engine.scheduler.stop(accepted.job.job_id, StopReason.INTERRUPT)
        assert engine.end_of(accepted).kind is EventKind.ERROR
        assert SegmentState.DONE not in states(engine)
        again = engine.process(session_id)
        slow(engine).go_on()
        assert engine.end_of(again).kind is EventKind.PROCESS_DONE
        assert len(slow(engine).asked) == 3  # what was made is not made again


def test_a_kill_while_segments_are_kept_has_them_made_again(folder: Path) -> None:
    with running_engine(folder, ScriptedExecutor(worker_count=1), blobs=SlowBlobs) as engine:
        accepted = engine.process(engine.ready())
        until(lambda: len(slow(engine).asked) == 3)
        engine.restart()
        slow(engine).go_on()
        assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE


class AwayBlobs(MortalBlobs):
    """Cannot publish until it is told to come back."""

    def __init__(self, root: Path, life: Life) -> None:
        super().__init__(root, life)
        self.is_back = threading.Event()

    def publish(self, *arguments: object) -> None:
        if not self.is_back.is_set():
            raise BlobStoreUnavailableError("away")
        publish: Callable[..., None] = super().publish
        publish(*arguments)


def test_a_job_that_cannot_publish_waits_and_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PAUSE_SECONDS", 0.5)
    with running_engine(folder, blobs=AwayBlobs) as engine:
        accepted = engine.process(engine.ready())
        until(lambda: engine.blocked_by(accepted) is BlockReason.STORE_UNREACHABLE)
        assert engine.state() is not VideoState.FAILED
        assert isinstance(engine.blobs, AwayBlobs)
        engine.blobs.is_back.set()
        assert engine.end_of(accepted).kind is EventKind.PROCESS_DONE
