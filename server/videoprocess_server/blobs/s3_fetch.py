"""Brings objects into a file: pieces side by side, few of them in memory, checked as a whole."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as StillRunningError
from dataclasses import dataclass
from pathlib import Path

from videoprocess_server.blobs.blob_store import BlobDamagedError, GoOn
from videoprocess_server.blobs.s3_bucket import PIECE_BYTES, Bucket

#: pieces of a file that are asked for at once
_PIECES_AHEAD = 4
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Part:
    """An object that is a part of a file."""

    name: str
    #: where it begins in the file
    offset: int
    size_bytes: int


class Fetcher:
    """Reads objects into files; its threads are those of a store.

    Args:
        bucket: of the objects.
        threads: that read pieces.
    """

    def __init__(self, bucket: Bucket, threads: ThreadPoolExecutor) -> None:
        self._bucket = bucket
        self._threads = threads

    def fetch(self, parts: Iterable[Part], path: Path, sha256: str, go_on: GoOn) -> None:
        """Make a file of objects.

        Args:
            parts: without gaps.
            path: of the file.
            sha256: that it must have; "" where nobody knows, and each object is checked on its own.
            go_on: called now and then.

        Raises:
            FileNotFoundError: one is not there any more.
            BlobDamagedError: they are not what was written.
        """
        with path.open("x+b", buffering=0) as file:
            self._read_all(_pieces(parts), file.fileno(), go_on)
            if sha256 and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise BlobDamagedError(f"{path.name} has another SHA-256 than it was kept with")

    def _read_all(self, pieces: Iterator[tuple[Part, int]], fd: int, go_on: GoOn) -> None:
        running: deque[Future[None]] = deque()
        try:
            for part, begin in pieces:
                running.append(self._threads.submit(self._read, part, begin, fd))
                if len(running) >= _PIECES_AHEAD:
                    _wait(running.popleft(), go_on)
            while running:
                _wait(running.popleft(), go_on)
        finally:
            for each in running:
                each.cancel()
            wait(running)  # none writes once the file is closed

    def _read(self, part: Part, begin: int, fd: int) -> None:
        end = min(begin + PIECE_BYTES, part.size_bytes)
        with self._bucket.piece(part.name, begin, end) as piece:
            if piece.data.nbytes != end - begin:
                raise BlobDamagedError(f"{part.name} ends too early")
            sha256 = piece.stored.sha256 if piece.data.nbytes == piece.stored.size_bytes else ""
            if sha256 and hashlib.sha256(piece.data).hexdigest() != sha256:
                raise BlobDamagedError(f"{part.name} has another SHA-256 than it was written with")
            os.pwrite(fd, piece.data, part.offset + begin)


def _pieces(parts: Iterable[Part]) -> Iterator[tuple[Part, int]]:
    for part in parts:
        for position in range(0, part.size_bytes, PIECE_BYTES):
            yield part, position


def _wait(running: Future[None], go_on: GoOn) -> None:
    while True:
        go_on()
        try:
            return running.result(_LOOK_SECONDS)
        except StillRunningError:
            if running.done():
                raise
