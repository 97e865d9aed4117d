"""What a worker may do to the machine: the layers that are put around it before it sees a stranger's first byte."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from videoprocess_server.execution import (
    sandbox_landlock,
    sandbox_limits,
    sandbox_privileges,
    sandbox_seccomp,
)

#: where the system keeps shared libraries and what they read
_SYSTEM_PLACES: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
)
_NULL: Final = "/dev/null"
#: layers that not every kernel or machine has; the log tells which are missing
LANDLOCK, SECCOMP = "landlock", "seccomp"
OPTIONAL_LAYERS: Final = (LANDLOCK, SECCOMP)


def missing_layers(layers: Sequence[str]) -> tuple[str, ...]:
    """Return the optional layers that are not among those of a worker; none while no worker has told its own."""
    there = {layer.partition(" ")[0] for layer in layers}
    return tuple(name for name in OPTIONAL_LAYERS if there and name not in there)


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What is around one worker; by default it may write nothing, and only the machine bounds its memory."""

    #: folders beneath which its tasks write; they exist
    writable: tuple[str, ...] = ()
    #: bytes that it may hold at most, whatever its task; 0 for no such bound
    memory_bytes: int = 0
    #: of processor time without progress; 0 for no such bound
    cpu_seconds: int = 0

    def to_argument(self) -> str:
        """Return it as an argument of the worker program."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_argument(cls, text: str) -> Confinement:
        """Read what `to_argument` made."""
        return msgspec.json.decode(text, type=cls)


def confine(confinement: Confinement) -> tuple[str, ...]:
    """Put the layers around the calling thread and all that it starts from now on; they cannot be taken off.

    No thread may have been started before. Each layer works without the others: what the kernel does not have is left out.

    Returns:
        the layers there are, e.g. ("limits", "privileges", "landlock 7", "seccomp").
    """
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208  a count, in a program that starts often
    if threads != 1:
        raise RuntimeError(f"{threads} threads run already: they would not be confined")
    sandbox_limits.limit_process(confinement.memory_bytes)
    sandbox_privileges.set_no_new_privileges()
    sandbox_privileges.drop_capabilities(confinement.writable)
    sandbox_privileges.set_not_dumpable()
    readable = tuple(_readable_places())
    landlock = sandbox_landlock.restrict(readable, (*confinement.writable, _NULL), scoped=SCOPED)
    return (
        "limits",
        "privileges",
        *([f"{LANDLOCK} {landlock}"] if landlock else []),
        *([SECCOMP] if sandbox_seccomp.refuse_calls() else []),
    )


#: whether signals and sockets are kept inside; the tests that have a worker kill its service switch it off
SCOPED = True


def _readable_places() -> Iterator[str]:
    """Places of Python's modules and of shared libraries: some are imported by the first task that needs them."""
    yield from _SYSTEM_PLACES
    yield str(Path(sys.base_prefix, "lib")) if sys.base_prefix != "/usr" else "/usr/lib"
    yield from _listed(os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    yield from _listed(sys.path)


def _listed(places: Sequence[str]) -> Iterator[str]:
    """Those of a search path that are folders of their own; neither "" nor the root is."""
    return (place for place in places if place.startswith("/") and place.strip("/"))
