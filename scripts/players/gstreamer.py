"""GStreamer: decodes to sinks that show nothing and tells each picture's time."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from players.playing import Playing

#: Debian's, which finds Debian's bindings of GStreamer
PROGRAMS = ("/usr/bin/python3", "gst-launch-1.0")
PATIENCE_SECONDS = 150.0
_PROGRAM = Path(__file__).with_name("gstreamer_program.py")


def version() -> str:
    """Tell GStreamer's version."""
    program = shutil.which("gst-launch-1.0") or "gst-launch-1.0"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.splitlines()[1].removeprefix("GStreamer ")


def play(path: Path, seconds: float) -> Playing:  # noqa: ARG001 - it measures the length itself
    """Decode all of a file, then from the middle on.

    Args:
        path: the file.
        seconds: its length.
    """
    told = _told(path)
    whole, later = told["whole"], told["later"]
    return Playing(
        ended=whole["ended"] and bool(whole["pictures"]),
        seeked=later["ended"] and bool(later["pictures"]),
        told={
            "length in ns": whole["length"],
            "times of pictures in ns": whole["pictures"],
            "times of sound in ns": whole["sound"],
            "times of pictures from the middle": later["pictures"],
            "shown as": whole["shown as"],
            "orientation": whole["orientation"],
        },
        errors=tuple(sorted({*whole["errors"], *later["errors"]})),
    )


def _told(path: Path) -> dict[str, Any]:
    nothing = {"ended": False, "length": 0, "pictures": [], "sound": [], "shown as": {}, "orientation": ""}
    command = ["/usr/bin/python3", str(_PROGRAM), str(path)]
    try:
        run = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        told: dict[str, Any] = json.loads(run.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        failed = {**nothing, "errors": [f"no answer: {type(error).__name__}"]}
        return {"whole": failed, "later": failed}
    return told
