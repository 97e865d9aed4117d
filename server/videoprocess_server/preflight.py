"""What is looked at before anything is started: a mistake of the operator's costs one line, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from videoprocess_server.model.tasks import BuildInfo

UNIX_SCHEME = "unix:"
#: encoder → what cannot be made without it
ESSENTIAL_ENCODERS: Final[Mapping[str, str]] = {"libx264": "H.264", "libx265": "H.265", "mjpeg": "JPEG"}
#: a socket that nobody listens at says so at once; a full one lets wait
_PROBE_SECONDS = 1.0
#: why the system refuses an address → what to do
_LISTEN_REMEDIES: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose another",
    errno.EACCES: "ports below 1024 need a privilege: choose another",
    errno.ENOENT: "there is no such directory: make it, or choose another",
}


class PreflightError(Exception):
    """The service would not get far; the text is one line that says what to do."""


def check_listen(listen: str, option: str = "--listen") -> None:
    """Return if the service can listen there now. Whoever takes the address later is told by gRPC.

    Args:
        listen: HOST:PORT or unix:PATH.
        option: that says so.

    Raises:
        PreflightError: it cannot.
    """
    try:
        if listen.startswith(UNIX_SCHEME):
            _check_unix(Path(listen.removeprefix(UNIX_SCHEME)))
        else:
            _check_tcp(*_host_and_port(listen))
    except socket.gaierror as error:
        raise PreflightError(f"cannot listen on {listen}: no such host: choose another {option}") from error
    except OSError as error:
        remedy = _LISTEN_REMEDIES.get(error.errno or 0, f"{error.strerror}: choose another")
        raise PreflightError(f"cannot listen on {listen}: {remedy} {option}") from error


def check_address_file(path: Path | None) -> None:
    """Return if the file can be written once the service is SERVING.

    Raises:
        PreflightError: it cannot.
    """
    if path is None:
        return
    if path.is_dir():
        raise PreflightError(f"address file {path}: that is a directory: name a file by --address-file")
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(b"")
        part.unlink()
    except OSError as error:
        raise PreflightError(
            f"address file {path}: {error.strerror}: choose an --address-file in a directory the service may write to"
        ) from error


def check_build(build: BuildInfo) -> None:
    """Return if FFmpeg has the encoders that the service promises.

    Raises:
        PreflightError: it lacks some.
    """
    missing = [
        f"{name} ({use})" for name, use in ESSENTIAL_ENCODERS.items() if name not in build.video_encoders
    ]
    if missing:
        raise PreflightError(
            f"the FFmpeg of PyAV {build.versions.get('pyav', '')} lacks {', '.join(missing)}: install PyAV's own wheel "
            "(pip install --force-reinstall --only-binary av av), or build FFmpeg with these encoders"
        )


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _check_tcp(host: str, port: int) -> None:
    """Bind as gRPC does, which is content with one of the host's addresses."""
    failures: list[OSError] = []
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)  # fails where another listens
        except OSError as error:
            failures.append(error)
        else:
            return
    raise failures[0]


def _check_unix(path: Path) -> None:
    """Look whether somebody listens there: gRPC would take the name away from them."""
    path.parent.stat()
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise PreflightError(
                f"cannot listen on {UNIX_SCHEME}{path}: that is a file and no socket: choose another --listen"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # of a service that was killed
        except (TimeoutError, BlockingIOError):
            pass  # somebody listens, and is busy
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
