"""Open files that were passed: who may use their tokens, for how long, and what becomes of the bytes."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.engine_under_test import CALLER, LIMITS, OTHER_USER, USER, Engine, running_engine
from engine.scripted_executor import ScriptedExecutor, fail
from videoprocess_server.blobs import file_copy
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.limits import Retention
from videoprocess_server.engine.passed_files import MAX_WAITING, MAX_WAITING_PER_USER
from videoprocess_server.engine.source_files import SharedReference, TokenReference
from videoprocess_server.engine.videos import VideoView
from videoprocess_server.engine.watermarks import MAX_IMAGE_BYTES
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import SourceKind
from videoprocess_server.model.settings_snapshot import ModeSetting, Watermark
from videoprocess_server.model.states import UploadState, VideoState
from videoprocess_server.model.tasks import ProbeTask

CONTENT = secrets.token_bytes(300_000)


def memory_file(content: bytes = CONTENT) -> int:
    fd = os.memfd_create("clip", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def deleted_file(folder: Path, content: bytes = CONTENT) -> int:
    path = folder / "deleted"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    path.unlink()
    return fd


def open_descriptors() -> list[str]:
    """What this process has open, but for the store's connections, which come and go."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(str(entry.readlink()))
    return sorted(name for name in found if "sqlite3" not in name)


@contextmanager
def no_descriptor_lost() -> Iterator[None]:
    before = open_descriptors()
    yield
    deadline = time.monotonic() + 5
    while (now := open_descriptors()) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert now == before


def offer(engine: Engine, fd: int, user_id: int = USER, caller: Caller = CALLER) -> TokenReference:
    return TokenReference(token=engine.passed.offer(caller, user_id, "clip.mp4", fd))


def prepare(engine: Engine, *files: TokenReference, video_id: str = "v") -> VideoView:
    session = engine.session()
    return engine.videos.prepare(CALLER, session, video_id, files)


def reason_of(call: object, *arguments: object, **named: object) -> str:
    with pytest.raises(VideoProcessError) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    return caught.value.reason


def uploads_kept(engine: Engine) -> set[str]:
    with engine.repository.read() as reader:
        rows = {upload.upload_id: upload.key for upload in reader.list_all_uploads()}
    engine.sweeper.sweep()
    assert set(rows.values()) == set(engine.blobs.keys(BlobKind.UPLOAD))
    assert not engine.blobs.keys(BlobKind.WORK)
    return set(rows)


def test_the_bytes_are_copied_and_the_offset_stays(engine: Engine) -> None:
    kept = memory_file()
    os.lseek(kept, 17, os.SEEK_SET)
    with no_descriptor_lost():
        video = prepare(engine, offer(engine, os.dup(kept))).video
    assert os.lseek(kept, 0, os.SEEK_CUR) == 17
    os.close(kept)
    assert video.source
    assert video.source.kind is SourceKind.DESCRIPTOR
    assert video.source.identity == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert (video.source.size_bytes, video.source.file_name) == (len(CONTENT), "clip.mp4")
    assert engine.blobs.path(BlobKind.UPLOAD, video.source.upload_id).read_bytes() == CONTENT
    with engine.repository.read() as reader:
        upload = reader.get_upload(video.source.upload_id)
    assert upload
    assert upload.state is UploadState.FINISHED
    assert uploads_kept(engine) == {video.source.upload_id}


def test_a_deleted_file_is_one(engine: Engine, tmp_path: Path) -> None:
    source = prepare(engine, offer(engine, deleted_file(tmp_path))).video.source
    assert source
    assert source.size_bytes == len(CONTENT)


def test_a_token_is_for_one_use(engine: Engine) -> None:
    token = offer(engine, memory_file())
    prepare(engine, token)
    assert reason_of(prepare, engine, token, video_id="w") == "UNKNOWN_FD_TOKEN"


