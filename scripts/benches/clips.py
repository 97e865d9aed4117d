"""Clips that the parts measure with, made of the repository's footage by the ffmpeg program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg  # type: ignore[import-untyped]

CLIPS = Path(__file__).parent.parent.parent / "tests" / "clips"
DOG = CLIPS / "dog_720p30_10s.mp4"
DOG_SECONDS = 9.64


def scaled(source: Path, path: Path, *, width: int, height: int, frames: int, gop_frames: int) -> Path:
    """Write a silent H.264 clip of other size and length: the source over and over, a key frame every `gop_frames`."""
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-stream_loop", "-1", "-i", str(source), "-map", "0:v:0", "-an"),
            *("-vf", f"scale={width}:{height}", "-frames:v", str(frames), "-c:v", "libx264"),
            *("-preset", "veryfast", "-crf", "20", "-g", str(gop_frames), "-keyint_min", str(gop_frames)),
            *("-sc_threshold", "0", str(path)),
        ],
        check=True,
    )
    return path


def repeated(path: Path, rounds: int) -> Path:
    """Write the dog so many times in a row, picture and sound packet by packet."""
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-stream_loop", str(rounds - 1), "-i", str(DOG)),
            *("-map", "0:v:0", "-map", "0:a:0", "-c", "copy", str(path)),
        ],
        check=True,
    )
    return path
