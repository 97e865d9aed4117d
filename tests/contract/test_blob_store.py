"""One suite over every blob store, then what only files can promise."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, BlobStoreFullError
from videoprocess_server.blobs.local import LocalBlobStore

UPLOAD, SEGMENT, RESULT, WORK = BlobKind.UPLOAD, BlobKind.SEGMENT, BlobKind.RESULT, BlobKind.WORK


@pytest.fixture(params=[LocalBlobStore])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    make: Callable[[Path], BlobStore] = request.param
    return make(tmp_path / "data")


def content(blobs: BlobStore, kind: BlobKind, key: str) -> bytes:
    with os.fdopen(blobs.open(kind, key), "rb") as file:
        return file.read()


def finished(blobs: BlobStore, key: str, data: bytes = b"whole") -> str:
    """Write a WORK blob as a worker does."""
    blobs.path(WORK, key).write_bytes(data)
    return key


class TestEveryBlobStore:
    def test_a_blob_begins_to_exist_with_its_first_bytes(self, blobs: BlobStore) -> None:
        assert blobs.size(UPLOAD, "a") is None
        assert blobs.append(UPLOAD, "a", 0, b"one") == 3
        assert blobs.append(UPLOAD, "a", 3, b"two") == 6
        assert blobs.size(UPLOAD, "a") == 6
        assert content(blobs, UPLOAD, "a") == b"onetwo"

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(calls=st.lists(st.tuples(st.integers(0, 12), st.binary(max_size=6)), max_size=12))
    def test_bytes_only_ever_come_at_the_end(self, blobs: BlobStore, calls: list[tuple[int, bytes]]) -> None:
        blobs.delete(UPLOAD, "law")
        expected = None
        for offset, data in calls:
            if offset == len(expected or b""):
                expected = (expected or b"") + data
                assert blobs.append(UPLOAD, "law", offset, data) == len(expected)
            else:
                with pytest.raises(ValueError, match="bytes"):
                    blobs.append(UPLOAD, "law", offset, data)
            assert blobs.size(UPLOAD, "law") == (None if expected is None else len(expected))
        if expected is not None:
            assert content(blobs, UPLOAD, "law") == expected
            assert blobs.sha256(UPLOAD, "law") == hashlib.sha256(expected).hexdigest()

    def test_of_many_who_append_at_once_one_succeeds(self, blobs: BlobStore) -> None:
        def append(letter: bytes) -> bool:
            try:
                return blobs.append(UPLOAD, "race", 0, letter * 1000) == 1000
            except ValueError:
                return False

        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(append, [bytes([65 + index]) for index in range(8)]))
        assert sum(outcomes) == 1
        assert content(blobs, UPLOAD, "race") == bytes([65 + outcomes.index(True)]) * 1000

    def test_kinds_keep_their_blobs_apart(self, blobs: BlobStore) -> None:
        blobs.append(UPLOAD, "same", 0, b"upload")
        blobs.append(RESULT, "same", 0, b"result")
        assert content(blobs, UPLOAD, "same") == b"upload"
        blobs.delete(UPLOAD, "same")
        assert content(blobs, RESULT, "same") == b"result"

    def test_an_open_blob_stays_readable_after_its_deletion(self, blobs: BlobStore) -> None:
        blobs.append(RESULT, "a", 0, b"bytes")
        with os.fdopen(blobs.open(RESULT, "a"), "rb") as file:
            blobs.delete(RESULT, "a")
            assert file.read() == b"bytes"

    def test_a_descriptor_is_read_only_and_not_inherited(self, blobs: BlobStore) -> None:
        blobs.append(RESULT, "a", 0, b"bytes")
        fd = blobs.open(RESULT, "a")
        try:
            assert not os.get_inheritable(fd)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(fd, b"x")
        finally:
            os.close(fd)

    @pytest.mark.parametrize("key", ["none", "no/such/key"])
    def test_a_blob_that_is_not_there_is_said_to_be_none(self, blobs: BlobStore, key: str) -> None:
        assert blobs.size(RESULT, key) is None
        for read in (blobs.open, blobs.sha256, blobs.sync):
            with pytest.raises(FileNotFoundError):
                read(RESULT, key)
        blobs.delete(RESULT, key)

    def test_a_folder_is_no_blob(self, blobs: BlobStore) -> None:
        blobs.append(SEGMENT, "plan/one", 0, b"1")
        assert blobs.size(SEGMENT, "plan") is None
        with pytest.raises(FileNotFoundError):
            blobs.open(SEGMENT, "plan")

    def test_a_path_can_be_written_at_once(self, blobs: BlobStore) -> None:
        blobs.path(SEGMENT, "plan/attempt/000001.mp4").write_bytes(b"segment")
        assert content(blobs, SEGMENT, "plan/attempt/000001.mp4") == b"segment"
        blobs.sync(SEGMENT, "plan/attempt/000001.mp4")

    def test_publishing_moves_a_blob_to_its_name(self, blobs: BlobStore) -> None:
        blobs.publish(finished(blobs, "job/out.mp4"), RESULT, "artifact")
        assert content(blobs, RESULT, "artifact") == b"whole"
        assert blobs.size(WORK, "job/out.mp4") is None

    def test_publishing_replaces_nothing(self, blobs: BlobStore) -> None:
        blobs.append(RESULT, "artifact", 0, b"first")
        work = finished(blobs, "job")
        with pytest.raises(FileExistsError):
            blobs.publish(work, RESULT, "artifact")
        assert content(blobs, RESULT, "artifact") == b"first"
        assert blobs.size(WORK, work) == 5

    def test_publishing_nothing_is_refused(self, blobs: BlobStore) -> None:
        with pytest.raises(FileNotFoundError):
            blobs.publish("none", RESULT, "artifact")
        assert blobs.size(RESULT, "artifact") is None

    def test_of_many_who_publish_one_name_one_succeeds(self, blobs: BlobStore) -> None:
        def publish(index: int) -> bool:
            try:
                blobs.publish(finished(blobs, f"job{index}", b"%d" % index), RESULT, "artifact")
            except FileExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(publish, range(8)))
        assert sum(outcomes) == 1
        assert content(blobs, RESULT, "artifact") == b"%d" % outcomes.index(True)

    def test_keys_are_the_top_level(self, blobs: BlobStore) -> None:
        assert list(blobs.keys(SEGMENT)) == []
        for key in ("b/1", "b/2", "a", "c/d/e"):
            blobs.append(SEGMENT, key, 0, b"")
        assert list(blobs.keys(SEGMENT)) == ["a", "b", "c"]
        assert list(blobs.keys(RESULT)) == []

    def test_deleting_a_folder_deletes_what_is_in_it_and_nothing_else(self, blobs: BlobStore) -> None:
        for key in ("plan/a/1", "plan/a/2", "plan/b/1", "other"):
            blobs.append(SEGMENT, key, 0, b"")
        blobs.delete(SEGMENT, "plan/a/2")
        blobs.delete(SEGMENT, "plan/a")
        assert blobs.size(SEGMENT, "plan/b/1") == 0
        blobs.delete(SEGMENT, "plan")
        assert list(blobs.keys(SEGMENT)) == ["other"]

    def test_many_may_delete_the_same_folder(self, blobs: BlobStore) -> None:
        for index in range(200):
            blobs.append(SEGMENT, f"plan/{index % 7}/{index}", 0, b"")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: blobs.delete(SEGMENT, "plan"), range(4)))
        assert list(blobs.keys(SEGMENT)) == []

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "..",
            ".",
            "../x",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "a\0b",
            "a\nb",
            ".ping",
            "a" * 300,
            "é",
            "a\n",
        ],
    )
    def test_what_is_no_key_of_ours_is_refused(self, blobs: BlobStore, key: str) -> None:
        for use in (blobs.size, blobs.open, blobs.delete, blobs.path, blobs.sync, blobs.sha256):
            with pytest.raises(ValueError, match="no key"):
                use(UPLOAD, key)
        with pytest.raises(ValueError, match="no key"):
            blobs.append(UPLOAD, key, 0, b"")
        with pytest.raises(ValueError, match="no key"):
            blobs.publish(key, RESULT, "a")

    def test_it_tells_that_it_can_be_written(self, blobs: BlobStore) -> None:
        blobs.ping()
        assert blobs.free_bytes() > 0


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The disk has as many bytes left as the list says; writes are short in between."""
    left = [10]
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(fd, data[: min(3, left[0])], offset)
        left[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)
    return left


