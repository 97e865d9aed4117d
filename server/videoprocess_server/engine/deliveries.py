"""Brings results into shared roots: whole, once, and never over another's file (architecture, "Order of durable steps").

The files that a job is to bring, with their temporary names and digests, stand in the job's row before the first byte is
written. They are copied beside their places, get their names, and then the job ends in the transaction that forgets them. A
job that goes on after a crash finds them in its row; of one that ends otherwise they become tombstones (`endings`).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from videoprocess_server.blobs.shared_directory import SharedDirectory
from videoprocess_server.blobs.shared_path import SharedPathError
from videoprocess_server.engine.delivery_batch import (
    DeliveryBatch,
    DeliveryRefusedError,
    Place,
    exists,
    note,
    take_away,
    telling,
)
from videoprocess_server.engine.products import Product
from videoprocess_server.engine.published_names import MadeFile, published_names, template_fault
from videoprocess_server.engine.sources import SharedRoot, find_root
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.records import PUBLISHED, Delivery, Job, Source, Tombstone
from videoprocess_server.model.settings_snapshot import SharedDirectory as Target
from videoprocess_server.model.settings_snapshot import StreamInfo
from videoprocess_server.store.repository import Transaction

#: what st_blocks counts in
_BLOCK_BYTES = 512

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Foreseen:
    """A file that a plan says there will be."""

    stream_id: int
    intent: StreamIntent
    extension: str


def bury_deliveries(tx: Transaction, job: Job, now_us: int) -> None:
    """Note that what a job was bringing is to be taken away: in the transaction that ends it otherwise than well."""
    for delivery in job.deliveries:
        key = msgspec.json.encode(delivery).decode()
        tx.put_tombstone(Tombstone(kind=PUBLISHED, key=key, create_time_us=now_us))


class Deliveries:
    """Knows the shared roots that results may be written to. Thread-safe.

    Args:
        roots: by their names.
    """

    def __init__(self, roots: Mapping[str, SharedRoot]) -> None:
        self._roots = roots
        self._lock = threading.Lock()
        #: temporary names of files that a driver is at work on
        self._busy: set[str] = set()

    def check_streams(self, user_id: int, streams: Sequence[StreamInfo]) -> None:
        """Return if the streams' files can be written where they say, as far as can be told now.

        Raises:
            VideoProcessError: INVALID_FIELD, UNKNOWN_ROOT, NO_SUCH_PATH, PATH_OUTSIDE_ROOT, DIRECTORY_NOT_WRITABLE,
                STORE_UNAVAILABLE.
        """
        for position, stream in enumerate(streams):
            if stream.directory is not None:
                field = f"stream_infos[{position}].v1_0.buffer_queue.directory"
                self._check_target(user_id, stream.directory, field)

    def _check_target(self, user_id: int, target: Target, field: str) -> None:
        if fault := template_fault(target.name_template):
            raise VideoProcessError(
                "INVALID_FIELD", f"{field}.name_template {fault}", {f"{field}.name_template": fault}
            )
        root = find_root(self._roots, user_id, target.root)
        if not root.writable:
            raise VideoProcessError(
                "INVALID_FIELD",
                f"{field}.root: the shared root {target.root!r} is not writable",
                {f"{field}.root": "is not writable"},
            )
        try:
            with SharedDirectory(root.path, target.path) as directory:
                directory.check_writable()
        except SharedPathError as error:
            raise VideoProcessError(error.reason, f"{field}.path: {error.message}") from error
        except OSError as error:
            message = f"the shared root {target.root!r} is not there, or read-only"
            raise VideoProcessError("STORE_UNAVAILABLE", message, retry_after_seconds=10) from error

    def check_plan(self, job: Job, plan: Plan, source_name: str) -> None:
        """Return if what a plan will make can be brought, as far as can be told before it is made.

        Raises:
            DeliveryRefusedError: it cannot.
            RootUnavailableError, OSError: not now.
        """
        foreseen = [
            _Foreseen(made.stream_id, made.intent, made.file_extension)
            for made in plan.renditions
            for _ in range(1 if made.is_moving else len(made.still_pts or ()))
        ]
        noted = {(each.root, each.path) for each in job.deliveries}
        with ExitStack() as stack:
            directories = self._open(stack, job)
            for place, directory in directories.items():
                telling(directory.check_writable)
                _check_space(
                    directory, [each for each in job.deliveries if (each.root, each.folder) == place]
                )
            for named in _names(job, foreseen, source_name):
                if named is None or named[0].replace_existing:
                    continue
                target, name = named
                path = f"{target.path}/{name}" if target.path else name
                if (target.root, path) not in noted and telling(
                    directories[target.root, target.path].find, name
                ):
                    raise exists(path)

    def begin(self, job: Job, products: Sequence[Product], files: Sequence[Source]) -> DeliveryBatch:
        """Return the batch of a job's products; nothing is written yet.

        Args:
            job: its row, with what an earlier try noted.
            products: finished.
            files: of its video; none of them is ever replaced, and the first gives names.

        Raises:
            DeliveryRefusedError: a name is taken, or a folder cannot be written to.
            RootUnavailableError, OSError: not now.
        """
        with ExitStack() as stack:
            directories = self._open(stack, job)
            names = _names(job, products, files[0].file_name)
            noted = note(products, names, job.deliveries, files, directories)
            for earlier in job.deliveries:
                if earlier not in noted:
                    telling(take_away, directories[earlier.root, earlier.folder], earlier)
            with self._lock:
                self._busy |= {each.temporary_name for each in noted if each}
            return DeliveryBatch(noted, directories, stack.pop_all(), self._release)

    def withdraw(self, key: str) -> None:
        """Take away what is left of a delivery that came to nothing.

        Args:
            key: of its tombstone.

        Raises:
            OSError: not now.
        """
        delivery = msgspec.json.decode(key, type=Delivery)
        with self._lock:
            if delivery.temporary_name in self._busy:
                raise BlockingIOError(errno.EBUSY, "a driver is still at work on it")
        root = self._roots.get(delivery.root)
        if root is None:
            log.warning("delivery_left", root=delivery.root, path=delivery.path, why="there is no such root")
            return
        try:
            with SharedDirectory(root.path, delivery.folder) as directory:
                take_away(directory, delivery)
        except SharedPathError as error:
            if error.reason == "DIRECTORY_NOT_WRITABLE":
                raise PermissionError(errno.EACCES, error.message) from error
            log.info("delivery_gone", root=delivery.root, path=delivery.path, why=error.message)

    def _open(self, stack: ExitStack, job: Job) -> dict[Place, SharedDirectory]:
        """Open every folder that a job's streams name."""
        assert job.snapshot is not None
        directories: dict[Place, SharedDirectory] = {}
        for target in job.snapshot.directories.values():
            place = target.root, target.path
            if place not in directories:
                opened = telling(SharedDirectory, self._writable(job.user_id, target.root), target.path)
                directories[place] = stack.enter_context(opened)
        return directories

    def _writable(self, user_id: int, name: str) -> Path:
        try:
            root = find_root(self._roots, user_id, name)
        except VideoProcessError as error:
            raise DeliveryRefusedError(error.reason, error.message) from error
        if not root.writable:
            raise DeliveryRefusedError("DIRECTORY_NOT_WRITABLE", f"the shared root {name!r} is not writable")
        return root.path

    def _release(self, temporary_names: Iterable[str]) -> None:
        with self._lock:
            self._busy -= set(temporary_names)


def _check_space(directory: SharedDirectory, noted: Iterable[Delivery]) -> None:
    """Return if there is space for what an earlier try could not write, or had not written when the service died.

    Raises:
        OSError: ENOSPC.
    """
    missing = 0
    for delivery in noted:
        found = [telling(directory.find, name) for name in (delivery.temporary_name, delivery.name)]
        mine = [
            status.st_blocks * _BLOCK_BYTES for status in found if status and status.st_ino == delivery.inode
        ]
        missing += max(0, delivery.size_bytes - sum(mine))
    if missing > directory.free_bytes():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _names(job: Job, files: Sequence[MadeFile], source_name: str) -> list[tuple[Target, str] | None]:
    """Return where each file goes, and what it is called there."""
    assert job.snapshot is not None
    names = published_names(files, job.snapshot, source_name, job.job_id)
    directories = job.snapshot.directories
    return [
        None if name is None else (directories[file.stream_id], name)
        for file, name in zip(files, names, strict=True)
    ]
