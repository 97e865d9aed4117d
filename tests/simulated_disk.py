"""A disk that forgets: of what was written it keeps what fsync was told to keep, and of the rest as little as one likes.

The strict model: a file's bytes and size are kept by fsync or fdatasync of that file, a folder's entries by fsync of that
folder, and by nothing else. An fsync keeps what was done before it began.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from data_directory import FileContent, Files
from syscall_trace import Call

#: what SQLite maps into memory, and sockets: both are made anew where they are missing
NOT_KEPT_SUFFIXES = ("-shm", ".sock")
ROOT = 0
_IDS = re.compile(r"[0-9a-f]{32}")
_SEGMENT = re.compile(r"/\d{6}-")


@dataclass(frozen=True)
class Bytes:
    """A write."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Size:
    """A file is cut off, or grows by zeros."""

    size: int


@dataclass(frozen=True)
class Entry:
    """A name in a folder stands for another file, or for none."""

    name: str
    inode: int | None


@dataclass(frozen=True)
class Change:
    """What is lost unless it is synced."""

    number: int
    time_seconds: float
    inode: int
    what: Bytes | Size | Entry


@dataclass(frozen=True)
class Sync:
    """An fsync or fdatasync, from `begin` to `number`."""

    begin: int
    number: int
    time_seconds: float
    inode: int
    #: who syncs what, without ids: one call in the code
    site: str


@dataclass(frozen=True)
class Sent:
    """Something left for a client."""

    number: int
    time_seconds: float


Step = Change | Sync | Sent


@dataclass
class Recording:
    """What happened below one folder, file by file."""

    steps: list[Step] = field(default_factory=list)
    folders: set[int] = field(default_factory=lambda: {ROOT})
    #: folders that were there, durably, before the first step
    ready: dict[str, int] = field(default_factory=dict)


class UnknownCallError(Exception):
    """The trace has a call that changes files and that this does not understand: no conclusion would hold."""


@dataclass
class _OpenFile:
    inode: int
    path: str
    #: number of the step from which on it is open
    since: int
    position: int = 0
    append: bool = False