class TestLocalFiles:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "deep" / "data"

    @pytest.fixture
    def local(self, root: Path) -> LocalBlobStore:
        return LocalBlobStore(root)

    def test_only_the_services_user_may_look_in(self, local: LocalBlobStore, root: Path) -> None:
        local.append(UPLOAD, "folder/a", 0, b"x")
        for path in (root, root / "uploads", root / "uploads/folder"):
            assert path.stat().st_mode & 0o777 == 0o700
        assert (root / "uploads/folder/a").stat().st_mode & 0o777 == 0o600

    def test_blobs_outlive_the_store(self, local: LocalBlobStore, root: Path) -> None:
        local.append(UPLOAD, "a", 0, b"x")
        assert LocalBlobStore(root).append(UPLOAD, "a", 1, b"y") == 2

    def test_short_writes_are_continued(self, local: LocalBlobStore, full_disk: list[int]) -> None:
        assert local.append(UPLOAD, "a", 0, b"12345678") == 8
        assert content(local, UPLOAD, "a") == b"12345678"

    def test_a_full_disk_loses_nothing_that_was_there(
        self, local: LocalBlobStore, full_disk: list[int]
    ) -> None:
        local.append(UPLOAD, "a", 0, b"1234567")
        with pytest.raises(BlobStoreFullError):
            local.append(UPLOAD, "a", 7, b"too much")
        assert content(local, UPLOAD, "a") == b"1234567"
        full_disk[0] = 10
        assert local.append(UPLOAD, "a", 7, b"again") == 12

    def test_a_full_disk_leaves_no_new_blob(self, local: LocalBlobStore, full_disk: list[int]) -> None:
        with pytest.raises(BlobStoreFullError):
            local.append(UPLOAD, "a", 0, b"more than ten bytes")
        assert local.size(UPLOAD, "a") is None

    def test_another_failure_of_the_disk_is_told_as_such(
        self, local: LocalBlobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        local.append(UPLOAD, "a", 0, b"old")

        def fail(_fd: int, _data: memoryview, _offset: int) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "pwrite", fail)
        with pytest.raises(OSError, match="Input/output") as caught:
            local.append(UPLOAD, "a", 3, b"new")
        assert caught.value.errno == errno.EIO
        assert local.size(UPLOAD, "a") == 3

    def test_a_limit_of_the_kernel_counts_as_full(self, root: Path) -> None:
        program = """
import resource, signal, sys
from pathlib import Path
from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreFullError
from videoprocess_server.blobs.local import LocalBlobStore
store = LocalBlobStore(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store.append(BlobKind.UPLOAD, "a", 0, bytes(900))
try:
    store.append(BlobKind.UPLOAD, "a", 900, bytes(200))
except BlobStoreFullError:
    sys.exit(store.size(BlobKind.UPLOAD, "a") != 900)
sys.exit(2)
"""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        assert subprocess.run([sys.executable, "-c", program, str(root)], env=environment).returncode == 0

    def test_a_key_that_is_a_link_is_not_followed(
        self, local: LocalBlobStore, root: Path, tmp_path: Path
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret")
        (root / "uploads/link").symlink_to(secret)
        assert local.size(UPLOAD, "link") is None
        with pytest.raises(FileNotFoundError):
            local.open(UPLOAD, "link")
        with pytest.raises(OSError, match="symbolic"):
            local.append(UPLOAD, "link", 0, b"x")
        assert secret.read_text() == "secret"

    def test_a_crash_while_publishing_leaves_both_names(
        self, local: LocalBlobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(_path: Path, missing_ok: bool = False) -> None:
            raise KeyboardInterrupt

        work = finished(local, "job")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", crash)
            with pytest.raises(KeyboardInterrupt):
                local.publish(work, RESULT, "artifact")
        assert content(local, RESULT, "artifact") == content(local, WORK, work) == b"whole"
        with pytest.raises(FileExistsError):
            local.publish(work, RESULT, "artifact")

    def test_what_is_promised_durable_was_synced_file_first(
        self, local: LocalBlobStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        real = os.fsync

        def fsync(fd: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{fd}").readlink().relative_to(root)))
            real(fd)

        local.append(UPLOAD, "folder/a", 0, b"x")
        work = finished(local, "job/out")
        monkeypatch.setattr(os, "fsync", fsync)
        local.sync(UPLOAD, "folder/a")
        assert synced == ["uploads/folder/a", "uploads/folder", "uploads", "."]
        synced.clear()
        local.publish(work, RESULT, "artifact")
        assert synced == ["results", ".", "work/job"]
        synced.clear()
        local.path(SEGMENT, "plan/attempt/file")
        assert synced == ["segments", "segments/plan"]

    def test_a_root_that_cannot_be_written_is_told(self, local: LocalBlobStore, root: Path) -> None:
        root.rename(root.with_name("away"))
        with pytest.raises(OSError, match="No such file"):
            local.ping()

    def test_many_keys_grow_side_by_side(self, local: LocalBlobStore) -> None:
        def grow(index: int) -> int:
            return [local.append(UPLOAD, f"u{index}", step, b"x") for step in range(20)][-1]

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(grow, range(80))) == [20] * 80
        assert threading.active_count() < 20


def test_killed_at_any_instant_a_blob_is_a_prefix_of_what_was_sent(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.blobs.local import LocalBlobStore
store, size = LocalBlobStore(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    size = store.append(BlobKind.UPLOAD, "a", size, bytes((size // 1000 + step) % 251 for step in range(50)) * 20)
    print(size, flush=True)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(50):
            acknowledged = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    store = LocalBlobStore(tmp_path)
    data = content(store, UPLOAD, "a")
    assert len(data) >= int(rest[-1] if rest else acknowledged)
    whole = b"".join(
        bytes((at // 1000 + step) % 251 for step in range(50)) * 20 for at in range(0, len(data) + 1000, 1000)
    )
    assert whole.startswith(data)
    assert store.append(UPLOAD, "a", len(data), b"on it goes") == len(data) + 10
