"""The socket's name in the file system: made for those who may, taken over from a service that was killed, and taken away."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BACKLOG = 128
#: a socket that nobody listens at says so at once; a full one lets wait
_PROBE_SECONDS = 1.0


class CannotListenError(Exception):
    """The socket cannot be made; the text says why."""


@contextmanager
def listening(path: Path, mode: int) -> Iterator[socket.socket]:
    """Listen at a path, which is taken away at the end.

    Args:
        path: may be longer than a socket's name can be.
        mode: who may connect; nobody can before it is set.

    Raises:
        CannotListenError: another program listens there, something else has the name, or the file system has no sockets.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with listener:
        try:
            _remove_left_over(path)
            with short_name(path) as name:
                listener.bind(name)
            made = path.lstat()
            path.chmod(mode)
            listener.listen(BACKLOG)
        except OSError as error:
            raise CannotListenError(f"{path}: {error.strerror or error}") from error
        try:
            yield listener
        finally:
            with suppress(OSError):
                if (made.st_dev, made.st_ino) == (path.lstat().st_dev, path.lstat().st_ino):
                    path.unlink()


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Yield a name of the path that fits into a socket's address, of 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _remove_left_over(path: Path) -> None:
    """Remove the socket of a service that ended without removing it."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise CannotListenError(f"{path} is there and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            with short_name(path) as name:
                probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except (TimeoutError, BlockingIOError):
            pass  # somebody listens, and is busy
    raise CannotListenError(f"{path}: {os.strerror(errno.EADDRINUSE)}: another program listens there")
