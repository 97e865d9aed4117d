"""The commands of the documents: fences of shell and Python, and how they are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DEFAULT_ADDRESS = "127.0.0.1:50051"
LONGEST_SECONDS = 120.0
_FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Makefile targets are looked up; `run` is run, with what is installed already
_MAKE = """#!/bin/sh
case "$1" in
run) shift; exec make -C '{root}' -o .venv/.runtime run BIN='{bin}' OUTPUT="$PWD/enhanced.mp4" VIDEO="$PWD/holiday.mp4" ;;
*) exec make -n -C '{root}' "$@" ;;
esac
"""


@dataclass(frozen=True)
class Fence:
    """Commands that stand together in a document."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def fences(page: str) -> list[Fence]:
    """Return the commands of a document, in order."""
    text = (ROOT / page).read_text()
    return [
        Fence(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in _FENCE.finditer(text)
    ]


def run(fence: Fence, folder: Path, address: str, environment: Mapping[str, str] | None = None) -> str:
    """Run commands as a reader would in `folder`, against the service at `address`; returns what they say.

    The shell ends at the first command that fails, and so does the test.
    """
    _install(folder)
    text = fence.text.replace(DEFAULT_ADDRESS, address)
    # with the default action, so that the pipe's other end does not decide
    command = (
        ["bash", "-euo", "pipefail", "-c", text]
        if fence.language == "sh"
        else [str(BIN / "python"), "-c", text]
    )
    ended = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "PATH": f"{folder / '.tools'}:{BIN}:{os.environ['PATH']}",
            "VIDEOPROCESS_TARGET": address,
            "XDG_STATE_HOME": str(folder / ".state"),
            **(environment or {}),
        },
    )
    assert ended.returncode == 0, (
        f"{fence.name} ended with {ended.returncode}:\n{text}\n{ended.stdout}\n{ended.stderr}"
    )
    return ended.stdout


def _install(folder: Path) -> None:
    """Put there what readers have in the repository: `.venv` and `make`."""
    tools = folder / ".tools"
    if tools.exists():
        return
    tools.mkdir()
    make = tools / "make"
    make.write_text(
        _MAKE.format(root=ROOT, bin=BIN).replace("exec make", "exec /usr/bin/env -i PATH=/usr/bin:/bin make")
    )
    make.chmod(0o755)
    (folder / ".venv").symlink_to(BIN.parent)