def test_a_token_of_another_user_or_caller_is_unknown_and_stays_good(engine: Engine) -> None:
    others = offer(engine, memory_file(), user_id=OTHER_USER)
    someones = offer(engine, memory_file(), caller=replace(CALLER, identity="somebody"))
    own = offer(engine, memory_file())
    for foreign in (others, someones):
        assert reason_of(prepare, engine, own, foreign, own) == "UNKNOWN_FD_TOKEN"
    prepare(engine, own)
    assert engine.passed.take(CALLER, OTHER_USER, [others.token])[0].close() is None
    assert engine.passed.take(replace(CALLER, identity="somebody"), USER, [someones.token])[0].close() is None


def test_a_token_ends_after_its_time_and_its_file_is_closed(engine: Engine) -> None:
    with no_descriptor_lost():
        early = offer(engine, memory_file())
        engine.clock.advance(59)
        late = offer(engine, memory_file())
        engine.clock.advance(1)
        assert reason_of(prepare, engine, early) == "UNKNOWN_FD_TOKEN"
        engine.clock.advance(58)
        prepare(engine, late)
        late = offer(engine, memory_file())
        engine.clock.advance(60)
        engine.passed.expire()
    assert reason_of(prepare, engine, late) == "UNKNOWN_FD_TOKEN"


def _fifo(folder: Path) -> int:
    os.mkfifo(folder / "fifo")
    return os.open(folder / "fifo", os.O_RDWR)


def _socket(_folder: Path) -> int:
    with socket.socket(socket.AF_UNIX) as end:
        return end.detach()


def _written(folder: Path) -> int:
    return os.open(folder / "written", os.O_WRONLY | os.O_CREAT)


def _path_only(folder: Path) -> int:
    (folder / "file").write_bytes(CONTENT)
    return os.open(folder / "file", os.O_PATH)


@pytest.mark.parametrize(
    ("opened", "reason"),
    [
        (_fifo, "NOT_A_REGULAR_FILE"),
        (lambda folder: os.open(folder, os.O_RDONLY), "NOT_A_REGULAR_FILE"),
        (lambda _folder: os.open("/dev/zero", os.O_RDONLY), "NOT_A_REGULAR_FILE"),
        (_socket, "NOT_A_REGULAR_FILE"),
        (lambda _folder: os.pidfd_open(os.getpid()), "NOT_A_REGULAR_FILE"),
        (_written, "FILE_UNREADABLE"),
        (_path_only, "FILE_UNREADABLE"),
    ],
    ids=["fifo", "folder", "device", "socket", "pidfd", "write-only", "O_PATH"],
)
def test_what_is_no_readable_file_is_refused_and_closed(
    engine: Engine, tmp_path: Path, opened: object, reason: str
) -> None:
    with no_descriptor_lost():
        descriptor = opened(tmp_path)  # type: ignore[operator]
        assert reason_of(engine.passed.offer, CALLER, USER, "", descriptor) == reason


def test_files_that_wait_are_few(engine: Engine) -> None:
    with no_descriptor_lost():
        tokens = [offer(engine, memory_file(b"x")) for _ in range(MAX_WAITING_PER_USER)]
        assert reason_of(offer, engine, memory_file(b"x")) == "FD_TOKEN_LIMIT"
        for user_id in range(1000, 1000 + MAX_WAITING - len(tokens)):
            offer(engine, memory_file(b"x"), user_id=user_id)
        assert reason_of(offer, engine, memory_file(b"x"), user_id=2000) == "FD_TOKEN_LIMIT"
        engine.passed.close()
    assert reason_of(offer, engine, memory_file()) == "FD_TOKENS_UNAVAILABLE"
    assert reason_of(prepare, engine, tokens[0]) == "FD_TOKENS_UNAVAILABLE"


def test_three_files_may_be_tokens(engine: Engine) -> None:
    """The movie by two tokens, or by the same one twice; each is the same file by its bytes."""
    movie, again, last = (memory_file(content) for content in (CONTENT, CONTENT, b"input" * 100))
    video = prepare(engine, offer(engine, movie), offer(engine, again), offer(engine, last)).video
    assert video.source
    assert video.companion
    assert uploads_kept(engine) == {video.source.upload_id, video.companion.upload_id}
    token = offer(engine, memory_file())
    other = prepare(engine, token, token, token, video_id="w").video
    assert other.source
    assert other.companion is None


