from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from videoprocess_server.blobs import shared_path
from videoprocess_server.blobs.shared_path import (
    SharedPathError,
    identity,
    is_beneath,
    open_beneath,
    open_folder_beneath,
)
from videoprocess_server.errors import CATALOGUE

IS_ROOT = os.geteuid() == 0


class _NoOpenat2:
    """A libc whose kernel refuses the call."""

    def __init__(self, number: int) -> None:
        self._number = number

    def syscall(self, *_arguments: object) -> int:
        ctypes.set_errno(self._number)
        return -1


@pytest.fixture(params=["openat2", "unknown call", "filtered call"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How paths are resolved: by the kernel at once, or step by step where it answers ENOSYS or EPERM."""
    if request.param != "openat2":
        number = errno.ENOSYS if request.param == "unknown call" else errno.EPERM
        monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_more: _NoOpenat2(number))
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path, way: str) -> Path:
    root = tmp_path / "root"
    (root / "folder" / "deeper").mkdir(parents=True)
    (root / "video.mp4").write_text("video")
    (root / "folder" / "deeper" / "clip.mp4").write_text("clip")
    (tmp_path / "secret").write_text("secret")
    return root


def read(root: Path, relative: str) -> str:
    with os.fdopen(open_beneath(root, relative)) as file:
        return file.read()


def reason(root: Path, relative: str) -> str:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(SharedPathError) as caught:
        open_beneath(root, relative)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert caught.value.reason in CATALOGUE
    return caught.value.reason


@pytest.mark.parametrize(
    ("relative", "text"),
    [("video.mp4", "video"), ("folder/deeper/clip.mp4", "clip"), ("./folder//./deeper/clip.mp4", "clip")],
)
def test_a_regular_file_below_the_root_opens(root: Path, relative: str, text: str) -> None:
    assert read(root, relative) == text


@pytest.mark.parametrize(
    "relative",
    [
        "../secret",
        "..",
        "folder/../../secret",
        "folder/../video.mp4",
        "/etc/passwd",
        "/",
        "//video.mp4",
        "a/..",
    ],
)
def test_no_name_leads_out_of_the_root(root: Path, relative: str) -> None:
    assert reason(root, relative) == "PATH_OUTSIDE_ROOT"


def test_the_absolute_name_of_a_file_inside_is_refused(root: Path) -> None:
    assert reason(root, str(root / "video.mp4")) == "PATH_OUTSIDE_ROOT"


@pytest.mark.parametrize(
    "target", ["../secret", "/etc/passwd", "/proc/self/root/etc/passwd", "/proc/self/fd/0", "link"]
)
def test_no_link_leads_out_of_the_root(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert reason(root, "link") == "PATH_OUTSIDE_ROOT"


@pytest.mark.parametrize("target", ["..", "/", "/proc/self/root", "/proc/self/cwd", "link"])
def test_no_folder_that_is_a_link_leads_out_of_the_root(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert reason(root, "link/secret") == "PATH_OUTSIDE_ROOT"


def test_a_link_that_stays_inside_is_followed_or_refused_but_never_wrong(root: Path, way: str) -> None:
    (root / "folder/link.mp4").symlink_to("../video.mp4")
    (root / "short").symlink_to("folder/deeper")
    if way == "openat2":
        assert read(root, "folder/link.mp4") == "video"
        assert read(root, "short/clip.mp4") == "clip"
    else:
        assert reason(root, "folder/link.mp4") == "PATH_OUTSIDE_ROOT"
        assert reason(root, "short/clip.mp4") == "PATH_OUTSIDE_ROOT"


def test_magic_links_are_refused_even_below_a_root_that_has_them(way: str) -> None:
    assert reason(Path("/proc/self"), "exe") == "PATH_OUTSIDE_ROOT"
    assert reason(Path("/proc/self"), "root/etc/passwd") == "PATH_OUTSIDE_ROOT"


def test_a_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert read(tmp_path / "alias", "video.mp4") == "video"


@pytest.mark.parametrize(
    "relative",
    [
        "none.mp4",
        "none/none.mp4",
        "video.mp4/more",
        "",
        "a\0b",
        "x" * 256,
        "x/" * 3000 + "x",
        "\ud800",
        "é/😀",
    ],
)
def test_what_is_not_there_is_told_as_such(root: Path, relative: str) -> None:
    assert reason(root, relative) == "NO_SUCH_PATH"


@pytest.mark.parametrize("name", ["été.mp4", "动画.mp4", "a b\tc\nd.mp4", "-rf", "\udcff.mp4", "x" * 255])
def test_any_name_a_file_system_takes_opens(root: Path, name: str) -> None:
    (root / name).write_text(ascii(name))
    assert read(root, name) == ascii(name)


@pytest.mark.parametrize("relative", ["folder", "folder/", ".", "./", "folder/deeper/."])
def test_a_folder_is_no_file(root: Path, relative: str) -> None:
    assert reason(root, relative) == "NOT_A_REGULAR_FILE"


def test_a_fifo_is_refused_without_waiting_for_its_writer(root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert reason(root, "fifo") == "NOT_A_REGULAR_FILE"


def test_a_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert reason(root, "socket") == "NOT_A_REGULAR_FILE"


@pytest.mark.parametrize("device", ["null", "zero", "tty"])
def test_a_device_is_refused(way: str, device: str) -> None:
    assert reason(Path("/dev"), device) == "NOT_A_REGULAR_FILE"


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not IS_ROOT, reason="takes another user's rights")
def test_a_file_the_service_may_not_read_is_told_as_such(root: Path, tmp_path: Path) -> None:
    for folder in (root, tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    (root / "video.mp4").chmod(0o600)
    (root / "folder").chmod(0o700)
    with as_nobody():
        assert reason(root, "video.mp4") == "FILE_UNREADABLE"
        assert reason(root, "folder/deeper/clip.mp4") == "FILE_UNREADABLE"


def test_the_descriptor_is_blocking_read_only_and_not_inherited(root: Path) -> None:
    fd = open_beneath(root, "video.mp4")
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        assert flags & os.O_ACCMODE == os.O_RDONLY
        assert not flags & os.O_NONBLOCK
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_root_that_is_gone_is_the_operators_error(tmp_path: Path, way: str) -> None:
    with pytest.raises(FileNotFoundError):
        open_beneath(tmp_path / "none", "video.mp4")


def test_an_identity_changes_with_the_file_and_only_then(root: Path) -> None:
    path = root / "video.mp4"

    def now() -> str:
        fd = open_beneath(root, "video.mp4")
        try:
            return identity(fd)
        finally:
            os.close(fd)

    first = now()
    status = path.stat()
    assert first == f"{status.st_dev}:{status.st_ino}:5:{status.st_mtime_ns}"
    path.chmod(0o640)
    assert now() == first
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = now()
    path.write_text("longer than before")
    third = now()
    path.unlink()
    (root / "other").write_text("keeps the inode")
    path.write_text("longer than before")
    assert len({first, second, third, now()}) == 4


@pytest.mark.parametrize("outside", ["other/video.mp4", "rootless/video.mp4", "root (deleted)"])
def test_what_is_opened_and_lies_elsewhere_by_then_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: str
) -> None:
    """As if a folder had been moved out of the root between two names of the path."""
    elsewhere = tmp_path / outside
    elsewhere.parent.mkdir(exist_ok=True)
    elsewhere.write_text("secret")
    monkeypatch.setattr(shared_path, "_open_below", lambda *_: os.open(elsewhere, os.O_RDONLY))
    assert reason(root, "video.mp4") == "NO_SUCH_PATH"


def test_a_file_that_is_deleted_while_it_is_opened_is_not_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_and_delete(*_: object) -> int:
        (root / "other name").hardlink_to(root / "video.mp4")
        fd = os.open(root / "video.mp4", os.O_RDONLY)
        (root / "video.mp4").unlink()
        return fd

    monkeypatch.setattr(shared_path, "_open_below", open_and_delete)
    assert reason(root, "video.mp4") == "NO_SUCH_PATH"


def test_a_name_may_end_as_the_kernel_calls_deleted_files(root: Path) -> None:
    (root / "video (deleted)").write_text("is there")
    assert read(root, "video (deleted)") == "is there"


@pytest.mark.parametrize("relative", ["", ".", "folder", "folder/", "folder/deeper/."])
def test_a_folder_below_the_root_opens(root: Path, relative: str) -> None:
    fd = open_folder_beneath(root, relative)
    try:
        assert os.path.samestat(os.fstat(fd), (root / relative).stat())
        assert is_beneath(root, fd)
        assert not is_beneath(root / "folder/deeper", fd) or relative.startswith("folder/deeper")
    finally:
        os.close(fd)


def test_a_busy_folder_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "video.mp4").write_text("video")
    real = ctypes.CDLL(None, use_errno=True)
    answers = [errno.EAGAIN, errno.EAGAIN]

    class Busy:
        def syscall(self, *arguments: object) -> int:
            if answers:
                ctypes.set_errno(answers.pop())
                return -1
            result: int = real.syscall(*arguments)
            return result

    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_more: Busy())
    assert read(tmp_path, "video.mp4") == "video"
