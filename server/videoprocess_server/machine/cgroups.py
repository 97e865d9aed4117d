"""Reads the limits that a container or a unit sets, in both versions of cgroups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Give the folders of this process's cgroup and of all above it: a limit of any of them holds.

    In a container the path that the kernel tells may be the host's, which is not there; the mount's own folder is.

    Args:
        controller: "cpu" or "memory".
        root: of the file system.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for mount in _mounts(mounts, controllers, controller):
            inner = mount / path.strip("/")
            yield from (
                folder
                for folder in (inner, *inner.parents)
                if folder.is_relative_to(mount) and folder.is_dir()
            )


def read_text(file: Path) -> str:
    """Return what a file of the kernel says; "" where there is none."""
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def read_number(file: Path) -> int | None:
    """Return the number that a file of the kernel holds; None where it holds none, such as "max"."""
    text = read_text(file)
    return int(text) if text.isdecimal() else None


def _mounts(mounts: Path, controllers: str, controller: str) -> tuple[Path, ...]:
    """Where a hierarchy may be mounted: version 2 has no controllers in its line."""
    if not controllers:
        return (mounts, mounts / "unified")
    if controller in controllers.split(","):
        return tuple({mounts / controllers, mounts / controller})
    return ()


def _lines(file: Path) -> list[str]:
    return read_text(file).splitlines()
