"""Uploads at two replicas whose bytes are in S3: what a stream leaves behind at one is among its files at hand, within their bound."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.engine_under_test import CALLER, USER, Engine, Life
from engine.two_replicas import Pair, two_replicas
from s3_server import S3Server, s3_blobs
from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine.uploads import Writer
from videoprocess_server.model.records import Upload
from videoprocess_server.store.repository import Repository

DATA = os.urandom(600)
SHA256 = hashlib.sha256(DATA).hexdigest()
#: one whole upload fits, two do not
CACHE_BYTES = 1000
UPLOAD_ID = "0123456789abcdef" * 2
A_DAY_SECONDS = 24 * 3600


@pytest.fixture(name="pair")
def _pair(
    request: pytest.FixtureRequest, folder: Path, database: Repository, s3_server: S3Server
) -> Iterator[Pair]:
    """Each with a folder of its own, as on two machines; both read and write one prefix."""
    roots = iter((folder / "at-a", folder / "at-b"))

    def blobs(_: Path, __: Life) -> BlobStore:
        return s3_blobs(request, s3_server, next(roots), prefix=folder.name, cache_bytes=CACHE_BYTES)

    with two_replicas(folder, database, blobs=blobs) as pair:
        yield pair


def _open(engine: Engine, upload_id: str = UPLOAD_ID) -> Writer:
    return engine.uploads.open(CALLER, USER, upload_id, "", "", len(DATA))


def _cut(engine: Engine, until_bytes: int) -> Writer:
    """A stream that goes on with the upload as far as that."""
    writer = _open(engine)
    engine.uploads.append(writer, writer.committed_size, DATA[writer.committed_size : until_bytes])
    engine.uploads.abandon(writer)
    return writer


def _finish(engine: Engine, upload_id: str = UPLOAD_ID) -> Upload:
    """A stream that sends what is missing, and ends the upload."""
    writer = _open(engine, upload_id)
    if writer.committed_size < len(DATA):
        engine.uploads.append(writer, writer.committed_size, DATA[writer.committed_size :])
    return engine.uploads.finish(writer, SHA256)


def _local_keys(folder: Path, name: str) -> list[str]:
    return sorted(path.name for path in (folder / name / "uploads").iterdir())


def test_what_was_cut_at_one_and_finished_at_the_other_stays_within_the_bound_of_both(
    pair: Pair, folder: Path
) -> None:
    _cut(pair.a, 500)
    done = _finish(pair.b)
    for engine, name in ((pair.a, "at-a"), (pair.b, "at-b")):
        assert _local_keys(folder, name) == [done.key]
        newer = _finish(engine, "")
        assert _local_keys(folder, name) == [newer.key]


def test_what_the_other_one_dropped_stays_within_the_bound(pair: Pair, folder: Path) -> None:
    _cut(pair.a, 500)
    pair.pass_time(A_DAY_SECONDS + 1)
    assert pair.b.uploads.expire() == 1
    pair.b.sweeper.sweep()
    newer = _finish(pair.a, "")
    assert _local_keys(folder, "at-a") == [newer.key]


@pytest.mark.parametrize("until_bytes", [500, 600])
def test_who_comes_back_while_the_file_is_at_hand_has_nothing_fetched(
    pair: Pair, s3_server: S3Server, until_bytes: int
) -> None:
    _cut(pair.a, until_bytes)
    before = len(s3_server.requests())
    done = _finish(pair.a)
    pair.a.blobs.bring(BlobKind.UPLOAD, done.key)
    assert "GetObject" not in s3_server.requests()[before:]


def test_what_is_gone_on_with_makes_no_room_for_others(pair: Pair, folder: Path) -> None:
    _cut(pair.a, 500)
    writer = _open(pair.a)
    pair.a.uploads.append(writer, 500, DATA[500:])
    newer = _finish(pair.a, "")
    assert _local_keys(folder, "at-a") == sorted([newer.key, writer.upload.key])
    assert pair.a.uploads.finish(writer, SHA256).sha256 == SHA256


@pytest.mark.parametrize("until_bytes", [500, 600])
def test_who_comes_back_when_the_file_made_room_for_others_has_the_same_bytes(
    pair: Pair, folder: Path, until_bytes: int
) -> None:
    key = _cut(pair.a, until_bytes).upload.key
    _finish(pair.a, "")
    assert key not in _local_keys(folder, "at-a")
    assert _finish(pair.a).sha256 == SHA256
    assert pair.a.blobs.bring(BlobKind.UPLOAD, key).read_bytes() == DATA
    assert pair.b.blobs.bring(BlobKind.UPLOAD, key).read_bytes() == DATA


def test_a_stream_that_ends_late_takes_no_file_from_who_reads_what_was_finished(pair: Pair) -> None:
    """It was left with bytes that are stored nowhere; the other replica's are at hand under the same name."""
    _cut(pair.b, 100)
    late = _open(pair.a)
    pair.a.uploads.append(late, 100, DATA[100:200])
    done = _finish(pair.b)
    with pair.a.blobs.using(BlobKind.UPLOAD, done.key):
        read = pair.a.blobs.bring(BlobKind.UPLOAD, done.key)
        pair.a.uploads.abandon(late)
        assert read.read_bytes() == DATA
