"""Uploads in S3, which knows no appending: a folder of objects, each named after the offset of its bytes, made once only.

    uploads/ID/begun                           there is an upload, of no bytes so far
    uploads/ID/0000000000000000                8 MiB
    uploads/ID/0000000000800000                as many as came before a `sync`
    uploads/ID/sealed-000000000080abcd-SHA256  it is whole: so many bytes, with this digest

Of those who go on with an upload at the same offset, one makes the next object; the others are told that the size is another. So
nobody needs a lock that all of them see.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from videoprocess_server.blobs.blob_store import BlobStoreFullError
from videoprocess_server.blobs.s3_bucket import Bucket
from videoprocess_server.blobs.s3_fetch import Part

#: bytes of an object, and what a cut costs at most
COMMIT_BYTES = 8 << 20
#: what is remembered of uploads that grow; of others their folder tells
_MOST_GROWING = 4096
_BEGUN = "begun"
_PART = re.compile(r"[0-9a-f]{16}")
_SEAL = re.compile(r"sealed-([0-9a-f]{16})-([0-9a-f]{64})")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Layout:
    """What is stored of an upload."""

    #: without gaps, from the beginning
    parts: Sequence[Part]
    #: of the whole; "" while it may grow
    sha256: str
    size_bytes: int


@dataclass
class _Growing:
    """An upload that this process writes."""

    #: that are objects
    stored_bytes: int
    #: with those that are in the local file alone
    size_bytes: int
    #: whether the local file has all bytes, if it is still there
    whole: bool


class S3Uploads:
    """Uploads as objects, with a local file beside each that this process writes. Calls for one key must not come at once.

    Args:
        bucket: of the objects.
        folder: of the objects.
        path: of the local file, by key; its folder exists.
        commit_bytes: of an object.
    """

    def __init__(
        self, bucket: Bucket, folder: str, path: Callable[[str], Path], commit_bytes: int = COMMIT_BYTES
    ) -> None:
        self._bucket = bucket
        self._folder = folder
        self._path = path
        self._commit_bytes = commit_bytes
        self._growing: OrderedDict[str, _Growing] = OrderedDict()

    def layout(self, key: str) -> Layout | None:
        """Return what is stored; None where there is no such upload."""
        parts: list[Part] = []
        sizes: dict[int, int] = {}
        found, sealed_bytes, sha256 = False, 0, ""
        for name, size in self._bucket.below(f"{self._folder}/{key}"):
            found = True
            if _PART.fullmatch(name):
                sizes[int(name, 16)] = size
            elif seal := _SEAL.fullmatch(name):
                sealed_bytes, sha256 = int(seal[1], 16), seal[2]
        if not found:
            return None
        end = 0
        while (size := sizes.get(end, 0)) and not (sha256 and end >= sealed_bytes):
            parts.append(Part(self.part_name(key, end), end, size))
            end += size
        return Layout(parts, sha256, sealed_bytes if sha256 else end)

    def append(self, key: str, offset: int, data: bytes) -> int:
        """Write at the end and return the new size; see BlobStore."""
        growing = self._at(key, offset)
        self._write(key, growing, offset, data)
        growing.size_bytes = offset + len(data)
        if not growing.size_bytes:
            with suppress(FileExistsError):
                self._bucket.put_new(self._name(key, _BEGUN), b"", hashlib.sha256().hexdigest())
        while growing.size_bytes - growing.stored_bytes >= self._commit_bytes:
            self._store(key, growing, self._commit_bytes)
        return growing.size_bytes

    def sync(self, key: str) -> None:
        """Make all bytes objects. FileNotFoundError where there is no such upload, ValueError where another writes it."""
        growing = self._growing.get(key)
        if growing is None:
            if self.layout(key) is None:
                raise FileNotFoundError(key)
        elif growing.size_bytes > growing.stored_bytes:
            self._store(key, growing, growing.size_bytes - growing.stored_bytes)

    def let_go(self, key: str) -> None:
        """Nobody writes it here any more: a local file that lacks bytes, or has more than is stored, is of no use."""
        growing = self._growing.get(key)
        if growing is not None and not (growing.whole and growing.size_bytes == growing.stored_bytes):
            self.forget(key)
            self._path(key).unlink(missing_ok=True)

    def seal(self, key: str, sha256: str) -> bool:
        """Note that what is stored is whole; return whether the local file, if it is still there, has all of it."""
        layout, growing = self.layout(key), self._growing.get(key)
        if layout is None:
            raise FileNotFoundError(key)
        if not layout.sha256:
            self._put_seal(key, layout.size_bytes, sha256)
        self.forget(key)
        return growing is not None and growing.whole and growing.size_bytes == layout.size_bytes

    def add_file(self, key: str, path: Path, sha256: str, go_on: Callable[[], None]) -> None:
        """Make a whole upload of a file; of the same file again that is the same."""
        self._bucket.put_file_once(self.part_name(key, 0), path, sha256, go_on)
        self._put_seal(key, path.stat().st_size, sha256)

    def part_name(self, key: str, offset: int) -> str:
        """Return the name of the object whose bytes begin there."""
        return self._name(key, f"{offset:016x}")

    def has_local_file(self, key: str, size_bytes: int) -> bool:
        """Return whether the local file, if it is still there, has all bytes of an upload of this size that grows."""
        growing = self._growing.get(key)
        return growing is not None and growing.whole and growing.size_bytes == size_bytes

    def forget(self, key: str) -> None:
        """It grows no more, or is gone."""
        self._growing.pop(key, None)

    def _put_seal(self, key: str, size_bytes: int, sha256: str) -> None:
        name = self._name(key, f"sealed-{size_bytes:016x}-{sha256}")
        with suppress(FileExistsError):
            self._bucket.put_new(name, b"", hashlib.sha256().hexdigest())

    def _name(self, key: str, name: str) -> str:
        return f"{self._folder}/{key}/{name}"

    def _at(self, key: str, offset: int) -> _Growing:
        """Return what is known of an upload that grows from this offset on, having looked unless it was known before.

        Raises:
            ValueError: that is not its size.
        """
        growing = self._growing.get(key)
        if growing is None or offset > growing.size_bytes:  # another process may have written it meanwhile
            layout = self.layout(key)
            stored_bytes = layout.size_bytes if layout else 0
            if offset != stored_bytes or (layout and layout.sha256):
                raise ValueError(f"{key} has {stored_bytes} bytes, not {offset}")
            growing = _Growing(stored_bytes, stored_bytes, whole=not stored_bytes)
            self._path(key).unlink(missing_ok=True)
        if offset != growing.size_bytes:
            raise ValueError(f"{key} has {growing.size_bytes} bytes, not {offset}")
        self._growing[key] = growing
        self._growing.move_to_end(key)
        if len(self._growing) > _MOST_GROWING:
            self._growing.popitem(last=False)
        return growing

    def _write(self, key: str, growing: _Growing, offset: int, data: bytes) -> None:
        """Write into the local file, whose bytes before those of this process may be missing."""
        fd = os.open(self._path(key), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            growing.whole = growing.whole and os.fstat(fd).st_size == offset
            os.ftruncate(fd, offset)
            rest = memoryview(data)
            while rest:
                rest = rest[os.pwrite(fd, rest, offset + len(data) - len(rest)) :]
        except OSError as error:
            os.ftruncate(fd, offset)
            growing.size_bytes = offset
            if error.errno in _FULL:
                raise BlobStoreFullError(f"no space for {len(data)} bytes") from error
            raise
        finally:
            os.close(fd)

    def _store(self, key: str, growing: _Growing, size_bytes: int) -> None:
        """Make the next bytes an object.

        Raises:
            ValueError: another has made it.
        """
        begin = growing.stored_bytes
        try:
            with self._bucket.room, self._path(key).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), size_bytes, begin)
                if len(data) != size_bytes:
                    raise OSError(errno.EIO, "an upload's local file ends too early", file.name)
                self._bucket.put_new(self.part_name(key, begin), data, hashlib.sha256(data).hexdigest())
        except FileExistsError:
            self.forget(key)
            self._path(key).unlink(missing_ok=True)
            raise ValueError(f"{key} has other bytes from {begin} on: another writes it") from None
        growing.stored_bytes += size_bytes
