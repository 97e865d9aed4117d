"""A folder of a shared root: files come whole, under their names, and nowhere else."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from file_systems import another_file_system
from videoprocess_server.blobs import file_copy, shared_directory
from videoprocess_server.blobs.shared_directory import RootUnavailableError, SharedDirectory, rename_to_new
from videoprocess_server.blobs.shared_path import SharedPathError
from videoprocess_server.errors import CATALOGUE

IS_ROOT = os.geteuid() == 0
DATA = os.urandom(3 * 4096 + 17)
SHA256 = hashlib.sha256(DATA).hexdigest()
TEMPORARY = ".videoprocess-temporary"


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "source").write_bytes(DATA)
    fd = os.open(tmp_path / "source", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(name="root", params=["the same", "another"])
def _root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """On the file system of the source, and on another."""
    if request.param == "the same":
        (tmp_path / "root" / "folder").mkdir(parents=True)
        yield tmp_path / "root"
        return
    with another_file_system(tmp_path) as root:
        (root / "folder").mkdir()
        yield root


def _go_on() -> None:
    """Nothing stops it."""


def _bring(directory: SharedDirectory, source: int, name: str, *, replace: bool = False) -> None:
    inode = directory.create(TEMPORARY)
    directory.fill(TEMPORARY, inode, source, SHA256, _go_on)
    directory.give_name(TEMPORARY, name, replace=replace)


def _reason(call: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(SharedPathError) as caught:
        call(*arguments, **more)
    assert caught.value.reason in CATALOGUE
    return caught.value.reason


@pytest.mark.parametrize("path", ["", "folder", "./folder/."])
def test_a_file_comes_whole_and_the_temporary_name_goes(root: Path, source: int, path: str) -> None:
    with SharedDirectory(root, path) as directory:
        _bring(directory, source, "a.mp4")
        assert directory.holds("a.mp4", len(DATA), SHA256, _go_on)
        assert not directory.holds("a.mp4", len(DATA), "0" * 64, _go_on)
        assert not directory.holds("a.mp4", len(DATA) + 1, SHA256, _go_on)
        assert not directory.holds("b.mp4", len(DATA), SHA256, _go_on)
    assert [path.name for path in (root / path).iterdir() if path.is_file()] == ["a.mp4"]
    assert (root / path / "a.mp4").read_bytes() == DATA


@pytest.mark.parametrize("knows_rename", [True, False], ids=["renameat2", "link"])
def test_a_name_that_is_taken_is_never_taken_over(
    root: Path, source: int, monkeypatch: pytest.MonkeyPatch, knows_rename: bool
) -> None:
    if not knows_rename:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_more: object())
        monkeypatch.setattr(shared_directory, "is_beneath", lambda *_: True)
    monkeypatch.setattr(shared_directory, "open_folder_beneath", lambda root, _: os.open(root, os.O_RDONLY))
    (root / "file").write_text("somebody's")
    (root / "link").symlink_to("nowhere")
    with SharedDirectory(root, "") as directory:
        for name in ("file", "link", "folder"):
            assert _reason(_bring, directory, source, name) == "OUTPUT_EXISTS"
        _bring(directory, source, "new")
        _bring(directory, source, "file", replace=True)
        _bring(directory, source, "link", replace=True)
        assert _reason(_bring, directory, source, "folder", replace=True) == "OUTPUT_EXISTS"
        directory.remove(TEMPORARY)
    assert {path.name for path in root.iterdir()} == {"file", "link", "new", "folder"}
    assert all((root / name).read_bytes() == DATA for name in ("file", "link", "new"))
    assert not (root / "link").is_symlink()


def test_two_who_want_one_name_get_one_file(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    rename_to_new(fd, "one", "name")
    with pytest.raises(FileExistsError):
        rename_to_new(fd, "two", "name")
    os.close(fd)
    assert (tmp_path / "name").read_text() == "one"


def test_copying_stops_where_it_is_not_to_go_on(
    root: Path, source: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_copy, "PIECE_BYTES", 4096)
    monkeypatch.setattr(shared_directory, "SYNC_BYTES", 4096)
    left = [None] * 3
    with SharedDirectory(root, "") as directory:
        inode = directory.create(TEMPORARY)
        with pytest.raises(IndexError):
            directory.fill(TEMPORARY, inode, source, SHA256, left.pop)
    copied = (root / TEMPORARY).read_bytes()
    assert len(copied) in (4096, 2 * 4096)
    assert DATA.startswith(copied)


def test_what_the_kernel_cannot_copy_is_copied_through_memory(
    root: Path, source: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "as across file systems")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(file_copy, "PIECE_BYTES", 4096)
    with SharedDirectory(root, "") as directory:
        _bring(directory, source, "a.mp4")
    assert (root / "a.mp4").read_bytes() == DATA


def test_what_is_read_again_must_be_what_was_made(root: Path, source: int) -> None:
    with SharedDirectory(root, "") as directory:
        inode = directory.create(TEMPORARY)
        with pytest.raises(RootUnavailableError):
            directory.fill(TEMPORARY, inode, source, "0" * 64, _go_on)


def test_a_temporary_file_that_somebody_exchanged_is_not_written_to(root: Path, source: int) -> None:
    (root / "other").write_text("other")
    with SharedDirectory(root, "") as directory:
        inode = directory.create(TEMPORARY)
        (root / "other").rename(root / TEMPORARY)
        assert _reason(directory.fill, TEMPORARY, inode, source, SHA256, _go_on) == "NO_SUCH_PATH"
        (root / TEMPORARY).unlink()
        (root / TEMPORARY).symlink_to("nowhere")
        with pytest.raises((SharedPathError, RootUnavailableError)):
            directory.fill(TEMPORARY, inode, source, SHA256, _go_on)
    assert not (root / "nowhere").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_it_is(
    root: Path, source: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", full)
    with SharedDirectory(root, "") as directory:
        inode = directory.create(TEMPORARY)
        with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
            directory.fill(TEMPORARY, inode, source, SHA256, _go_on)
    assert caught.value.errno == number
    assert not isinstance(caught.value, RootUnavailableError)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none", "NO_SUCH_PATH"),
        ("file", "NO_SUCH_PATH"),
        ("..", "PATH_OUTSIDE_ROOT"),
        ("/", "PATH_OUTSIDE_ROOT"),
        ("out", "PATH_OUTSIDE_ROOT"),
        ("out/folder", "PATH_OUTSIDE_ROOT"),
        ("loop", "PATH_OUTSIDE_ROOT"),
    ],
)
@pytest.mark.parametrize("knows_openat2", [True, False])
def test_no_folder_outside_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, reason: str, knows_openat2: bool
) -> None:
    if not knows_openat2:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_more: _NoOpenat2())
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside / "folder"):
        folder.mkdir(parents=True)
    (root / "file").write_text("no folder")
    (root / "out").symlink_to("../outside")
    (root / "loop").symlink_to("loop")
    assert _reason(SharedDirectory, root, path) == reason


class _NoOpenat2:
    def syscall(self, *_: object) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1


def test_a_folder_that_was_moved_out_of_the_root_gets_no_file(tmp_path: Path, source: int) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    with SharedDirectory(root, "folder") as directory:
        (root / "folder").rename(outside)
        assert _reason(_bring, directory, source, "a.mp4") == "NO_SUCH_PATH"
        directory.remove("a.mp4")
    assert list(outside.iterdir()) == []


def test_a_root_that_is_gone_is_the_operators_matter(tmp_path: Path, source: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with SharedDirectory(root, "") as directory:
        root.rename(tmp_path / "gone")
        with pytest.raises(RootUnavailableError):
            _bring(directory, source, "a.mp4")
        directory.remove("a.mp4")
    with pytest.raises(RootUnavailableError):
        SharedDirectory(root, "")
    assert list((tmp_path / "gone").iterdir()) == []


@pytest.mark.skipif(not IS_ROOT, reason="takes another user's rights")
def test_a_folder_that_may_not_be_written_to_is_told_as_such(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name, mode in (("closed", 0o700), ("read only", 0o755)):
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)
    for folder in (root, tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        assert _reason(SharedDirectory, root, "closed") == "DIRECTORY_NOT_WRITABLE"
        with SharedDirectory(root, "read only") as directory:
            assert _reason(directory.check_writable) == "DIRECTORY_NOT_WRITABLE"
            assert _reason(directory.create, TEMPORARY) == "DIRECTORY_NOT_WRITABLE"
    finally:
        os.seteuid(0)


def test_no_descriptor_is_left(root: Path, source: int) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with SharedDirectory(root, "folder") as directory:
        _bring(directory, source, "a.mp4")
        _reason(_bring, directory, source, "a.mp4")
        directory.holds("a.mp4", len(DATA), SHA256, _go_on)
    _reason(SharedDirectory, root, "none")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
