"""Uploads below the wire: who writes, what is told, and what is read again."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.engine_under_test import CALLER, USER, Engine, running_engine
from engine.scripted_executor import ScriptedExecutor
from videoprocess_server.engine import upload_digests
from videoprocess_server.engine.uploads import Writer
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.states import VideoState

UPLOAD_ID = "0123456789abcdef" * 2
DATA = bytes(range(256)) * 40


@pytest.fixture(name="engine")
def _engine(folder: Path, workers: ScriptedExecutor) -> Iterator[Engine]:
    with running_engine(folder, workers) as engine:
        yield engine


def _open(engine: Engine, video_id: str = "") -> Writer:
    return engine.uploads.open(CALLER, USER, UPLOAD_ID, "", video_id, None)


def _committed(engine: Engine) -> int:
    return engine.uploads.query(CALLER, USER, UPLOAD_ID).committed_size


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(name="reads")
def _reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of uploads are read again, piece by piece."""
    reads: list[int] = []
    pread = os.pread

    def counting(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(upload_digests.os, "pread", counting)
    return reads


def test_the_older_of_two_streams_gets_nothing_more_in(engine: Engine) -> None:
    old = _open(engine)
    engine.uploads.append(old, 0, DATA)
    new = _open(engine)
    assert len(DATA) == new.committed_size
    for late in (
        lambda: engine.uploads.append(old, len(DATA), b"late"),
        lambda: engine.uploads.finish(old, ""),
    ):
        with pytest.raises(VideoProcessError, match="UPLOAD_TAKEN_OVER"):
            late()
    engine.uploads.abandon(old)
    engine.uploads.append(new, len(DATA), b"more")
    assert engine.uploads.finish(new, _sha256(DATA + b"more")).size_bytes == len(DATA) + 4


def test_an_older_stream_does_not_empty_what_a_newer_one_has_begun(engine: Engine) -> None:
    old, new = _open(engine), _open(engine)
    engine.uploads.append(new, 0, DATA)
    with pytest.raises(VideoProcessError, match="UPLOAD_TAKEN_OVER"):
        engine.uploads.finish(old, _sha256(b""))
    assert engine.uploads.finish(new, _sha256(DATA)).size_bytes == len(DATA)


def test_a_digest_goes_on_in_another_stream_without_reading_anything(
    engine: Engine, reads: list[int]
) -> None:
    for begin in range(0, len(DATA), 1000):
        writer = _open(engine)
        engine.uploads.append(writer, begin, DATA[begin : begin + 1000])
        engine.uploads.abandon(writer)
    assert engine.uploads.finish(_open(engine), _sha256(DATA)).sha256 == _sha256(DATA)
    assert reads == []


def test_after_a_restart_what_was_there_is_read_once_however_often_it_is_finished(
    engine: Engine, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_digests, "_PIECE_BYTES", 1000)
    engine.uploads.append(_open(engine), 0, DATA)
    engine.restart()
    old, newer = _open(engine), []
    check = engine.uploads._check_fence  # what is asked between two pieces

    def taken_over(writer: Writer) -> None:
        if len(reads) == 4 and not newer:
            newer.append(_open(engine))
        check(writer)

    monkeypatch.setattr(engine.uploads, "_check_fence", taken_over)
    with pytest.raises(VideoProcessError, match="UPLOAD_TAKEN_OVER"):
        engine.uploads.finish(old, _sha256(DATA))
    assert engine.uploads.finish(newer[0], _sha256(DATA)).sha256 == _sha256(DATA)
    assert sum(reads) == len(DATA)


def test_of_a_message_that_is_being_written_nothing_is_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _open(engine)
    engine.uploads.append(writer, 0, DATA)
    append = engine.blobs.append

    def half(kind: Any, key: str, offset: int, data: bytes) -> int:
        path = engine.blobs.path(kind, key)
        append(kind, key, offset, data[: len(data) // 2])
        assert path.stat().st_size > len(DATA)
        assert _committed(engine) == len(DATA)
        os.truncate(path, offset)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(engine.blobs, "append", half)
    with pytest.raises(VideoProcessError, match="STORE_UNAVAILABLE"):
        engine.uploads.append(writer, len(DATA), DATA)
    assert _committed(engine) == len(DATA)


def test_an_upload_whose_name_was_taken_meanwhile_is_finished_under_another(engine: Engine) -> None:
    writer = _open(engine, "film")
    engine.uploads.append(writer, 0, DATA)
    other = engine.uploads.open(CALLER, USER, "f" * 32, "", "film", None)
    engine.uploads.append(other, 0, DATA)
    engine.uploads.finish(other, "")
    with pytest.raises(VideoProcessError, match="VIDEO_EXISTS"):
        engine.uploads.finish(writer, "")
    engine.uploads.finish(_open(engine, "second film"), "")
    with engine.repository.read() as reader:
        video = reader.get_video(USER, "second film")
    assert video is not None
    assert video.state is VideoState.PENDING


def test_a_finished_upload_makes_no_further_video_by_itself(engine: Engine) -> None:
    writer = _open(engine, "film")
    engine.uploads.append(writer, 0, DATA)
    finished = engine.uploads.finish(writer, "")
    assert engine.uploads.finish(_open(engine, "film"), _sha256(DATA)) == finished
    with pytest.raises(VideoProcessError, match="INVALID_FIELD"):
        _open(engine, "second film")
