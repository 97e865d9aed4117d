"""The files of a node: copies within a bound, verified, and gone with their owner."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from videoprocess_server.execution.node_files import CopyDamagedError, NodeFiles


def _put(files: NodeFiles, key: str, data: bytes, worker: int = 1, kind: str = "sources") -> str:
    files.begin(key, kind, len(data))
    files.append(key, data)
    return files.seal(worker, key, hashlib.sha256(data).hexdigest())


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> NodeFiles:
    return NodeFiles(tmp_path / "node", 100)


def test_a_copy_is_found_again(files: NodeFiles) -> None:
    path = _put(files, "a", b"content")
    assert path == files.find(2, "a")
    assert b"content" == Path(path).read_bytes()
    assert "" == files.find(2, "b")


def test_an_unfinished_copy_is_none(files: NodeFiles) -> None:
    files.begin("a", "sources", 2)
    files.append("a", b"x")
    assert "" == files.find(1, "a")


@pytest.mark.parametrize("arrived", [b"xontent", b"conten", b"contents"])
def test_other_bytes_than_were_sent_are_refused_and_removed(files: NodeFiles, arrived: bytes) -> None:
    files.begin("a", "sources", 7)
    files.append("a", arrived)
    with pytest.raises(CopyDamagedError):
        files.seal(1, "a", hashlib.sha256(b"content").hexdigest())
    assert "" == files.find(1, "a")
    assert not list((files.folder / "sources").iterdir())


def test_the_longest_unused_copies_go_first(files: NodeFiles) -> None:
    for key in "abc":
        _put(files, key, bytes(30))
    files.let_go(1)
    assert files.find(2, "a")
    files.let_go(2)
    _put(files, "d", bytes(30))
    assert [bool(files.find(3, key)) for key in "abcd"] == [True, False, True, True]


def test_what_tasks_read_stays_and_the_bound_holds(files: NodeFiles) -> None:
    _put(files, "a", bytes(60), worker=1)
    with pytest.raises(OSError, match="ray-cache-bytes") as caught:
        files.begin("b", "sources", 60)
    assert errno.ENOSPC == caught.value.errno
    assert files.find(2, "a")
    files.let_go(1)
    files.let_go(2)
    assert _put(files, "b", bytes(60))


def test_a_worker_writes_to_its_own_outputs_and_they_go_with_it(files: NodeFiles) -> None:
    _inputs, outputs = files.writable(7)
    path = files.output(7, "/data/segments/1/000000-x")
    assert Path(path).parent == Path(outputs)
    assert path != files.output(7, "/data/segments/1/000000-x")
    Path(path).write_bytes(b"0123456789")
    assert b"3456" == files.read(path, 3, 4)
    files.forget(7)
    assert not Path(outputs).exists()


def test_only_outputs_are_read_whatever_a_worker_says(files: NodeFiles, tmp_path: Path) -> None:
    _inputs, outputs = files.writable(7)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = Path(outputs) / "link"
    link.symlink_to(secret)
    for path in (secret, link, Path(outputs) / ".." / ".." / ".." / ".." / "secret"):
        with pytest.raises(PermissionError):
            files.read(str(path), 0, 6)


def test_what_a_killed_owner_left_is_removed_and_what_others_own_is_not(tmp_path: Path) -> None:
    parent = tmp_path / "node"
    owner = subprocess.run([sys.executable, "-c", _OWNER, str(parent)], capture_output=True, text=True)
    left = owner.stdout.strip()
    assert Path(left).exists()
    other = NodeFiles(parent, 1)
    assert not Path(left).exists()
    NodeFiles(parent, 1).close()
    assert [other.folder] == list(parent.iterdir())
    other.close()
    assert not list(parent.iterdir())


def test_owners_that_come_at_once_do_not_take_each_other_for_killed(tmp_path: Path) -> None:
    """Hosts of several services start on a node at the same time."""
    with ThreadPoolExecutor(8) as threads:
        owners = list(threads.map(lambda _: NodeFiles(tmp_path / "node", 1), range(200)))
    assert all((owner.folder / "outputs").is_dir() for owner in owners)
    for owner in owners:
        owner.close()


#: makes its folder, prints it and is killed
_OWNER = """
import os, sys
from pathlib import Path
from videoprocess_server.execution.node_files import NodeFiles
print(NodeFiles(Path(sys.argv[1]), 1).folder, flush=True)
os.kill(os.getpid(), 9)
"""
