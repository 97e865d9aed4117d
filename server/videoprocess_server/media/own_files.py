"""Files of the service's own: read as carefully as a stranger's, and on the disk before anybody relies on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from av.container import InputContainer

from videoprocess_server.media.pulse import Pulse, sha256_of
from videoprocess_server.media.source import open_source


@contextmanager
def open_own(path: str) -> Iterator[InputContainer]:
    """Opens a file of the service's own as sources are opened."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open_source(fd) as container:
            yield container
    finally:
        os.close(fd)


def settle(path: Path, pulse: Pulse) -> tuple[int, str]:
    """Brings the file's bytes to the disk; its size and SHA-256. Its name is for now only: publishing gives it another."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = sha256_of(file, pulse)
        size = file.tell()
    return size, digest
