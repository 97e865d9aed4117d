"""The programs that are asked: ffprobe, MediaInfo, exiftool and ffmpeg, as Debian has them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: program → how it tells its version
VERSION_FLAGS = {"ffprobe": "-version", "mediainfo": "--Version", "exiftool": "-ver"}
#: Debian's package of each
PACKAGES = {"ffprobe": "ffmpeg", "mediainfo": "mediainfo", "exiftool": "libimage-exiftool-perl"}
PATIENCE_SECONDS = 600.0
#: pictures are reduced to so many columns and rows before they are compared
COLUMNS, ROWS = 64, 36

_ALL = ("-show_streams", "-show_format", "-show_chapters", "-show_packets", "-show_data_hash", "SHA256")


def missing() -> list[str]:
    """Tell which Debian packages are not there."""
    return sorted({package for name, package in PACKAGES.items() if shutil.which(name) is None})


def versions() -> dict[str, str]:
    """Tell the version of each program."""
    found = {}
    for name, flag in VERSION_FLAGS.items():
        said = _run([name, flag]).stdout.decode()
        number = re.search(r"\d+\.[\w.+~-]+", said)
        found[name] = number.group() if number else said.strip()
    return found


def ffprobe(path: Path, *, ignore_edit_list: bool = False) -> dict[str, Any]:
    """Ask for streams, format, chapters, and packets with the SHA-256 of each."""
    more = ("-ignore_editlist", "1") if ignore_edit_list else ()
    return _json(["ffprobe", "-v", "error", *more, *_ALL, "-of", "json=c=1", str(path)])


def ffprobe_format(path: Path) -> dict[str, Any]:
    """Ask for what the file as a whole tells."""
    command = ["ffprobe", "-v", "error", "-show_format", "-of", "json=c=1", str(path)]
    told: dict[str, Any] = _json(command).get("format", {})
    return told


def ffprobe_frames(path: Path, index: int) -> list[dict[str, Any]]:
    """Ask for the decoded frames of a picture track, in the order they are shown."""
    command = ["ffprobe", "-v", "error", "-select_streams", str(index), "-show_frames", "-of", "json=c=1"]
    frames: list[dict[str, Any]] = _json([*command, str(path)]).get("frames", [])
    return [frame for frame in frames if frame.get("media_type") == "video"]


def mediainfo(path: Path) -> list[dict[str, Any]]:
    """Ask for MediaInfo's tracks: General first."""
    media = _json(["mediainfo", "--Output=JSON", str(path)]).get("media") or {}
    tracks: list[dict[str, Any]] = media.get("track", [])
    return tracks


def mediainfo_trace(path: Path) -> bytes:
    """Ask for MediaInfo's trace: each box with its place and size, as XML."""
    return _run(["mediainfo", "--Details=1", "--Output=XML", str(path)]).stdout


def exiftool(path: Path) -> dict[str, Any]:
    """Ask for every tag, those of timed metadata too, by group, place and name."""
    flags = ("-j", "-G1:3:4", "-a", "-s", "-ee", "-api", "largefilesupport")
    answer = json.loads(_run(["exiftool", *flags, str(path)]).stdout or b"[{}]")
    tags: dict[str, Any] = answer[0]
    return tags


def copied_bytes(path: Path, index: int) -> str:
    """Hash a track's bytes as one row, however a reader makes packets of it."""
    flags = ("-ignore_editlist", "1") if path.suffix.lower() not in {".mkv", ".webm"} else ()
    command = ["ffmpeg", "-v", "error", *flags, "-i", str(path), "-map", f"0:{index}", "-c", "copy"]
    return _run([*command, "-f", "hash", "-"]).stdout.decode().strip()


def decoded(path: Path, index: int) -> tuple[bytes, list[str]]:
    """Decode a picture track into small grey pictures, and sound to nowhere.

    Returns:
        The pictures, `COLUMNS` x `ROWS` bytes each, and what ffmpeg said.
    """
    to_grey = f"scale={COLUMNS}:{ROWS}:flags=area:in_range=full:out_range=full,format=gray"
    command = ["ffmpeg", "-nostdin", "-v", "warning", "-noautorotate", "-i", str(path), "-map", f"0:{index}"]
    command += [
        "-vf",
        to_grey,
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "-1",
        "-f",
        "rawvideo",
        "pipe:1",
    ]
    sound = ("-map", "0:a?", "-f", "null", "-")
    ended = _run([*command, *sound])
    said = ended.stderr.decode(errors="replace").replace(str(path), "").splitlines()
    # Addresses and counts differ from run to run.
    plain = sorted({re.sub(r"0x[0-9a-f]+|\d+", "#", line).strip() for line in said if line.strip()})
    return ended.stdout, plain


def _json(command: Sequence[str]) -> dict[str, Any]:
    ended = _run(command)
    answer: dict[str, Any] = json.loads(ended.stdout.decode(errors="replace") or "{}")
    return answer


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
