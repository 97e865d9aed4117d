"""Which files of a task travel, and that they arrive as they were."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.fake_worker import segment_done
from contract.sample_tasks import script
from videoprocess_server.execution.codec import RESULT_OF
from videoprocess_server.execution.executor import TaskFailedError
from videoprocess_server.execution.gateway import CallFailedError
from videoprocess_server.execution.node_files import CopyDamagedError, NodeFiles
from videoprocess_server.execution.stagers import CHUNK_BYTES, Copies, CopyingStager, SharedStager
from videoprocess_server.execution.staging import PATHS, Staged
from videoprocess_server.model.tasks import EncodeResult, MotionTask, SegmentDone

CONTENT = os.urandom(CHUNK_BYTES + 12345)


class DirectLink:
    """The way to a node that is this process. Bytes are flipped on it as often as told."""

    def __init__(self, files: NodeFiles, worker: int = 1) -> None:
        self.node = "node"
        self.files = files
        self.worker = worker
        self.flips = 0
        self.calls: list[str] = []
        self.stands = False

    def call(self, what: str, *arguments: Any) -> Any:
        method, *rest = arguments
        self.calls.append(method)
        if method == "append":
            rest[1] = self._flipped(rest[1])
        try:
            told = getattr(self.files, method)(*([self.worker] if what == "own_file" else []), *rest)
        except CopyDamagedError as error:
            raise EOFError(f"CopyDamagedError: {error}") from error
        except OSError as error:
            raise CallFailedError(str(error), error.errno or 0) from error
        return self._flipped(told) if method == "read" else told

    def go_on(self) -> None:
        """Never frozen."""

    def _flipped(self, data: bytes) -> bytes:
        if not self.flips:
            return data
        self.flips -= 1
        return bytes([data[0] ^ 1]) + data[1:]


@pytest.fixture(name="link")
def _link(tmp_path: Path) -> DirectLink:
    files = NodeFiles(tmp_path / "node", 3 * len(CONTENT))
    files.writable(1)
    return DirectLink(files)


@pytest.fixture(name="stager")
def _stager(link: DirectLink) -> CopyingStager:
    return CopyingStager(link, Copies())


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        yield file.fileno()


def _written(link: DirectLink, stager: CopyingStager) -> SegmentDone:
    """A task has written a segment on the node."""
    path = stager.place("/data/segments/0")
    Path(path).write_bytes(CONTENT)
    done = segment_done(0, path)
    return dataclasses.replace(done, size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


def test_every_path_of_every_task_is_in_the_table() -> None:
    assert set(PATHS) == set(RESULT_OF)
    for kind, paths in PATHS.items():
        named = {field.name for field in dataclasses.fields(kind) if "path" in field.name}
        if paths is not None:
            assert named == {*paths.reads, *paths.writes}, kind


def test_what_writes_files_tells_each_as_a_finished_segment() -> None:
    """Only these are fetched."""
    assert {EncodeResult} == {RESULT_OF[kind] for kind, paths in PATHS.items() if paths and paths.writes}


def test_a_source_goes_to_a_node_once(stager: CopyingStager, link: DirectLink, source: int) -> None:
    first, second = stager.fetch_source(source), stager.fetch_source(source)
    assert first == second
    assert CONTENT == Path(first).read_bytes()
    assert 2 == link.calls.count("append")


def test_a_source_that_workers_want_at_once_goes_to_a_node_once(link: DirectLink, source: int) -> None:
    copies, found = Copies(), []

    def fetch(worker: int) -> None:
        own = DirectLink(link.files, worker)
        found.append(CopyingStager(own, copies).fetch_source(source))
        link.calls += own.calls

    threads = [threading.Thread(target=fetch, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(set(found))
    assert 1 == link.calls.count("begin")


def test_a_file_that_changed_is_another(stager: CopyingStager, tmp_path: Path) -> None:
    path = tmp_path / "camera"
    path.write_bytes(b"one")
    assert b"one" == Path(stager.fetch(str(path))).read_bytes()
    path.write_bytes(b"two!")
    assert b"two!" == Path(stager.fetch(str(path))).read_bytes()


def test_a_flipped_byte_on_the_way_there_is_sent_again(
    stager: CopyingStager, link: DirectLink, source: int
) -> None:
    link.flips = 1
    assert CONTENT == Path(stager.fetch_source(source)).read_bytes()


def test_a_file_that_always_arrives_damaged_is_not_used(
    stager: CopyingStager, link: DirectLink, source: int
) -> None:
    link.flips = 100
    with pytest.raises(EOFError, match="damaged"):
        stager.fetch_source(source)
    link.flips = 0
    assert CONTENT == Path(stager.fetch_source(source)).read_bytes()


def test_a_flipped_byte_on_the_way_back_is_fetched_again(
    stager: CopyingStager, link: DirectLink, tmp_path: Path
) -> None:
    done, target = _written(link, stager), tmp_path / "segment"
    link.flips = 1
    stager.deliver(done, str(target))
    assert CONTENT == target.read_bytes()
    assert not Path(done.path).exists()


def test_a_file_that_stays_damaged_is_not_delivered(
    stager: CopyingStager, link: DirectLink, tmp_path: Path
) -> None:
    done, target = _written(link, stager), tmp_path / "segment"
    link.flips = 100
    with pytest.raises(EOFError, match="damaged"):
        stager.deliver(done, str(target))
    assert not target.exists()


def test_a_size_that_is_a_lie_ends(stager: CopyingStager, link: DirectLink, tmp_path: Path) -> None:
    done = dataclasses.replace(_written(link, stager), size_bytes=1 << 60)
    stager.deliver(done, str(tmp_path / "segment"))
    assert link.calls.count("read") <= 4


def test_a_node_without_space_is_a_full_disk(link: DirectLink, source: int) -> None:
    link.files = NodeFiles(link.files.folder / "small", 10)
    with pytest.raises(TaskFailedError) as caught:
        CopyingStager(link, Copies()).fetch_source(source)
    assert "STORAGE_FULL" == caught.value.reason


def test_a_task_is_told_its_nodes_paths_and_tells_the_services(
    stager: CopyingStager, link: DirectLink, tmp_path: Path, source: int
) -> None:
    own = tmp_path / "segment"
    task = script(str(own))
    staged = Staged(stager, task, source)
    (there,) = staged.task.output_paths  # type: ignore[union-attr]
    assert there.startswith(str(link.files.folder))
    assert CONTENT == Path(staged.source).read_bytes()
    Path(there).write_bytes(CONTENT)
    done = dataclasses.replace(
        segment_done(0, there), size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    assert dataclasses.replace(done, path=str(own)) == staged.told(done)
    assert CONTENT == own.read_bytes()
    told = staged.told(EncodeResult(segments=(done,), cpu_seconds=0))
    assert isinstance(told, EncodeResult)
    assert [str(own)] == [one.path for one in told.segments]


def test_a_shared_directory_moves_nothing_but_what_lies_elsewhere(
    stager: CopyingStager, link: DirectLink, tmp_path: Path, source: int
) -> None:
    data = tmp_path / "data"
    (data / "uploads").mkdir(parents=True)
    (data / "uploads" / "u").write_bytes(b"upload")
    shared = SharedStager(data, Path("/mnt/data"), stager)
    task = MotionTask(
        plan=script().plan, segments=script().segments, output_paths=(str(data / "segments/1/0"),)
    )
    with (data / "uploads" / "u").open("rb") as upload:
        staged = Staged(shared, task, upload.fileno())
    assert "/mnt/data/uploads/u" == staged.source
    assert ("/mnt/data/segments/1/0",) == staged.task.output_paths  # type: ignore[union-attr]
    assert not {"begin", "output"} & set(link.calls)
    assert CONTENT == Path(shared.fetch_source(source)).read_bytes()


def test_a_shared_file_that_is_not_seen_here_as_it_was_written_is_not_told(
    stager: CopyingStager, tmp_path: Path
) -> None:
    own = tmp_path / "segment"
    own.write_bytes(b"12")
    with pytest.raises(EOFError, match="data directory"):
        SharedStager(tmp_path, Path("/mnt/data"), stager).deliver(segment_done(0, "there"), str(own))


def test_a_source_that_another_node_has_is_elsewhere(link: DirectLink, source: int) -> None:
    copies = Copies()
    here, there = CopyingStager(link, copies), CopyingStager(DirectLink(link.files), copies)
    there._link.node = "another node"
    assert not here.is_elsewhere(source)
    there.fetch_source(source)
    assert here.is_elsewhere(source)
    here.fetch_source(source)
    assert not here.is_elsewhere(source)
