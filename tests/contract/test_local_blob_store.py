"""What only files can promise."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.blob_helpers import RESULT, SEGMENT, UPLOAD, WORK, content, finished, publish
from videoprocess_server.blobs.blob_store import BlobStoreFullError
from videoprocess_server.blobs.local import LocalBlobStore


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
                publish(local, work, RESULT, "artifact")
        assert content(local, RESULT, "artifact") == content(local, WORK, work) == b"whole"
        with pytest.raises(FileExistsError):
            publish(local, work, RESULT, "artifact")

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
        publish(local, work, RESULT, "artifact")
        assert synced == ["results", "."]
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

        before = threading.active_count()
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(grow, range(80))) == [20] * 80
        assert threading.active_count() <= before


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
