"""Tombstones and the sweeper: no byte that nobody names is forgotten, and none that somebody names is deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.engine_under_test import (
    CALLER,
    PATIENCE_SECONDS,
    USER,
    Engine,
    Life,
    MortalBlobs,
    running_engine,
    until,
)
from engine.scripted_executor import Gate, ScriptedExecutor
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.sweeper import TOMBSTONES_PER_BATCH, Sweeper, bury
from videoprocess_server.model.records import Tombstone
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError

KEY = "0123456789abcdef" * 2


class StubbornBlobs(MortalBlobs):
    """Deletes nothing whose key is among the stuck, and holds a deletion up until a test lets it go on."""

    def __init__(self, root: Path, life: Life) -> None:
        super().__init__(root, life)
        self.stuck: set[str] = set()
        self.may_delete = threading.Event()
        self.may_delete.set()
        self.deleting = threading.Event()

    def delete(self, kind: BlobKind, key: str) -> None:
        self.deleting.set()
        assert self.may_delete.wait(PATIENCE_SECONDS)
        if key in self.stuck:
            raise PermissionError(13, "made up", key)
        super().delete(kind, key)


@pytest.fixture(name="engine")
def _engine(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers, blobs=StubbornBlobs) as engine:
        yield engine


def _blobs(engine: Engine) -> StubbornBlobs:
    assert isinstance(engine.blobs, StubbornBlobs)
    return engine.blobs


def _leave(engine: Engine, *keys: str, kind: BlobKind = BlobKind.RESULT) -> None:
    """Bytes without a row, and their tombstones."""
    with engine.repository.transaction() as tx:
        for key in keys:
            engine.blobs.append(kind, key, 0, b"bytes")
            bury(tx, kind, key, engine.clock.now_us())


def _tombstones(engine: Engine) -> list[str]:
    with engine.repository.read() as reader:
        return [tombstone.key for tombstone in reader.list_tombstones(1000)]


def test_bytes_go_and_then_their_tombstones(engine: Engine) -> None:
    for kind in (BlobKind.RESULT, BlobKind.UPLOAD):
        _leave(engine, f"{kind.value}1", f"{kind.value}2", kind=kind)
    engine.blobs.append(BlobKind.SEGMENT, "plan/one", 0, b"bytes")
    engine.blobs.append(BlobKind.SEGMENT, "plan/two", 0, b"bytes")
    _leave(engine, "plan/three", kind=BlobKind.SEGMENT)
    with engine.repository.transaction() as tx:
        bury(tx, BlobKind.SEGMENT, "plan", engine.clock.now_us())
    engine.sweeper.sweep()
    assert not any(engine.blobs.keys(kind) for kind in BlobKind)
    assert not _tombstones(engine)


def test_bytes_that_are_gone_already_cost_nothing(engine: Engine) -> None:
    with engine.repository.transaction() as tx:
        bury(tx, BlobKind.RESULT, "never there", engine.clock.now_us())
        bury(tx, BlobKind.RESULT, "never-there", engine.clock.now_us())
    engine.sweeper.sweep()
    assert _tombstones(engine) == [
        "never there"
    ]  # no key of ours: it stays to be looked at, and harms nobody


def test_what_cannot_be_deleted_keeps_nothing_else_and_goes_later(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = [f"stuck{number}" for number in range(TOMBSTONES_PER_BATCH)]
    _blobs(engine).stuck |= set(stuck)
    _leave(engine, *stuck)
    engine.clock.advance(1)
    _leave(engine, "free")
    engine.sweeper.sweep()
    engine.sweeper.sweep()
    assert sorted(engine.blobs.keys(BlobKind.RESULT)) == sorted(stuck)
    assert sorted(_tombstones(engine)) == sorted(stuck)
    assert "bytes_not_deleted" in capsys.readouterr().out
    _blobs(engine).stuck.clear()
    engine.sweeper.sweep()
    assert not engine.blobs.keys(BlobKind.RESULT)
    assert not _tombstones(engine)


def test_a_crash_between_a_row_and_its_bytes_forgets_none(engine: Engine, workers: ScriptedExecutor) -> None:
    session_id = engine.ready()
    gate = Gate()
    workers.will(1, gate)
    accepted = engine.process(session_id)
    gate.wait()
    engine.stops.interrupt(CALLER, session_id, [])
    engine.end_of(accepted)
    blobs = _blobs(engine)
    blobs.deleting.clear()
    blobs.may_delete.clear()
    removing = threading.Thread(
        target=engine.removals.remove,
        args=(CALLER, session_id, "v"),
        kwargs={"restorable": False},
        daemon=True,
    )
    removing.start()
    assert blobs.deleting.wait(PATIENCE_SECONDS)
    engine.restart()
    assert engine.video() is None
    assert len(_tombstones(engine)) == 1
    engine.housekeeping.tidy()
    assert not _tombstones(engine)
    assert not any(engine.blobs.keys(kind) for kind in BlobKind)
    blobs.may_delete.set()


def test_from_two_threads_nobody_waits_and_everything_goes(engine: Engine) -> None:
    blobs = _blobs(engine)
    _leave(engine, "one")
    blobs.deleting.clear()
    blobs.may_delete.clear()
    first = threading.Thread(target=engine.sweeper.sweep)
    first.start()
    assert blobs.deleting.wait(PATIENCE_SECONDS)
    _leave(engine, "two")
    engine.sweeper.sweep()  # returns though the first one is held up
    assert engine.blobs.keys(BlobKind.RESULT) == ["one", "two"]
    blobs.may_delete.set()
    first.join(PATIENCE_SECONDS)
    until(lambda: not engine.blobs.keys(BlobKind.RESULT))
    assert not _tombstones(engine)


def test_many_threads(engine: Engine) -> None:
    def leave_and_sweep(name: str) -> None:
        for number in range(10):
            _leave(engine, f"{name}-{number}")
            engine.sweeper.sweep()

    threads = [threading.Thread(target=leave_and_sweep, args=(name,)) for name in ("a", "b", "c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert not engine.blobs.keys(BlobKind.RESULT)
    assert not _tombstones(engine)


def test_an_upload_that_came_back_under_its_id_is_nobodys_to_delete(engine: Engine) -> None:
    _leave(engine, KEY, kind=BlobKind.UPLOAD)
    writer = engine.uploads.open(CALLER, USER, KEY, "", "", None)
    assert writer.committed_size == 0
    engine.uploads.append(writer, 0, b"new")
    engine.sweeper.sweep()
    assert not _tombstones(engine)
    assert engine.uploads.finish(writer, "").size_bytes == 3
    assert engine.blobs.keys(BlobKind.UPLOAD) == [writer.upload.key]


def test_a_store_that_takes_its_time_to_delete_an_upload_holds_no_change_up(engine: Engine) -> None:
    blobs = _blobs(engine)
    _leave(engine, KEY, kind=BlobKind.UPLOAD)
    blobs.deleting.clear()
    blobs.may_delete.clear()
    sweeping = threading.Thread(target=engine.sweeper.sweep)
    sweeping.start()
    assert blobs.deleting.wait(PATIENCE_SECONDS)
    writer = engine.uploads.open(CALLER, USER, KEY, "", "", None)  # a change, and of the same id
    engine.uploads.append(writer, 0, b"new")
    assert sweeping.is_alive()
    blobs.may_delete.set()
    sweeping.join(PATIENCE_SECONDS)
    assert engine.uploads.finish(writer, "").size_bytes == 3
    assert engine.blobs.keys(BlobKind.UPLOAD) == [writer.upload.key]


class AwayRepository:
    """A store that is away for changes."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner

    def read(self) -> object:
        return self._inner.read()

    @contextmanager
    def transaction(self) -> Iterator[Reader]:
        raise StoreUnavailableError("made up")
        yield


def test_a_store_that_is_away_fails_nobodys_call(engine: Engine) -> None:
    _leave(engine, "one")
    away = Sweeper(
        AwayRepository(engine.repository),  # type: ignore[arg-type]
        engine.blobs,
        engine.clock,
        engine.deliveries.withdraw,
    )
    away.sweep()
    assert _tombstones(engine) == ["one"]
    engine.sweeper.sweep()
    assert not _tombstones(engine)


def test_a_tombstone_of_a_kind_this_build_does_not_know_stays(engine: Engine) -> None:
    with engine.repository.transaction() as tx:
        tx.put_tombstone(Tombstone(kind="of a later version", key="k", create_time_us=1))
    _leave(engine, "one")
    engine.sweeper.sweep()
    assert _tombstones(engine) == ["k"]
    assert not engine.blobs.keys(BlobKind.RESULT)
