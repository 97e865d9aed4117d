"""The image that `Dockerfile` begins with: the real one, or where no registry can be reached one made of Debian's packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from images.store import BUILD_SECONDS, Store

NAME = "debian:bookworm-slim"
PULL_SECONDS = 60.0
#: what the slim image leaves out, too
_LEFT_OUT = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)


def ensure_base(store: Store) -> str:
    """Have the base image in the store; returns where it is from."""
    if store.has(NAME):
        return "kept from an earlier run"
    try:
        store.buildah("pull", NAME, seconds=PULL_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        _make(store)
        return "made by debootstrap: no registry answers"
    return "pulled"


def _make(store: Store) -> None:
    root = store.folder / "base"
    shutil.rmtree(root, ignore_errors=True)
    log = store.folder / "debootstrap.log"
    with log.open("w") as file:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", "bookworm", str(root)],
            stdout=file,
            stderr=file,
            timeout=BUILD_SECONDS,
            check=False,
        )
    if made.returncode != 0:
        sys.exit(f"debootstrap failed: {log} tells why")
    for folder in _LEFT_OUT:
        _empty(root / folder)
    container = store.buildah("from", "scratch")
    archive = store.folder / "base.tar"
    subprocess.run(["tar", "--directory", str(root), "--create", "--file", str(archive), "."], check=True)
    store.buildah("add", "--quiet", container, str(archive), "/")
    store.buildah("config", "--cmd", "bash", container)
    store.buildah("commit", "--quiet", "--rm", container, NAME, seconds=BUILD_SECONDS)
    shutil.rmtree(root)
    archive.unlink()


def _empty(folder: Path) -> None:
    for entry in folder.iterdir() if folder.exists() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
