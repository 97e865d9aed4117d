"""Writes the file for support. Each part is looked for by itself: what cannot be had is named, and ends nothing."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

#: a part's file name → its content: what is not text becomes JSON
Parts = Mapping[str, Callable[[], Any]]

PROBLEMS = "problems.json"


class CannotDumpError(Exception):
    """The file cannot be written; the text is one line that says what to do."""


def write_dump(target: Path, parts: Parts) -> Mapping[str, str]:
    """Write a .tar.gz, .tgz or .zip of all parts; return what could not be had, by part.

    Raises:
        CannotDumpError: the name has another ending, is taken, or cannot be written.
    """
    pack = next((pack for ending, pack in _PACKERS.items() if target.name.endswith(ending)), None)
    if pack is None:
        raise CannotDumpError(f"{target}: its name must end in {', '.join(_PACKERS)}")
    if target.exists():
        raise CannotDumpError(f"{target} is there already: name another file")
    files: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    for name, make in parts.items():
        try:
            files[name] = _bytes_of(make())
        except Exception as error:  # noqa: BLE001 - the machine is in trouble: the rest is wanted all the more
            problems[name] = f"{type(error).__name__}: {error}"
    files[PROBLEMS] = _bytes_of(problems)
    part = target.with_name(f".{target.name}.part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as out:
            pack(out, files)
        part.rename(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise CannotDumpError(f"{target}: {error.strerror}") from error
    return problems


def _bytes_of(content: object) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content, indent=1, default=str) + "\n"
    return text.encode("utf-8", "backslashreplace")


def _tar(out: Any, files: Mapping[str, bytes]) -> None:  # noqa: ANN401 - a binary file
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"support/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))


def _zip(out: Any, files: Mapping[str, bytes]) -> None:  # noqa: ANN401 - a binary file
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"support/{name}", data)


_PACKERS: Mapping[str, Callable[[Any, Mapping[str, bytes]], None]] = {
    ".tar.gz": _tar,
    ".tgz": _tar,
    ".zip": _zip,
}
