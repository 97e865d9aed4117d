"""A user's quota and the disk's reserve, as uploads and jobs meet them."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, OTHER_USER, USER, Engine, running_engine
from engine.scripted_executor import ScriptedExecutor
from engine.two_replicas import Pair, two_replicas
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.quotas import BELIEVED_SECONDS
from videoprocess_server.engine.source_files import UploadReference
from videoprocess_server.engine.uploads import Writer
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Upload
from videoprocess_server.model.states import UploadState
from videoprocess_server.store.repository import Repository

QUOTA = 100
UPLOAD_ID = "0123456789abcdef" * 2


@pytest.fixture(name="engine")
def _engine(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers, limits=Limits(user_quota_bytes=QUOTA)) as engine:
        yield engine


@pytest.fixture(name="pair")
def _pair(folder: Path, database: Repository) -> Iterator[Pair]:
    with two_replicas(folder, database, limits=Limits(user_quota_bytes=QUOTA)) as pair:
        yield pair


def _copied(engine: Engine) -> Upload:
    """The upload that a passed file is to become."""
    now = engine.clock.now_us()
    return Upload(
        upload_id=UPLOAD_ID, user_id=USER, state=UploadState.ACTIVE, create_time_us=now, update_time_us=now
    )


def _open(engine: Engine, size: int | None = None, user_id: int = USER, upload_id: str = "") -> Writer:
    return engine.uploads.open(CALLER, user_id, upload_id, "", "", size)


def _upload(engine: Engine, size: int, user_id: int = USER) -> str:
    data = bytes(size)
    writer = _open(engine, size, user_id)
    engine.uploads.append(writer, 0, data)
    return engine.uploads.finish(writer, hashlib.sha256(data).hexdigest()).upload_id


def test_an_upload_that_does_not_fit_is_refused_when_it_is_announced(engine: Engine) -> None:
    _upload(engine, 60)
    with pytest.raises(VideoProcessError, match="QUOTA_EXCEEDED") as refused:
        _open(engine, 41)
    assert refused.value.metadata == {"user_id": str(USER), "quota_bytes": str(QUOTA)}
    _upload(engine, 40)
    assert engine.quotas.exceeded(USER)


def test_one_that_announces_nothing_is_refused_at_the_message_that_does_not_fit(engine: Engine) -> None:
    writer = _open(engine)
    engine.uploads.append(writer, 0, bytes(60))
    with pytest.raises(VideoProcessError, match="QUOTA_EXCEEDED"):
        engine.uploads.append(writer, 60, bytes(41))
    assert engine.uploads.append(writer, 60, bytes(40)) == 100
    assert engine.uploads.finish(writer, "").size_bytes == 100


def test_unfinished_uploads_count(engine: Engine) -> None:
    first, second = _open(engine), _open(engine)
    engine.uploads.append(first, 0, bytes(60))
    engine.uploads.abandon(first)
    with pytest.raises(VideoProcessError, match="QUOTA_EXCEEDED"):
        engine.uploads.append(second, 0, bytes(41))
    engine.uploads.append(second, 0, bytes(40))


def test_unfinished_uploads_count_after_a_restart(engine: Engine) -> None:
    engine.uploads.append(_open(engine), 0, bytes(60))
    engine.restart()
    with pytest.raises(VideoProcessError, match="QUOTA_EXCEEDED"):
        _open(engine, 41)


def test_a_resumed_upload_counts_once(engine: Engine) -> None:
    engine.uploads.append(_open(engine, 90, upload_id=UPLOAD_ID), 0, bytes(60))
    writer = _open(engine, 90, upload_id=UPLOAD_ID)
    engine.uploads.append(writer, 60, bytes(30))
    assert engine.uploads.finish(writer, "").size_bytes == 90
    with pytest.raises(VideoProcessError, match="QUOTA_EXCEEDED"):
        _open(engine, 11)
    _open(engine, 10)


def test_a_whole_upload_may_be_finished_by_a_user_who_has_no_room(engine: Engine) -> None:
    engine.uploads.append(_open(engine, 60, upload_id=UPLOAD_ID), 0, bytes(60))
    _upload(engine, 40)
    assert engine.quotas.exceeded(USER)
    assert engine.uploads.finish(_open(engine, 60, upload_id=UPLOAD_ID), "").size_bytes == 60
    assert _open(engine, 60, upload_id=UPLOAD_ID).committed_size == 60


def test_a_quota_is_the_users_own(engine: Engine) -> None:
    _upload(engine, QUOTA)
    _upload(engine, QUOTA, OTHER_USER)


def test_results_count_and_removal_frees(engine: Engine) -> None:
    upload_id = _upload(engine, 50)
    session_id = engine.ready_session()
    engine.videos.prepare(CALLER, session_id, "v", [UploadReference(upload_id=upload_id)])
    (artifact,) = engine.finished(session_id).artifacts
    engine.clock.advance(BELIEVED_SECONDS)
    assert bool(engine.quotas.exceeded(USER)) == (50 + artifact.size_bytes >= QUOTA)
    with pytest.raises(VideoProcessError, match="QUOTA_EXCEEDED"):
        _open(engine, 51 - artifact.size_bytes + 50)
    engine.removals.remove(CALLER, session_id, "v", restorable=False)
    engine.clock.advance(3601)
    engine.housekeeping.tidy()
    assert not engine.quotas.exceeded(USER)
    _open(engine, QUOTA)


def test_the_trash_counts(engine: Engine) -> None:
    upload_id = _upload(engine, QUOTA)
    session_id = engine.session()
    engine.videos.prepare(CALLER, session_id, "v", [UploadReference(upload_id=upload_id)])
    engine.removals.remove(CALLER, session_id, "v", restorable=True)
    engine.clock.advance(BELIEVED_SECONDS)
    assert engine.quotas.exceeded(USER) == f"user {USER} keeps {QUOTA} of {QUOTA} bytes"
    engine.removals.remove(CALLER, session_id, "v", restorable=False)
    engine.clock.advance(BELIEVED_SECONDS)
    assert not engine.quotas.exceeded(USER)


def test_an_expired_upload_counts_no_more(engine: Engine) -> None:
    writer = _open(engine)
    engine.uploads.append(writer, 0, bytes(QUOTA))
    engine.uploads.abandon(writer)
    engine.clock.advance(25 * 3600)
    engine.housekeeping.tidy()
    _open(engine, QUOTA)


def test_a_copy_that_has_no_row_yet_counts(engine: Engine) -> None:
    engine.quotas.claim(_copied(engine), 60)
    for _ in range(2):
        engine.clock.advance(BELIEVED_SECONDS)
        with pytest.raises(VideoProcessError, match=f"user {USER} keeps 60 of"):
            _open(engine, 41)


def test_what_another_replica_finished_counts_once(pair: Pair) -> None:
    first = _open(pair.a, 90, upload_id=UPLOAD_ID)
    pair.a.uploads.append(first, 0, bytes(60))
    pair.a.uploads.abandon(first)
    second = _open(pair.b, 90, upload_id=UPLOAD_ID)
    pair.b.uploads.append(second, 60, bytes(30))
    pair.b.uploads.finish(second, "")
    pair.pass_time(BELIEVED_SECONDS)
    for engine in pair.engines:
        with pytest.raises(VideoProcessError, match=f"user {USER} keeps 90 of"):
            _open(engine, 11)
        _open(engine, 10)


def test_what_another_replica_dropped_counts_no_more(pair: Pair) -> None:
    writer = _open(pair.a)
    pair.a.uploads.append(writer, 0, bytes(QUOTA))
    pair.a.uploads.abandon(writer)
    pair.pass_time(25 * 3600)
    assert pair.b.uploads.expire() == 1
    _open(pair.a, QUOTA)


def test_an_unfinished_upload_counts_for_as_long_as_nobody_ends_it(pair: Pair) -> None:
    writer = _open(pair.a)
    pair.a.uploads.append(writer, 0, bytes(60))
    pair.a.uploads.abandon(writer)
    pair.pass_time(BELIEVED_SECONDS)
    with pytest.raises(VideoProcessError, match=f"user {USER} keeps 60 of"):
        _open(pair.a, 41)


def test_without_a_quota_nobody_is_refused(folder: Path, workers: ScriptedExecutor) -> None:
    with running_engine(folder, workers) as engine:
        _upload(engine, 10 * QUOTA)
        assert not engine.quotas.exceeded(USER)


class TestDisk:
    @pytest.fixture(name="engine")
    def _engine(self, folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
        with running_engine(folder, workers) as engine:
            yield engine

    def test_uploads_wait_while_the_reserve_is_reached(self, engine: Engine) -> None:
        writer = _open(engine)
        engine.uploads.append(writer, 0, b"before")
        engine.space_left = False
        for refused in (lambda: engine.uploads.append(writer, 6, b"x"), lambda: _open(engine)):
            with pytest.raises(VideoProcessError, match="STORAGE_FULL") as error:
                refused()
            assert error.value.retry_after_seconds
        assert engine.uploads.query(CALLER, USER, writer.upload.upload_id).committed_size == 6
        engine.space_left = True
        assert engine.uploads.append(writer, 6, b"after") == 11

    def test_what_is_larger_than_the_disk_is_refused_when_it_is_announced(self, engine: Engine) -> None:
        with pytest.raises(VideoProcessError, match="STORAGE_FULL"):
            _open(engine, engine.blobs.free_bytes() + (1 << 30))

    def test_a_whole_upload_may_be_finished_on_a_full_disk(self, engine: Engine) -> None:
        engine.uploads.append(_open(engine, 3, upload_id=UPLOAD_ID), 0, b"abc")
        engine.space_left = False
        assert engine.uploads.finish(_open(engine, 3, upload_id=UPLOAD_ID), "").size_bytes == 3


def test_streams_that_write_at_once_share_the_room_that_is_left(engine: Engine) -> None:
    writers = [_open(engine) for _ in range(8)]
    begin = threading.Barrier(len(writers))

    def write(writer: Writer) -> str:
        begin.wait()
        try:
            engine.uploads.append(writer, 0, bytes(QUOTA // 5))
        except VideoProcessError as error:
            return error.reason
        return "written"

    with ThreadPoolExecutor(len(writers)) as threads:
        answers = Counter(threads.map(write, writers))
    assert answers == {"written": 5, "QUOTA_EXCEEDED": 3}
