"""Frames are warped once, every plane where its samples lie, with the same bits on every processor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

pytest.importorskip("cv2")

from frame_pictures import fill_plane, plane_values
from shaken_clips import window
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.stabilise.exact_cv2 import exact_cv2
from videoprocess_server.media.stabilise.fixed_point import PIXEL_TICKS, UNIT_TICKS
from videoprocess_server.media.stabilise.records import PATH, write_records
from videoprocess_server.media.stabilise.warp import Warper
from videoprocess_server.media.video_usability import ChromaLocation

SIZE = (320, 192)
TESTS = Path(__file__).parent.parent


def warper(
    folder: Path,
    a: float = 1,
    b: float = 0,
    dx: float = 0,
    dy: float = 0,
    location: ChromaLocation | None = None,
    size: tuple[int, int] = SIZE,
) -> Warper:
    """Of a path of frame 7 only."""
    ticks = (round(a * UNIT_TICKS), round(b * UNIT_TICKS), round(dx * PIXEL_TICKS), round(dy * PIXEL_TICKS))
    target = folder / f"path{len(list(folder.iterdir()))}"
    write_records(target, PATH, *size, np.array([(7, *ticks)], PATH))
    return Warper(target, location)


def frame_of(values: NDArray[np.floating], pix_fmt: str = "yuv420p") -> VideoFrame:
    """The same values in every plane, by where its samples lie in the picture, each for itself."""
    frame = VideoFrame(values.shape[1], values.shape[0], pix_fmt)
    ten = "10" in pix_fmt
    for plane in frame.planes:
        rows, columns = frame.height // plane.height, frame.width // plane.width
        fill_plane(plane, values[::rows, ::columns].astype(np.float64) * (4 if ten else 1), ten=ten)
    return frame


def psnr(one: NDArray[np.float64], other: NDArray[np.float64], most: float = 255) -> float:
    inner = (slice(24, -24), slice(24, -24))
    return float(10 * np.log10(most**2 / np.square(one[inner] - other[inner]).mean()))


def test_a_frame_that_stays_keeps_its_bits(tmp_path: Path) -> None:
    frame = frame_of(window(SIZE))
    before = [bytes(plane) for plane in frame.planes]
    warper(tmp_path).warp(frame, 7)
    warper(tmp_path, a=0.9).warp(frame, 8)
    assert [bytes(plane) for plane in frame.planes] == before


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le", "gray"])
def test_whole_samples_are_moved_as_they_are(tmp_path: Path, pix_fmt: str) -> None:
    frame = frame_of(window(SIZE), pix_fmt)
    before = [plane_values(frame, index) for index in range(len(frame.planes))]
    warper(tmp_path, dx=8, dy=-4).warp(frame, 7)
    for index, was in enumerate(before):
        across, down = (8 * was.shape[1] // SIZE[0], 4 * was.shape[0] // SIZE[1])
        now = plane_values(frame, index)
        np.testing.assert_array_equal(now[down:, :-across], was[:-down, across:])


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_shake_is_undone(tmp_path: Path, pix_fmt: str) -> None:
    turn, growth = 0.02, 0.03
    steady, shaken = frame_of(window(SIZE), pix_fmt), frame_of(window(SIZE, 5.3, -2.6, turn, growth), pix_fmt)
    scale = np.exp(growth)
    warper(tmp_path, scale * np.cos(turn), scale * np.sin(turn), 5.3, -2.6).warp(shaken, 7)
    most = 1023 if "10" in pix_fmt else 255
    assert psnr(plane_values(shaken, 0), plane_values(steady, 0), most) > 30
    assert plane_values(shaken, 0).max() <= most


def test_channels_of_one_plane_are_warped_as_planes_are(tmp_path: Path) -> None:
    planar = VideoFrame(*SIZE, "yuv420p")
    for plane, offset in zip(planar.planes, (0, 5, 9), strict=True):
        fill_plane(plane, window((plane.width, plane.height), seed=7 + offset), ten=False)
    packed = planar.reformat(format="nv12")
    one = warper(tmp_path, 0.93, 0.02, 3.1, -2.2)
    one.warp(planar, 7)
    one.warp(packed, 7)
    again = packed.reformat(format="yuv420p")
    for index in range(3):
        np.testing.assert_array_equal(plane_values(again, index), plane_values(planar, index))


def test_others_that_share_the_memory_keep_theirs(tmp_path: Path) -> None:
    frame = frame_of(window(SIZE))
    before = plane_values(frame, 0)
    from videoprocess_server.media.filters import FilterChain

    shared = list(FilterChain(("null", "format=pix_fmts=yuv420p"), frame.time_base or 1).push(frame))
    warper(tmp_path, a=0.9).warp(shared[0] if shared else frame, 7)
    if shared:
        np.testing.assert_array_equal(plane_values(frame, 0), before)


@pytest.mark.parametrize("location", list(ChromaLocation))
def test_chroma_stays_with_its_luma(tmp_path: Path, location: ChromaLocation) -> None:
    """A slope in both planes, sampled where each one's samples lie, is the same slope after the warp."""
    x_of = {0: 0.0, 1: 0.5, 2: 0.0, 3: 0.5, 4: 0.0, 5: 0.5}[location]
    y_of = {0: 0.5, 1: 0.5, 2: 0.0, 3: 0.0, 4: 1.0, 5: 1.0}[location]

    size, (a, b, dx, dy) = (64, 48), (0.5, 0.1, 3.3, -1.9)

    def slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return 100 + 8 * x + 4 * y

    luma_at = np.meshgrid(np.arange(64.0), np.arange(48.0))
    chroma_at = np.meshgrid(np.arange(32.0) * 2 + x_of, np.arange(24.0) * 2 + y_of)
    frame = VideoFrame(*size, "yuv420p10le")
    for plane, places in zip(frame.planes, (luma_at, chroma_at, chroma_at), strict=True):
        fill_plane(plane, slope(*places), ten=True)
    warper(tmp_path, a, b, dx, dy, location, size).warp(frame, 7)
    for index, (x, y) in enumerate((luma_at, chroma_at, chroma_at)):
        from_x, from_y = a * (x - 31.5) - b * (y - 23.5) + dx, b * (x - 31.5) + a * (y - 23.5) + dy
        beside = plane_values(frame, index) - slope(from_x + 31.5, from_y + 23.5)
        assert abs(beside[2:-2, 2:-2].mean()) < 0.4  # half a pixel of chroma beside would be 1 or more


