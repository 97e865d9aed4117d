"""Which files each task reads and writes, and how they come to the machine it runs on and from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from videoprocess_server.model.tasks import (
    AnalyzeTask,
    DescribeTask,
    DigestTask,
    EncodeResult,
    EncodeTask,
    JoinTask,
    MakerTask,
    MotionTask,
    PathTask,
    PlanTask,
    ProbeTask,
    SegmentDone,
    StillsTask,
    StripTask,
    Task,
    TaskMessage,
    TaskResult,
    VerifyTask,
    WatermarkTask,
)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The fields of a task that hold paths of the service's own files: text, or a tuple of texts; "" is none."""

    reads: tuple[str, ...] = ()
    #: each is told as a SegmentDone once it is written
    writes: tuple[str, ...] = ()


#: task → its paths, for those that work through pictures; None for those that copy bytes and count packets, and for
#: what Prepare waits for: they run beside the data directory, since moving their files costs more than their work
PATHS: Mapping[type[Task], Paths | None] = {
    AnalyzeTask: Paths(),
    EncodeTask: Paths(reads=("camera_path",), writes=("output_paths",)),
    MotionTask: Paths(writes=("output_paths",)),
    DescribeTask: None,
    ProbeTask: None,
    WatermarkTask: None,
    PlanTask: None,
    PathTask: None,
    DigestTask: None,
    JoinTask: None,
    StillsTask: None,
    MakerTask: None,
    StripTask: None,
    VerifyTask: None,
}


class Stager(Protocol):
    """Moves files between the service and the node of one worker.

    EOFError means that the node is gone; TaskFailedError that a disk is full; OSError that a file of the service cannot
    be read.
    """

    def begin(self) -> None:
        """Note that the task before has ended, and what it read may go."""
        ...

    def is_elsewhere(self, fd: int) -> bool:
        """Return whether another node has the open source, and this one has not."""
        ...

    def fetch_source(self, fd: int) -> str:
        """Have the open source on the node; return its path there."""
        ...

    def fetch(self, path: str) -> str:
        """Have a file of the service on the node; return its path there."""
        ...

    def place(self, path: str) -> str:
        """Return the path on the node of a file that the task writes."""
        ...

    def deliver(self, done: SegmentDone, path: str) -> None:
        """Have what the node wrote at `done.path` at the service's own path, verified and durable."""
        ...


class Staged:
    """One task as its node sees it.

    Args:
        stager: of the node.
        task: as the service sees it.
        source_fd: that it reads, or None.
    """

    def __init__(self, stager: Stager, task: Task, source_fd: int | None) -> None:
        self._stager = stager
        #: path on the node → the service's own
        self._own: dict[str, str] = {}
        stager.begin()
        self.source = "" if source_fd is None else stager.fetch_source(source_fd)
        paths = PATHS[type(task)] or Paths()
        changes: dict[str, Any] = {name: _each(getattr(task, name), stager.fetch) for name in paths.reads}
        changes |= {name: _each(getattr(task, name), self._place) for name in paths.writes}
        self.task: Task = replace(task, **changes) if changes else task

    def told(self, message: TaskMessage | TaskResult) -> TaskMessage | TaskResult:
        """Return what the task tells with the service's own paths; a file is there before it is told."""
        if isinstance(message, SegmentDone) and message.path in self._own:
            own = self._own[message.path]
            self._stager.deliver(message, own)
            return replace(message, path=own)
        if isinstance(message, EncodeResult):
            segments = (replace(done, path=self._own.get(done.path, done.path)) for done in message.segments)
            return replace(message, segments=tuple(segments))
        return message

    def _place(self, path: str) -> str:
        placed = self._stager.place(path)
        self._own[placed] = path
        return placed


def _each(paths: str | Sequence[str], change: Any) -> str | tuple[str, ...]:  # noqa: ANN401 - a method of Stager
    if isinstance(paths, str):
        return change(paths) if paths else ""
    return tuple(change(path) for path in paths)