class Recorder:
    """Makes a recording of calls.

    Args:
        data_dir: what counts; the folder that it is made in is there and durable before the first call.
        shared: folders beside it that count as well, and are there and durable as that one is.
    """

    def __init__(self, data_dir: Path, *shared: Path) -> None:
        self.recording = Recording()
        self._root = str(data_dir.parent)
        self._folders = [str(folder) for folder in (data_dir, *shared)]
        self._service = 0
        self._first_number = 0
        self._entries: dict[int, dict[str, int]] = {ROOT: {}}
        self._sizes: dict[int, int] = {}
        self._open: dict[tuple[int, int], _OpenFile] = {}
        self._next_inode = ROOT + 1
        for folder in shared:
            self._entries[self._next_inode] = {}
            self._entries[ROOT][folder.name] = self.recording.ready[folder.name] = self._next_inode
            self.recording.folders.add(self._next_inode)
            self._next_inode += 1
        self._call: Call

    def take_life(self, calls: Sequence[Call], service: int, end: float = math.inf) -> None:
        """Note what was done from a start of the service to its end.

        Args:
            calls: in the order in which they returned.
            service: the process that is not a worker.
            end: number of the first step that is not to be noted any more.

        Raises:
            UnknownCallError: see there.
        """
        self._service = service
        self._open.clear()
        for call in calls:
            number = call.end + self._first_number
            if number < end:
                self._take(replace(call, begin=call.begin + self._first_number, end=number))
        self._first_number += calls[-1].end + 1

    def _take(self, call: Call) -> None:
        self._call = call
        if call.name in {"sendmsg", "sendto", "write", "writev"} and call.descriptor_path.startswith("TCP"):
            self.recording.steps.append(Sent(call.end, call.time_seconds))
        elif call.name in _HANDLERS:
            _HANDLERS[call.name](self, call)
        elif self._concerns(call):
            raise UnknownCallError(f"{call.name}({call.arguments[:200]})")

    def _concerns(self, call: Call) -> bool:
        """Whether a call that no handler is for changes something below the root."""
        path = call.descriptor_path
        if call.name in {"mmap", "dup", "dup2", "dup3", "fcntl", "sendmsg", "sendto"}:
            writes = "MAP_SHARED" in call.arguments and "PROT_WRITE" in call.arguments
            return writes and self._is_below(path) and not path.endswith(NOT_KEPT_SUFFIXES)
        return any(map(self._is_below, (path, *call.paths)))

    def _is_below(self, path: str) -> bool:
        return any(f"{path}/".startswith(f"{folder}/") for folder in self._folders)

    # -- names

    def _folder_of(self, path: str) -> tuple[int, str] | None:
        """The folder that a path is in, and its name there; None outside."""
        if not self._is_below(path):
            return None
        *folders, name = PurePosixPath(path).relative_to(self._root).parts
        inode = ROOT
        for folder in folders:
            inode = self._entries[inode][folder]
        return inode, name

    def _find(self, path: str) -> int | None:
        if path == self._root:
            return ROOT
        place = self._folder_of(path)
        return None if place is None else self._entries[place[0]].get(place[1])

    def _enter(self, path: str, inode: int | None) -> None:
        place = self._folder_of(path)
        if place is None:
            raise UnknownCallError(f"{path} is outside")
        folder, name = place
        if inode is None:
            del self._entries[folder][name]
        else:
            self._entries[folder][name] = inode
        self._change(folder, Entry(name, inode))

    def _make(self, path: str) -> int:
        inode, self._next_inode = self._next_inode, self._next_inode + 1
        self._sizes[inode] = 0
        self._enter(path, inode)
        return inode

    def _change(self, inode: int, what: Bytes | Size | Entry) -> None:
        self.recording.steps.append(Change(self._call.end, self._call.time_seconds, inode, what))

    # -- calls

    def open(self, call: Call) -> None:
        path = os.path.normpath(call.paths[0])
        self._open.pop((call.process, call.result), None)
        if path.endswith(NOT_KEPT_SUFFIXES) or not (path == self._root or self._is_below(path)):
            return
        inode = self._find(path)
        if inode is None and "O_CREAT" not in call.arguments and call.name != "creat":
            raise UnknownCallError(f"{path} is opened, which nobody made")
        if inode is None:
            inode = self._make(path)
        elif "O_TRUNC" in call.arguments or call.name == "creat":
            self._resize(inode, 0)
        append = "O_APPEND" in call.arguments
        self._open[call.process, call.result] = _OpenFile(inode, path, call.end, append=append)

    def close(self, call: Call) -> None:
        """Another thread may have been given the same number before the trace tells that the call returned."""
        file = self._open.get((call.process, call.descriptor))
        if file is not None and file.since < call.begin:
            del self._open[call.process, call.descriptor]

    def seek(self, call: Call) -> None:
        if file := self._file(call):
            file.position = call.result

    def write(self, call: Call) -> None:
        if file := self._file(call):
            offset = self._sizes[file.inode] if file.append else file.position
            file.position = offset + call.result
            self._write(file.inode, offset, call.data)

    def write_at(self, call: Call) -> None:
        if file := self._file(call):
            self._write(file.inode, call.numbers[0], call.data)

    def copy_range(self, call: Call) -> None:
        (source_fd, _), (target_fd, path) = call.descriptors
        target = self._open.get((call.process, target_fd))
        if target is None:
            if self._is_below(path):
                raise UnknownCallError(f"{call.name} to {path}, which nobody opened")
            return
        source = self._open[call.process, source_fd]
        offset, target_offset = call.offsets
        changes = (step for step in self.recording.steps if isinstance(step, Change))
        data = _written(b"", [change for change in changes if change.inode == source.inode])
        self._write(target.inode, target_offset, data[offset : offset + call.result])

    def truncate(self, call: Call) -> None:
        if file := self._file(call):
            self._resize(file.inode, call.numbers[0])

    def sync(self, call: Call) -> None:
        if file := self._file(call):
            role = "service" if call.process == self._service else "worker"
            path = _SEGMENT.sub("/#-", _IDS.sub("*", file.path.removeprefix(f"{self._root}/")))
            site = f"{role} {call.name} {path if file.inode != ROOT else '..'}"
            self.recording.steps.append(Sync(call.begin, call.end, call.time_seconds, file.inode, site))

    def make_folder(self, call: Call) -> None:
        if self._is_below(call.paths[0]) and self._find(call.paths[0]) is None:
            inode = self._make(call.paths[0])
            self._entries[inode] = {}
            self.recording.folders.add(inode)

    def remove(self, call: Call) -> None:
        """A name that nobody made was not there either when its caller was killed in this, or had been killed in making it."""
        path = call.paths[0]
        if self._is_below(path) and not path.endswith(NOT_KEPT_SUFFIXES) and self._find(path) is not None:
            self._enter(path, None)

    def rename(self, call: Call) -> None:
        old, new = call.paths
        if self._is_below(old) or self._is_below(new):
            inode = self._find(old)
            self._enter(new, inode)
            self._enter(old, None)

    def link(self, call: Call) -> None:
        old, new = call.paths
        if self._is_below(new):
            self._enter(new, self._find(old))

    def _file(self, call: Call) -> _OpenFile | None:
        """The open file below the root that a call's descriptor stands for."""
        file = self._open.get((call.process, call.descriptor))
        path = call.descriptor_path
        changes = call.name not in {"lseek", "fsync", "fdatasync"}
        if file is None and changes and self._is_below(path) and not path.endswith(NOT_KEPT_SUFFIXES):
            raise UnknownCallError(f"{call.name} to {path}, which nobody opened")
        return file

    def _write(self, inode: int, offset: int, data: bytes) -> None:
        self._sizes[inode] = max(self._sizes[inode], offset + len(data))
        self._change(inode, Bytes(offset, data))

    def _resize(self, inode: int, size: int) -> None:
        self._sizes[inode] = size
        self._change(inode, Size(size))