def test_the_same_bytes_again_change_nothing_and_leave_nothing(engine: Engine) -> None:
    first = prepare(engine, offer(engine, memory_file()))
    again = prepare(engine, offer(engine, memory_file()))
    assert again.video == first.video
    assert first.video.source
    assert uploads_kept(engine) == {first.video.source.upload_id}


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "EMPTY_FILE"), (bytes(2001), "OVER_LIMITS"), (bytes(501), "QUOTA_EXCEEDED")]
)
def test_what_may_not_be_kept_leaves_nothing(
    folder: Path, workers: ScriptedExecutor, content: bytes, reason: str
) -> None:
    limits = replace(LIMITS, max_upload_bytes=2000, user_quota_bytes=500)
    with running_engine(folder, workers, limits=limits) as engine:
        with no_descriptor_lost():
            assert reason_of(prepare, engine, offer(engine, memory_file(content))) == reason
        assert not uploads_kept(engine)
        prepare(engine, offer(engine, memory_file(bytes(500))))  # what was refused counts no more


def test_a_full_disk_refuses(engine: Engine) -> None:
    engine.space_left = False
    assert reason_of(prepare, engine, offer(engine, memory_file())) == "STORAGE_FULL"
    sparse = os.memfd_create("sparse", os.MFD_CLOEXEC)
    os.ftruncate(sparse, 1 << 39)
    engine.space_left = True
    assert reason_of(prepare, engine, offer(engine, sparse)) == "STORAGE_FULL"
    assert not uploads_kept(engine)


def test_a_file_that_is_no_video_leaves_nothing(engine: Engine, workers: ScriptedExecutor) -> None:
    workers.will(ProbeTask, fail("NOT_A_VIDEO"))
    assert reason_of(prepare, engine, offer(engine, memory_file())) == "NOT_A_VIDEO"
    assert not uploads_kept(engine)


def test_what_no_video_uses_expires_and_what_one_uses_goes_with_it(engine: Engine) -> None:
    source = prepare(engine, offer(engine, memory_file())).video.source
    assert source
    engine.clock.advance(30 * 24 * 3600)
    engine.housekeeping.tidy()
    assert uploads_kept(engine) == {source.upload_id}
    (engine.shared / "other.mp4").write_bytes(b"another")
    session = engine.session()
    engine.videos.prepare(CALLER, session, "v", [SharedReference(root="media", path="other.mp4")])
    for _ in range(3):
        engine.clock.advance(Retention().unused_uploads_us / 1_000_000 + 1)
        engine.housekeeping.tidy()
    assert not uploads_kept(engine)
    source = prepare(engine, offer(engine, memory_file()), video_id="w").video.source
    assert source
    engine.removals.remove(CALLER, engine.session(), "w", restorable=False)
    assert not uploads_kept(engine)


