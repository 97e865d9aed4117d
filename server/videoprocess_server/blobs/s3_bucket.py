"""An S3 bucket below a prefix: the only place that knows obstore. Its errors become ours, in one line without credentials."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from videoprocess_server.blobs.blob_store import (
    BlobDamagedError,
    BlobStoreUnavailableError,
    GoOn,
    go_on_always,
)
from videoprocess_server.blobs.s3_address import S3Address

#: an object up to this size is one request, a larger one is sent in parts of it; and what a request reads at most
PIECE_BYTES = 8 << 20
#: S3 takes 10,000 parts
_MOST_PARTS = 9000
#: pieces in memory at once, over all threads: 64 MiB
_PIECES_AT_ONCE = 8
_PARTS_AT_ONCE = 2
#: of an upload in parts, whose parts are in memory, too
_FILES_AT_ONCE = 2
_CONNECT_SECONDS = 5.0
_HASTY_SECONDS = 3.0
#: an object's own metadata
_SHA256, _WRITER = "sha256", "writer"
_CODE = re.compile(r"(?:<Code>|\(code: )(\w+)[<)]")
_STATUS = re.compile(r"status code: (\d{3}[\w ]*)")
#: where obstore looks for credentials when there are none nearer
_CREDENTIAL_PLACES = ("169.254.169.254", "169.254.170.2", "metadata endpoint")
_NEVER = datetime.min.replace(tzinfo=UTC)
_NO_BUCKET, _NO_OBJECT = "NoSuchBucket", "NoSuchKey"


@dataclass(frozen=True)
class Stored:
    """What a bucket tells of an object."""

    size_bytes: int
    #: that it was written with; "" where nobody told
    sha256: str
    #: of the request that wrote it
    writer: str


@dataclass(frozen=True)
class Piece:
    """Bytes of an object."""

    data: memoryview
    #: of the whole object
    stored: Stored


class Bucket:
    """Objects below a prefix. Thread-safe; every call ends within its timeouts.

    All methods raise BlobStoreUnavailableError where the bucket cannot be reached or refuses, and FileNotFoundError where there
    is no such object.
    """

    def __init__(self, address: S3Address) -> None:
        self._address = address
        self._store = _open(address)
        #: taken by whoever has a piece in memory
        self.room = threading.BoundedSemaphore(_PIECES_AT_ONCE)
        self._files = threading.BoundedSemaphore(_FILES_AT_ONCE)

    def __str__(self) -> str:
        return str(self._address)

    def hasty(self) -> Bucket:
        """Return the same bucket for who wants to know at once: its calls take seconds at most, and are not tried again."""
        return Bucket(replace(self._address, request_seconds=_HASTY_SECONDS, patience_seconds=0))

    def put_new(self, name: str, data: bytes | memoryview, sha256: str) -> None:
        """Write an object in one request, which the store checks by its SHA-256.

        Raises:
            FileExistsError: there is one of this name.
        """
        writer = uuid.uuid4().hex
        attributes = {_SHA256: sha256, _WRITER: writer}
        with self._told(name):
            try:
                obstore.put(
                    self._store, name, data, attributes=attributes, mode="create", use_multipart=False
                )
            except FileNotFoundError as error:  # the bucket, or who asks
                raise self._unavailable(error) from None
            except AlreadyExistsError:
                # Of a try whose answer was lost, the object is ours.
                if self.stored(name).writer != writer:
                    raise FileExistsError(name) from None

    def put_file(self, name: str, path: Path, sha256: str, go_on: GoOn = go_on_always) -> None:
        """Write an object of a file's bytes: where it is large, in parts, and then there is no telling that the name is free.

        Args:
            name: of the object.
            path: of the file.
            sha256: of the file, in hex.
            go_on: called between parts.

        Raises:
            FileExistsError: there is one of this name.
            BlobDamagedError: the file has another digest; there is no object.
        """
        size = path.stat().st_size
        if size <= PIECE_BYTES:
            with self.room:
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() != sha256:
                    raise _damaged(path.name)
                self.put_new(name, data, sha256)
            return
        with suppress(FileNotFoundError):
            self.stored(name)
            raise FileExistsError(name)
        part_bytes = max(PIECE_BYTES, -(-size // _MOST_PARTS))
        with self._files, self._told(name):
            obstore.put(
                self._store,
                name,
                _parts(path, part_bytes, sha256, go_on),
                attributes={_SHA256: sha256},
                chunk_size=part_bytes,
                max_concurrency=_PARTS_AT_ONCE,
            )
        if self.stored(name).size_bytes != size:
            self.delete([name])
            raise _damaged(name)

    def put_file_once(self, name: str, path: Path, sha256: str, go_on: GoOn = go_on_always) -> None:
        """Write an object of a file's bytes, unless it is there already, of a call whose answer was lost maybe.

        Raises:
            FileExistsError: there is another of this name.
            BlobDamagedError: see `put_file`.
        """
        try:
            self.put_file(name, path, sha256, go_on)
        except FileExistsError:
            if self.stored(name).sha256 != sha256:
                raise

    @contextmanager
    def piece(self, name: str, begin: int, end: int) -> Iterator[Piece]:
        """Have some bytes of an object, at most PIECE_BYTES; fewer at its end."""
        with self.room:
            with self._told(name):
                result = obstore.get(self._store, name, options={"range": (begin, end)})
                piece = Piece(memoryview(result.bytes()), _stored(result))
            yield piece

    def stored(self, name: str) -> Stored:
        """Return what there is to tell of an object."""
        with self._told(name):
            return _stored(obstore.get(self._store, name, options={"head": True}))

    def below(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield the names of a folder's objects, without the folder's, and their sizes, sorted page by page."""
        with self._told(folder):
            for page in obstore.list(self._store, f"{folder}/"):
                for entry in page:
                    yield entry["path"].removeprefix(f"{folder}/"), int(entry["size"])

    def names(self, folder: str) -> list[str]:
        """Return the names of a folder's objects and folders, sorted."""
        with self._told(folder):
            found = obstore.list_with_delimiter(self._store, f"{folder}/")
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return sorted(path.removeprefix(f"{folder}/") for path in paths)

    def last_written(self, name: str) -> datetime:
        """Return when an object, or the newest of a folder's, was written; long ago where there is nothing."""
        times = [_NEVER]
        with self._told(name):
            for page in obstore.list(self._store, f"{name}/"):
                times += [entry["last_modified"] for entry in page]
            with suppress(FileNotFoundError):
                times.append(obstore.head(self._store, name)["last_modified"])
        return max(times)

    def now(self) -> datetime:
        """Return the bucket's clock, as it dates what is written."""
        name = f"ping/{uuid.uuid4().hex}"
        self.put_new(name, b"", hashlib.sha256().hexdigest())
        now = self.last_written(name)
        self.delete([name])
        return now

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects, at most as many as a request takes, 1,000; those that are not there are ignored."""
        if not names:
            return
        with self._told(names[0]):
            try:
                obstore.delete(self._store, list(names))
            except BaseError as error:
                if _NO_OBJECT not in str(error):  # some servers tell who deletes beside another
                    raise

    def ping(self) -> None:
        """Write, read and delete an object, within a few seconds."""
        name, data, hasty = f"ping/{uuid.uuid4().hex}", b"ping", self.hasty()
        hasty.put_new(name, data, hashlib.sha256(data).hexdigest())
        with hasty.piece(name, 0, len(data)) as piece:
            is_whole = piece.data == data
        hasty.delete([name])
        if not is_whole:
            raise _damaged(name)

    def signed_url(self, method: str, name: str, seconds: float) -> str:
        """Return a URL with which anybody may read or write this object for so long; asks nobody."""
        verb: Any = method
        with self._told(name):
            return str(obstore.sign(self._store, verb, name, timedelta(seconds=seconds)))

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Raise obstore's errors as ours; their own texts hold requests, and answers that may tell of credentials."""
        try:
            yield
        except BlobDamagedError:
            raise
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise self._unavailable(error) from None
            raise FileNotFoundError(name) from None
        except BaseError as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> BlobStoreUnavailableError:
        return BlobStoreUnavailableError(f"{self._address}: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return what S3 answered, or that it did not, without anything of the request."""
    text = str(error)
    if any(place in text for place in _CREDENTIAL_PLACES):
        return "NoCredentials"
    code, status = _CODE.search(text), _STATUS.search(text)
    told = [match[1].strip() for match in (code, status) if match]
    return " ".join(told) or ("no answer" if "HTTP error" in text else type(error).__name__)


def _open(address: S3Address) -> S3Store:
    credentials = {
        name: getattr(address, name)
        for name in ("access_key_id", "secret_access_key", "session_token")
        if getattr(address, name)
    }
    places = {name: getattr(address, name) for name in ("endpoint", "region") if getattr(address, name)}
    config: Any = {**credentials, **places}
    return S3Store(
        address.bucket,
        prefix=address.prefix or None,
        config=config,
        client_options={
            "allow_http": address.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=address.request_seconds),
            "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, address.request_seconds)),
        },
        retry_config={
            "max_retries": 1000 if address.patience_seconds else 0,
            "retry_timeout": timedelta(seconds=address.patience_seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


def _stored(result: obstore.GetResult) -> Stored:
    told = result.attributes
    return Stored(int(result.meta["size"]), str(told.get(_SHA256, "")), str(told.get(_WRITER, "")))


def _parts(path: Path, part_bytes: int, sha256: str, go_on: GoOn) -> Iterator[bytes]:
    """Yield a file's bytes; obstore drops all of them where this raises."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while data := file.read(part_bytes):
            go_on()
            digest.update(data)
            yield data
    if digest.hexdigest() != sha256:
        raise _damaged(path.name)


def _damaged(name: str) -> BlobDamagedError:
    return BlobDamagedError(f"{name} does not have the bytes it was kept with")
