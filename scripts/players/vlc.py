"""VLC without a screen; it refuses to run as root, so another user has to be there for it then."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from players.playing import Playing

PROGRAMS = ("cvlc",)
PATIENCE_SECONDS = 300.0
#: a file is played no longer than this; a longer one faster
LONGEST_SECONDS = 12.0
_FLAGS = (
    "-I",
    "dummy",
    "--no-video-title-show",
    "--vout",
    "dummy",
    "--aout",
    "dummy",
    "--avcodec-hw",
    "none",
)
_END = ("--play-and-exit", "-vv")
#: the file is its standard input, so that another user need not be able to open it
_INPUT = "fd://0"
_NOBODY = 65534
_ENDED = "exit code 0"
#: what the log tells of the file
_TRACK = re.compile(r"adding track\[Id 0x\w+\] (\w+ \([^)]*\))")
_SIZE = re.compile(r"original format sz \d+x\d+, of \(0,0\), vsz (\d+x\d+, 4cc \w+, sar \d+:\d+)")
_ORIENTATION = re.compile(r"orientation (\w[\w ]*)")
_ERROR = re.compile(r"^\[\w+\] (\S+ [\w ]*error: .*)$", re.MULTILINE)
#: at the end of the log: a window system that is not there
_NOT_OF_THE_FILE = re.compile(r"dbus|pulse|xcb|XDG|interface|globalhotkeys", re.IGNORECASE)


def version() -> str:
    """Tell VLC's version."""
    number = re.search(r"VLC version (\S+)", _run(["cvlc", "--version"]))
    return number[1] if number else "unknown"


def play(path: Path, seconds: float) -> Playing:
    """Play a file to its end, then from the middle on.

    Args:
        path: the file.
        seconds: its length.
    """
    rate = f"--rate={max(1.0, seconds / LONGEST_SECONDS):.2f}"
    whole = _run(["cvlc", *_FLAGS, *_END, rate, _INPUT], path)
    later = _run(["cvlc", *_FLAGS, *_END, rate, f"--start-time={seconds / 2:.3f}", _INPUT], path)
    errors = {error for error in _ERROR.findall(whole) if not _NOT_OF_THE_FILE.search(error)}
    return Playing(
        ended=_well(whole),
        seeked=_well(later),
        told={
            "tracks": sorted(_TRACK.findall(whole)),
            "pictures": sorted(set(_SIZE.findall(whole))),
            "orientation": sorted(set(_ORIENTATION.findall(whole))),
        },
        errors=tuple(sorted(re.sub(r"0x[0-9a-f]+|\d+", "#", error) for error in errors)),
    )


def _well(said: str) -> bool:
    return "EOF reached" in said and "Received first picture" in said and said.endswith(_ENDED)


def _run(command: list[str], path: Path | None = None) -> str:
    """Run VLC, as nobody where it would be root; return what it says, and how it ended."""
    with tempfile.TemporaryDirectory(prefix="videoprocess-vlc-") as home, ExitStack() as stack:
        given = stack.enter_context(path.open("rb")) if path else subprocess.DEVNULL
        user = None
        if os.geteuid() == 0:
            user = _NOBODY
            os.chown(home, user, -1)
        try:
            run = subprocess.run(
                command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_SECONDS,
                check=False,
                env={**os.environ, "HOME": home},
                user=user,
            )
        except subprocess.TimeoutExpired:
            return "it did not end"
    return f"{run.stdout.decode(errors='replace')}\nexit code {run.returncode}"