class Slowly:
    """Stops the copying of pieces, as a slow disk would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        copy_piece = file_copy._Copy._copy_piece

        def slow(copy: file_copy._Copy, position: int) -> None:
            self.reached.set()
            assert self.go.wait(20)
            copy_piece(copy, position)

        monkeypatch.setattr(file_copy._Copy, "_copy_piece", slow)


def test_a_file_that_changes_while_it_is_copied_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly, fd = Slowly(monkeypatch), memory_file()

    def change() -> None:
        assert slowly.reached.wait(20)
        os.pwrite(fd, b"changed", 5)
        slowly.go.set()

    thread = threading.Thread(target=change)
    thread.start()
    assert reason_of(prepare, engine, offer(engine, os.dup(fd))) == "SOURCE_CHANGED"
    thread.join()
    os.close(fd)
    assert not uploads_kept(engine)


@pytest.mark.parametrize(("hidden", "reason"), [(False, ""), (True, "SOURCE_CHANGED")])
def test_a_change_time_alone_makes_it_look_twice(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool, reason: str
) -> None:
    """A file that is deleted meanwhile is the same; one that was written, with its time set back, is not."""
    slowly, path = Slowly(monkeypatch), tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    fd = os.open(path, os.O_RDONLY)
    before = path.stat()

    def change() -> None:
        assert slowly.reached.wait(20)
        slowly.go.set()
        if hidden:
            while not (work := list(engine.blobs.path(BlobKind.WORK, "x").parent.iterdir())):
                time.sleep(0.001)
            while work[0].stat().st_size < len(CONTENT):
                time.sleep(0.001)
            with path.open("r+b") as file:
                file.write(b"changed")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        else:
            path.unlink()

    synced = os.fsync

    def sync_after_the_change(file: int) -> None:
        thread.join()
        synced(file)

    monkeypatch.setattr(file_copy.os, "fsync", sync_after_the_change)
    thread = threading.Thread(target=change)
    thread.start()
    if reason:
        assert reason_of(prepare, engine, offer(engine, fd)) == reason
        assert not uploads_kept(engine)
    else:
        assert prepare(engine, offer(engine, fd)).video.state is VideoState.PENDING


def test_a_call_that_is_over_stops_the_copy(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly, over = Slowly(monkeypatch), threading.Event()
    session, refusals = engine.session(), []

    def call() -> None:
        try:
            engine.videos.prepare(
                CALLER, session, "v", [offer(engine, memory_file(bytes(20 << 20)))], over.is_set
            )
        except VideoProcessError as error:
            refusals.append(error.reason)

    with no_descriptor_lost():
        thread = threading.Thread(target=call)
        thread.start()
        assert slowly.reached.wait(20)
        over.set()
        thread.join(20)
        assert refusals == ["DRAINING"]
        slowly.go.set()
    deadline = time.monotonic() + 5
    while engine.blobs.keys(BlobKind.WORK) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not uploads_kept(engine)


def test_a_file_that_gives_no_bytes_is_given_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread hangs and keeps one of the places; no call does."""
    slowly = Slowly(monkeypatch)
    assert reason_of(prepare, engine, offer(engine, memory_file())) == "FILE_UNREADABLE"
    slowly.go.set()
    assert prepare(engine, offer(engine, memory_file())).video.source


def test_copies_at_once_are_few(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly = Slowly(monkeypatch)
    session = engine.session()

    def call(number: int) -> None:
        with suppress(VideoProcessError):
            engine.videos.prepare(CALLER, session, f"v{number}", [offer(engine, memory_file(b"%d" % number))])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(engine.blobs.keys(BlobKind.WORK)) < 6 and time.monotonic() < deadline:
        time.sleep(0.005)
    token = offer(engine, memory_file())
    busy = reason_of(prepare, engine, token)
    slowly.go.set()
    for thread in threads:
        thread.join()
    assert busy == "PROBE_BUSY"
    assert prepare(engine, token).video.source  # it was not used up


def test_a_kill_between_bytes_and_row_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes have their name, and the service dies before their row."""
    publish = engine.blobs.publish

    def publish_and_die(work_key: str, kind: BlobKind, key: str, *more: Any) -> None:
        publish(work_key, kind, key, *more)
        engine._life.end()

    monkeypatch.setattr(engine.blobs, "publish", publish_and_die)
    threading.Thread(target=prepare, args=(engine, offer(engine, memory_file())), daemon=True).start()
    deadline = time.monotonic() + 10
    while not engine.blobs.keys(BlobKind.UPLOAD) and time.monotonic() < deadline:
        time.sleep(0.005)
    engine.restart()
    assert not uploads_kept(engine)


def test_a_watermark_may_be_a_token(engine: Engine) -> None:
    place = Watermark(image=b"", scale_factor=1.0, rotation_degrees=0, x=1, y=2, width=3, height=4)
    setting, session = ModeSetting(watermark=place), engine.session()
    read = engine.watermarks.read(CALLER, session, setting, offer(engine, memory_file(b"a picture")))
    assert read.watermark == replace(place, image=b"a picture")
    large = offer(engine, memory_file(bytes(MAX_IMAGE_BYTES + 1)))
    assert reason_of(engine.watermarks.read, CALLER, session, setting, large) == "OVER_LIMITS"
    assert not uploads_kept(engine)
