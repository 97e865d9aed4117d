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


#: what saying nothing means
_MEANT = {"chroma-site": "mpeg2", "interlace-mode": "progressive", "multiview-mode": "mono"}
#: no such flag is set
_NO_FLAGS = "0:"
_NANOSECONDS = 1e9


def play(path: Path, seconds: float) -> Playing:
    """Decode all of a file, then from the middle on.

    Args:
        path: the file.
        seconds: twice the place from which it is played again.
    """
    middle = seconds / 2
    told = _told(path, middle)
    whole, later = told["whole"], told["later"]
    pictures, sound, from_middle = (
        [time / _NANOSECONDS for time in times]
        for times in (whole["pictures"], whole["sound"], later["pictures"])
    )
    length, first = whole["length"] / _NANOSECONDS, min(pictures, default=0)
    return Playing(
        ended=whole["ended"] and bool(whole["pictures"]),
        seeked=later["ended"] and bool(later["pictures"]),
        told={
            # A length that its own pictures outlast is a guess.
            **({"length": length} if length > max(pictures, default=0) else {}),
            "first picture": first,
            "times of pictures": [time - first for time in pictures],
            "times of sound": [time - first for time in sound],
            # Of the picture that is there already the player shows a part, or waits for the next.
            "pictures from the middle": [time for time in from_middle if time > middle],
            "shown as": _MEANT | {k: v for k, v in whole["shown as"].items() if not v.startswith(_NO_FLAGS)},
            "orientation": whole["orientation"],
        },
        errors=tuple(sorted({*whole["errors"], *later["errors"]})),
    )


def _told(path: Path, middle: float) -> dict[str, Any]:
    nothing = {"ended": False, "length": 0, "pictures": [], "sound": [], "shown as": {}, "orientation": ""}
    command = ["/usr/bin/python3", str(_PROGRAM), str(path), str(int(middle * _NANOSECONDS))]
    try:
        run = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        told: dict[str, Any] = json.loads(run.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        failed = {**nothing, "errors": [f"no answer: {type(error).__name__}"]}
        return {"whole": failed, "later": failed}
    return told