_HANDLERS: Mapping[str, Callable[[Recorder, Call], None]] = {
    "open": Recorder.open,
    "openat": Recorder.open,
    "openat2": Recorder.open,
    "creat": Recorder.open,
    "close": Recorder.close,
    "lseek": Recorder.seek,
    "write": Recorder.write,
    "writev": Recorder.write,
    "pwrite64": Recorder.write_at,
    "copy_file_range": Recorder.copy_range,
    "ftruncate": Recorder.truncate,
    "fsync": Recorder.sync,
    "fdatasync": Recorder.sync,
    "mkdir": Recorder.make_folder,
    "mkdirat": Recorder.make_folder,
    "rmdir": Recorder.remove,
    "unlink": Recorder.remove,
    "unlinkat": Recorder.remove,
    "rename": Recorder.rename,
    "renameat": Recorder.rename,
    "renameat2": Recorder.rename,
    "link": Recorder.link,
    "linkat": Recorder.link,
}


@dataclass(frozen=True)
class DiskState:
    """What is found after a power loss."""

    files: Files
    folders: Sequence[str]

    def below(self, folder: str) -> Files:
        """The files of one folder, by their paths in it."""
        start = f"{folder}/"
        return {name.removeprefix(start): file for name, file in self.files.items() if name.startswith(start)}

    def put_into(self, folder: Path) -> None:
        """Write it below a folder."""
        for name in self.folders:
            (folder / name).mkdir(mode=0o700)
        for name, file in self.files.items():
            (folder / name).write_bytes(file.read())


Survives = Callable[[Change], bool]


class SimulatedDisk:
    """Takes steps in order, and tells what a power loss would leave."""

    def __init__(self, recording: Recording) -> None:
        self._folders = recording.folders
        self._bytes: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {ROOT: dict(recording.ready)}
        self._pending: dict[int, list[Change]] = {}
        self._contents: dict[int, FileContent] = {}

    def take(self, step: Step) -> None:
        """Go one step on."""
        match step:
            case Change(inode=inode):
                self._pending.setdefault(inode, []).append(step)
            case Sync(inode=inode, begin=begin):
                self._settle(inode, begin)
            case _:
                pass

    def _settle(self, inode: int, begin: int) -> None:
        pending = self._pending.get(inode, [])
        covered = [change for change in pending if change.number < begin]
        if covered:
            self._pending[inode] = [change for change in pending if change.number >= begin]
            self._bytes[inode] = _written(self._bytes.get(inode, b""), covered)
            self._entries[inode] = _entered(self._entries.get(inode, {}), covered)
            self._contents.pop(inode, None)

    def after_power_loss(self, survives: Survives = lambda _: False) -> DiskState:
        """What is found. What was not synced is there as far as `survives` says so."""
        files: dict[str, FileContent] = {}
        folders: list[str] = []
        self._walk(ROOT, "", survives, files, folders)
        return DiskState(files, folders)

    def _walk(
        self, inode: int, path: str, survives: Survives, files: dict[str, FileContent], folders: list[str]
    ) -> None:
        lucky = [change for change in self._pending.get(inode, []) if survives(change)]
        for name, target in sorted(_entered(self._entries.get(inode, {}), lucky).items()):
            place = f"{path}{name}"
            if target in self._folders:
                folders.append(place)
                self._walk(target, f"{place}/", survives, files, folders)
            else:
                files[place] = self._content(target, survives)

    def _content(self, inode: int, survives: Survives) -> FileContent:
        durable = self._bytes.get(inode, b"")
        lucky = [change for change in self._pending.get(inode, []) if survives(change)]
        if lucky:
            data = _written(durable, lucky)
            return FileContent(lambda: data)
        return self._contents.setdefault(inode, FileContent(lambda: durable))


def _written(data: bytes, changes: Sequence[Change]) -> bytes:
    result = bytearray(data)
    for change in changes:
        match change.what:
            case Bytes(offset=offset, data=new):
                result.extend(bytes(max(0, offset - len(result))))
                result[offset : offset + len(new)] = new
            case Size(size=size):
                del result[size:]
                result.extend(bytes(size - len(result)))
            case _:
                pass
    return bytes(result)


def _entered(entries: Mapping[str, int], changes: Sequence[Change]) -> dict[str, int]:
    result = dict(entries)
    for change in changes:
        if isinstance(change.what, Entry):
            if change.what.inode is None:
                result.pop(change.what.name, None)
            else:
                result[change.what.name] = change.what.inode
    return result


def moments(
    recording: Recording, taken_out: Callable[[Sync], bool] = lambda _: False
) -> Iterator[tuple[Step, SimulatedDisk]]:
    """Each step, with the disk as it is just before it.

    Args:
        recording: what happened.
        taken_out: syncs that are not done.
    """
    disk = SimulatedDisk(recording)
    for step in recording.steps:
        yield step, disk
        if not (isinstance(step, Sync) and taken_out(step)):
            disk.take(step)
