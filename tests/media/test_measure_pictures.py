"""Figures of pictures move the way they should, and are those that FFmpeg's own filters tell."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from frame_pictures import draw_frame
from videoprocess_server.media.measure.pictures import (
    MOST_XPSNR_DB,
    laplacian_square,
    luma_of,
    sharpness,
    ssim,
    xpsnr_db,
)
from videoprocess_server.media.planes import read_plane, write_plane

Luma = NDArray[Any]


def _first_frame(path: Path) -> VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def _with_luma(frame: VideoFrame, values: NDArray[np.float64]) -> VideoFrame:
    made = VideoFrame(frame.width, frame.height, frame.format.name)
    bits = frame.format.components[0].bits
    write_plane(
        made, 0, np.clip(np.rint(values), 0, (1 << bits) - 1).astype(np.uint16 if bits > 8 else np.uint8)
    )
    for plane in (1, 2):
        write_plane(made, plane, read_plane(frame, plane))
    return made


def _noisy(frame: VideoFrame, sigma: float) -> VideoFrame:
    luma, bits = luma_of(frame)
    noise = np.random.default_rng(1).normal(0, sigma * 2 ** (bits - 8), luma.shape)
    return _with_luma(frame, luma + noise)


def _blurred(frame: VideoFrame) -> VideoFrame:
    luma = luma_of(frame)[0].astype(np.float64)
    return _with_luma(
        frame, (luma + np.roll(luma, 1, 0) + np.roll(luma, 1, 1) + np.roll(luma, (1, 1), (0, 1))) / 4
    )


def _told_by_ffmpeg(folder: Path, name: str, original: VideoFrame, other: VideoFrame) -> str:
    """The last line that a filter of two videos writes; both stand still, so that nothing moves."""
    graph, lines = Graph(), folder / f"{name}.txt"
    graph.threads = 1
    sources = [
        graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/25",
            pixel_aspect="1/1",
        )
        for frame in (original, other)
    ]
    compare, sink = graph.add(name, f"stats_file={lines}"), graph.add("buffersink")
    for place, source in enumerate(sources):
        source.link_to(compare, 0, place)
    compare.link_to(sink)
    graph.configure()
    for number in range(3):
        for source, frame in zip(sources, (original, other), strict=True):
            frame.pts = number
            source.push(frame)
    for source in sources:
        source.push(None)
    with suppress(av.error.EOFError, av.error.BlockingIOError):
        while sink.pull() is not None:
            pass
    del graph, sources, compare, sink
    return next(
        line for line in reversed(lines.read_text().splitlines()) if line.startswith(("n:    3", "n:3"))
    )


@pytest.mark.parametrize("name", ["dog_720p30_10s.mp4", "android14_hlg_main10_1080p.mp4"])
@pytest.mark.parametrize("spoil", [_blurred, lambda frame: _noisy(frame, 4)], ids=["blurred", "noisy"])
def test_they_are_ffmpegs(name: str, spoil: Any, clips: Path, tmp_path: Path) -> None:
    """Of one without motion FFmpeg's XPSNR has no temporal weights, either."""
    original = _first_frame(clips / name)
    other = spoil(original)
    (one, bits), (two, _) = luma_of(original), luma_of(other)
    told = _told_by_ffmpeg(tmp_path, "xpsnr", original, other)
    assert xpsnr_db(one, two, bits) == pytest.approx(float(told.split("XPSNR y:")[1].split()[0]), abs=0.01)
    told = _told_by_ffmpeg(tmp_path, "ssim", original, other)
    assert ssim(one, two, bits) == pytest.approx(float(told.split("Y:")[1].split()[0]), abs=0.003)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 5), (8, 8), (9, 64), (640, 3)])
@pytest.mark.parametrize("bits", [8, 10])
def test_pictures_of_any_size(size: tuple[int, int], bits: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 1 << bits, size[::-1]).astype(np.uint16 if bits > 8 else np.uint8)
    other = values ^ 1
    assert (ssim(values, values, bits), xpsnr_db(values, values, bits)) == (1.0, MOST_XPSNR_DB)
    assert 0.9 < ssim(values, other, bits) < 1.0
    assert xpsnr_db(values, other, bits) < MOST_XPSNR_DB
    assert laplacian_square(values, bits) >= 0.0


def test_sharpness_falls_with_blur_and_does_not_take_noise_for_it(clips: Path) -> None:
    frame = _first_frame(clips / "dog_720p30_10s.mp4")
    clear = sharpness(laplacian_square(*luma_of(frame)), 0.0)
    assert sharpness(laplacian_square(*luma_of(_blurred(frame))), 0.0) < 0.8 * clear
    noisy = laplacian_square(*luma_of(_noisy(frame, 5)))
    assert sharpness(noisy, 0.0) > 1.2 * clear
    assert sharpness(noisy, 5.0) == pytest.approx(clear, rel=0.1)


def test_sharpness_is_the_same_at_ten_bits() -> None:
    figures = [
        laplacian_square(*luma_of(draw_frame(1, 320, 180, name))) for name in ("yuv420p", "yuv420p10le")
    ]
    assert figures[1] == pytest.approx(figures[0], rel=0.1)


@pytest.mark.parametrize("name", ["gray", "rgb24", "nv12", "yuv444p10le", "yuv422p", "gbrp10le", "yuyv422"])
def test_the_luma_of_every_pixel_format(name: str) -> None:
    luma, bits = luma_of(draw_frame(1, 320, 180).reformat(format=name))
    assert luma.shape == (180, 320)
    assert bits == (10 if "10" in name else 8)
    assert luma.max() > 150 << bits - 8


def test_larger_errors_are_worse(clips: Path) -> None:
    frame = _first_frame(clips / "flower_540p_5s.mp4")
    luma, bits = luma_of(frame)
    figures = [
        (ssim(luma, luma_of(other)[0], bits), xpsnr_db(luma, luma_of(other)[0], bits))
        for other in (_noisy(frame, sigma) for sigma in (1, 2, 5, 10))
    ]
    assert figures == sorted(figures, reverse=True)


@pytest.mark.slow
def test_figures_do_not_depend_on_the_processor() -> None:
    """Numpy and its BLAS are told that the processor is of 2008."""
    script = Path(__file__).parent.parent / "measured_figures.py"
    old = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}

    def figures(environment: dict[str, str]) -> list[str]:
        command = [sys.executable, str(script)]
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, env=os.environ | environment
        )
        return run.stdout.split()

    native, older = figures({}), figures(old)
    assert native[:-1] == older[:-1]
    if platform.machine() == "x86_64":
        assert native[-1] != older[-1], "numpy did not take the processor for another one"
