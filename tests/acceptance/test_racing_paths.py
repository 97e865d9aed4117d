"""A process swaps folders of a shared root for links and moves them out of it, as fast as it can: nothing outside is read or written.

The racer never makes a file below the root that holds anything but PUBLIC, and none outside that holds anything but SECRET.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from soaking import SOAKING
from videoprocess_server.blobs import shared_path
from videoprocess_server.blobs.shared_directory import RootUnavailableError, SharedDirectory
from videoprocess_server.blobs.shared_path import SharedPathError, open_beneath

pytestmark = pytest.mark.slow

SECONDS = 20.0 if SOAKING else 0.7
PUBLIC, SECRET = b"public", b"secret"
DATA = b"result"
#: how long a folder that was moved out stays outside, so that others may come in between
HELD_SECONDS = 1e-5
#: below the root, and what it is exchanged for
FOLDER, FILE = "a/folder", "a/folder/file"


class _NoOpenat2:
    """A libc whose kernel does not know the call."""

    def syscall(self, *_arguments: object) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1


@pytest.fixture(name="way", params=["openat2", "step by step"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "step by step":
        monkeypatch.setattr(shared_path.ctypes, "CDLL", lambda *_args, **_more: _NoOpenat2())


def _swap_for_a_link(base: Path) -> None:
    """The folder is there, then a link to the outside is."""
    folder, aside = base / "root" / FOLDER, base / "root/a/aside"
    folder.rename(aside)
    folder.symlink_to(base / "outside")
    folder.unlink()
    aside.rename(folder)


def _swap_for_a_link_higher_up(base: Path) -> None:
    folder, aside = base / "root/a", base / "root/aside"
    folder.rename(aside)
    folder.symlink_to("../far")
    folder.unlink()
    aside.rename(folder)


def _swap_the_file(base: Path) -> None:
    file = base / "root" / FILE
    file.unlink()
    file.symlink_to(base / "outside/file")
    file.unlink()
    os.mkfifo(file)
    file.unlink()
    file.write_bytes(PUBLIC)


def _move_out(base: Path) -> None:
    """The folder leaves the root, and holds a secret as long as it is outside."""
    folder, moved = base / "root" / FOLDER, base / "moved"
    for name in ("outside", "public"):
        (base / f"{name}-next").hardlink_to(base / name / "file")
    folder.rename(moved)
    (base / "outside-next").rename(moved / "file")
    time.sleep(HELD_SECONDS)
    (base / "public-next").rename(moved / "file")
    moved.rename(folder)


def _move_out_higher_up(base: Path) -> None:
    """What is above the folder leaves, and a secret folder takes its place below."""
    above, moved, aside = base / "root/a", base / "moved", base / "aside"
    above.rename(moved)
    (moved / "folder").rename(aside)
    (base / "outside").rename(moved / "folder")
    time.sleep(HELD_SECONDS)
    (moved / "folder").rename(base / "outside")
    aside.rename(moved / "folder")
    moved.rename(above)


RACES: dict[str, Callable[[Path], None]] = {
    race.__name__.strip("_"): race
    for race in (
        _swap_for_a_link,
        _swap_for_a_link_higher_up,
        _swap_the_file,
        _move_out,
        _move_out_higher_up,
    )
}


def _race(name: str, base: Path, over: Path) -> None:
    print("begun", flush=True)
    while not over.exists():
        RACES[name](base)


@contextmanager
def _racing(name: str, base: Path) -> Iterator[None]:
    """A process of its own races until `over` is there. No multiprocessing: its resource tracker outlives the test."""
    over = base / "over"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, name, str(base), str(over)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as racer:
        assert racer.stdout is not None
        try:
            assert racer.stdout.readline() == "begun\n"
            yield
        finally:
            over.touch()
            assert racer.wait(30) == 0


@pytest.fixture(name="base")
def _base(tmp_path: Path) -> Path:
    for folder in ("root/a/folder", "outside", "far/folder", "public"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "root" / FILE).write_bytes(PUBLIC)
    (tmp_path / "public/file").write_bytes(PUBLIC)
    for folder in ("outside", "far/folder"):
        (tmp_path / folder / "file").write_bytes(SECRET)
    return tmp_path


def _read(root: Path) -> str:
    try:
        fd = open_beneath(root, FILE)
    except SharedPathError as error:
        return error.reason
    try:
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


@pytest.mark.parametrize("race", RACES)
def test_no_byte_from_outside_is_read(base: Path, race: str) -> None:
    told: Counter[str] = Counter()
    with _racing(race, base):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            told[_read(base / "root")] += 1
    print(f"{race}: {dict(told)}")
    assert SECRET.decode() not in told
    assert told.keys() - {PUBLIC.decode()}, "the racer never came in between"
    assert _read(base / "root") == PUBLIC.decode()


def _publish(root: Path, source: int, name: str) -> str:
    """As the service does it, with what it does if it fails."""
    temporary_name = f".videoprocess-{name}"
    try:
        with SharedDirectory(root, FOLDER) as directory:
            try:
                inode = directory.create(temporary_name)
                directory.fill(temporary_name, inode, source, hashlib.sha256(DATA).hexdigest(), lambda: None)
                directory.give_name(temporary_name, name, replace=False)
            except (SharedPathError, RootUnavailableError):
                directory.remove(temporary_name)
                directory.remove(name)
                raise
    except SharedPathError as error:
        return error.reason
    return "published"


@pytest.mark.parametrize("race", [name for name in RACES if name != "swap_the_file"])
def test_nothing_is_written_outside(base: Path, race: str) -> None:
    (base / "source").write_bytes(DATA)
    source = os.open(base / "source", os.O_RDONLY)
    told: Counter[str] = Counter()
    published: list[str] = []
    with _racing(race, base):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            name = f"{sum(told.values())}.mp4"
            answer = _publish(base / "root", source, name)
            told[answer] += 1
            if answer == "published":
                published.append(name)
    assert _publish(base / "root", source, "after.mp4") == "published"
    os.close(source)
    print(f"{race}: {dict(told)}")
    assert {path.name for path in (base / "outside").iterdir()} == {"file"}
    assert {path.name for path in (base / "far/folder").iterdir()} == {"file"}
    assert {path.name for path in (base / "root" / FOLDER).iterdir()} == {"file", "after.mp4", *published}
    assert all((base / "root" / FOLDER / name).read_bytes() == DATA for name in published)
    assert told.keys() - {"published"}, "the racer never came in between"


if __name__ == "__main__":
    _race(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