@pytest.mark.parametrize("size", [(2, 2), (1, 1), (3, 5), (17, 2)])
def test_tiny_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    frame = VideoFrame(*size, "yuv420p")
    for plane in frame.planes:
        plane.update(b"\x37" * plane.buffer_size)
    warper(tmp_path, a=0.9, dx=0.05, size=size).warp(frame, 7)
    assert set(plane_values(frame, 0).ravel().tolist()) == {0x37}


@pytest.mark.parametrize(
    ("size", "pix_fmt"), [((160, 96), "yuv420p"), (SIZE, "yuyv422"), (SIZE, "yuv420p10be")]
)
def test_frames_of_another_kind_are_refused(tmp_path: Path, size: tuple[int, int], pix_fmt: str) -> None:
    with pytest.raises(MediaFault, match="ENCODE_FAILED"):
        warper(tmp_path, a=0.9).warp(VideoFrame(*size, pix_fmt), 7)


def _digests(*arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
    script = TESTS / "stabilise_digests.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS), **(environment or {})},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


@pytest.mark.slow
def test_motion_path_and_pixels_are_the_same_on_every_processor() -> None:
    """Of what OpenCV, IPP, numpy and the C library may choose by the processor nothing is seen."""
    free = _digests()
    assert free == _digests()
    least = {
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FP16,AVX,SSE4.2,SSE4.1",
        "OPENCV_IPP": "disabled",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX",
    }
    assert _digests(environment=least) == free
    assert _digests(environment={"OPENCV_IPP": "sse42"}) == free
    if "*AVX2" in exact_cv2().getCPUFeaturesLine():
        assert _digests("careless") != free  # so the digests do see it
