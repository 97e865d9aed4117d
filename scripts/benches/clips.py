"""Clips that the parts measure with, made of the repository's footage by the ffmpeg program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg  # type: ignore[import-untyped]

CLIPS = Path(__file__).parent.parent.parent / "tests" / "clips"
DOG = CLIPS / "dog_720p30_10s.mp4"
DOG_SECONDS = 9.64


#: the program's encoder and its options: quick, with a key frame every so many frames and nowhere else
_ENCODERS = {
    "h264": ("libx264", "-preset", "veryfast", "-sc_threshold", "0"),
    "hevc": ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:scenecut=0:open-gop=0"),
}


def scaled(
    source: Path, path: Path, *, width: int, height: int, frames: int, gop_frames: int, codec: str = "h264"
) -> Path:
    """Write a silent clip of other size and length: the source over and over, a key frame every `gop_frames`."""
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-stream_loop", "-1", "-i", str(source), "-map", "0:v:0", "-an"),
            *("-vf", f"scale={width}:{height}", "-frames:v", str(frames), "-c:v", *_ENCODERS[codec]),
            *("-crf", "20", "-g", str(gop_frames), "-keyint_min", str(gop_frames), str(path)),
        ],
        check=True,
    )
    return path


def smaller(source: Path, path: Path, *, height: int) -> Path:
    """Write a clip with a smaller picture, all else as it is."""
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-i", str(source), "-map", "0:v:0", "-map", "0:a:0"),
            *("-vf", f"scale=-2:{height}", "-fps_mode", "passthrough", "-c:v", *_ENCODERS["h264"]),
            *("-crf", "20", "-c:a", "copy", str(path)),
        ],
        check=True,
    )
    return path


def repeated(source: Path, path: Path, rounds: int) -> Path:
    """Write a clip so many times in a row, picture and sound packet by packet."""
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-stream_loop", str(rounds - 1), "-i", str(source)),
            *("-map", "0:v:0", "-map", "0:a:0", "-c", "copy", str(path)),
        ],
        check=True,
    )
    return path
