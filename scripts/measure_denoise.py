"""Measures the noise estimate and the enhancement on real clips with noise added: the tables of docs/picture.md.

    PYTHONPATH=server:tests python scripts/measure_denoise.py CLIP [CLIP ...]

Frames are cut to 768x432 in the middle of the clip; Gaussian noise of sigma code values of 255 is added to all planes
(seeded, clipped); PSNR is of luma against the clean frames, before any encoding, without the first and last four.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from frame_pictures import fill_plane, plane_values
from videoprocess_server.enhance.chains import build_chain
from videoprocess_server.media.noise import estimate_frames
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.settings_snapshot import ModeSetting

Planes = list[NDArray[np.float64]]
SIGMAS = (0, 5, 10, 20)
FRAMES = 16
WIDTH, HEIGHT = 768, 432


def read_clip(path: Path, frames: int = FRAMES) -> list[Planes]:
    """Reads consecutive frames from the middle of an 8 bit 4:2:0 clip, cut to the middle of the picture."""
    clip: list[Planes] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        skip = max(0, int((stream.frames or 100) * 0.45))
        for number, frame in enumerate(container.decode(stream)):
            if number < skip:
                continue
            if len(clip) == frames:
                break
            width, height = min(WIDTH, frame.width) // 16 * 16, min(HEIGHT, frame.height) // 16 * 16
            x, y = (frame.width - width) // 4 * 2, (frame.height - height) // 4 * 2
            clip.append(
                [
                    plane_values(frame, index)[y // d : (y + height) // d, x // d : (x + width) // d]
                    for index, d in enumerate((1, 2, 2))
                ]
            )
    return clip


def with_noise(clip: Sequence[Planes], sigma: float, bits: int) -> list[Planes]:
    """Adds noise in the frames' bit depth; the result is in code values of 255."""
    rng = np.random.default_rng(1)
    scale = 2 ** (bits - 8)
    return [
        [
            np.clip(np.rint((plane + rng.normal(0, sigma, plane.shape)) * scale), 0, 256 * scale - 1) / scale
            for plane in planes
        ]
        for planes in clip
    ]


def to_frames(clip: Sequence[Planes], bits: int) -> list[VideoFrame]:
    """Makes frames of code values of 255."""
    frames = []
    for number, planes in enumerate(clip):
        height, width = planes[0].shape
        frame = VideoFrame(width, height, "yuv420p" if bits == 8 else "yuv420p10le")
        for plane, values in zip(frame.planes, planes, strict=True):
            fill_plane(plane, values * (1 if bits == 8 else 4), ten=bits == 10)
        frame.pts, frame.time_base = number, Fraction(1, 30)
        frames.append(frame)
    return frames


def enhance(frames: Sequence[VideoFrame], filters: Sequence[str]) -> list[Planes]:
    """Runs a chain; the result is in code values of 255."""
    first = frames[0]
    graph = Graph()
    graph.threads = 1
    last = graph.add_buffer(
        width=first.width, height=first.height, format=first.format.name, time_base=Fraction(1, 30)
    )
    for stage in filters:
        name, _, arguments = stage.partition("=")
        node = graph.add(name, arguments or None)
        last.link_to(node)
        last = node
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    for frame in frames:
        graph.push(frame)
    graph.push(None)
    made = [graph.pull() for _ in frames]
    scale = 2 ** (first.format.components[0].bits - 8)
    if any(frame.format.name != first.format.name for frame in made):
        raise ValueError("the chain changes the pixel format")
    return [[plane_values(frame, index) / scale for index in range(3)] for frame in made]


def psnr(clip: Sequence[Planes], clean: Sequence[Planes]) -> float:
    """Decibels of luma, capped at 99."""
    error = np.mean([np.mean((a[0] - b[0]) ** 2) for a, b in zip(clip, clean, strict=True)])
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def measure(path: Path, bits: int) -> list[tuple[float, float, float, float]]:
    """For each sigma: estimate of luma's noise, PSNR before, PSNR after, noise after."""
    clean = read_clip(path)
    inner = slice(4, -4)
    rows = []
    for sigma in SIGMAS:
        noisy = with_noise(clean, sigma, bits)
        frames = to_frames(noisy, bits)
        noise = estimate_frames(frames[::4])
        chain = build_chain(ModeSetting(operation_mode=OperationMode.VIDEO), noise, bits)
        made = enhance(frames, chain.filters)
        after = estimate_frames(to_frames(made[inner], bits)[::4])
        rows.append(
            (noise.sigma_y, psnr(noisy[inner], clean[inner]), psnr(made[inner], clean[inner]), after.sigma_y)
        )
    return rows


def main() -> None:
    """Prints a table in Markdown."""
    print(
        "| clip | bits | "
        + " | ".join(f"noise {sigma}: estimate; PSNR before → after; noise after" for sigma in SIGMAS)
        + " |"
    )
    print("|---|---|" + "---|" * len(SIGMAS))
    for name in sys.argv[1:]:
        for bits in (8, 10):
            cells = [f"{e:.2f}; {a:.1f} → {b:.1f}; {n:.2f}" for e, a, b, n in measure(Path(name), bits)]
            print(f"| {Path(name).name} | {bits} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
