"""Uploads at two replicas over the same rows and files: whatever one still holds, what the other one did stays."""

from __future__ import annotations

import hashlib

from engine.engine_under_test import CALLER, USER, Engine
from engine.two_replicas import Pair
from videoprocess_server.engine.uploads import Writer
from videoprocess_server.model.records import Upload
from videoprocess_server.model.states import UploadState, VideoState

UPLOAD_ID = "0123456789abcdef" * 2
DATA = b"the whole of it"
SHA256 = hashlib.sha256(DATA).hexdigest()
A_DAY_SECONDS = 24 * 3600


def _open(engine: Engine) -> Writer:
    return engine.uploads.open(CALLER, USER, UPLOAD_ID, "", "film", len(DATA))


def _row(pair: Pair) -> Upload | None:
    with pair.database.read() as reader:
        return reader.get_upload(UPLOAD_ID)


def test_the_other_one_goes_on_where_the_first_stopped(pair: Pair) -> None:
    first = _open(pair.a)
    pair.a.uploads.append(first, 0, DATA[:4])
    second = _open(pair.b)
    assert second.committed_size == 4
    pair.b.uploads.append(second, 4, DATA[4:])
    assert pair.b.uploads.finish(second, SHA256).sha256 == SHA256


def test_a_stream_that_was_left_does_not_undo_what_was_finished(pair: Pair) -> None:
    first = _open(pair.a)
    pair.a.uploads.append(first, 0, DATA[:4])
    second = _open(pair.b)
    pair.b.uploads.append(second, 4, DATA[4:])
    pair.b.uploads.finish(second, SHA256)
    pair.pass_time(1)
    pair.a.uploads.abandon(first)  # which notes in the row when it was written last
    row = _row(pair)
    assert row is not None
    assert (row.state, row.sha256) == (UploadState.FINISHED, SHA256)


def test_finished_at_both_it_is_one_upload_and_one_video(pair: Pair) -> None:
    first = _open(pair.a)
    pair.a.uploads.append(first, 0, DATA)
    second = _open(pair.b)
    one, other = pair.a.uploads.finish(first, SHA256), pair.b.uploads.finish(second, SHA256)
    assert one == other == _row(pair)
    with pair.database.read() as reader:
        video = reader.get_video(USER, "film")
    assert video is not None
    assert video.state is VideoState.PENDING


def test_what_one_dropped_the_other_does_not_bring_back(pair: Pair) -> None:
    first = _open(pair.a)
    pair.a.uploads.append(first, 0, DATA[:4])
    pair.pass_time(A_DAY_SECONDS + 1)
    assert pair.b.uploads.expire() == 1
    pair.a.uploads.abandon(first)
    assert _row(pair) is None
    anew = _open(pair.b)
    assert anew.committed_size == 0
    assert anew.upload.key != first.upload.key
