"""The clip of many short segments that the parts about progress and cost work on, and what one run of it takes."""

from __future__ import annotations

from pathlib import Path

from benches.clips import DOG, scaled

WIDTH, HEIGHT = 640, 360
GOP_FRAMES = 30
FLAGS = ("--segment-seconds", "1", "--longest-gop-seconds", "2")


def many_segments(folder: Path, segments: int) -> Path:
    """Write the clip: so many segments of a second."""
    path = folder / "clip.mp4"
    return scaled(DOG, path, width=WIDTH, height=HEIGHT, frames=segments * GOP_FRAMES, gop_frames=GOP_FRAMES)
