"""The noise estimate is within a fifth of the noise that was added, on natural and drawn pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from frame_pictures import draw_frame, plane_values
from media_factory import make_clip
from media_tasks import opened, probe_file
from noisy_clips import read_clip, to_frames, with_noise
from videoprocess_server.media import noise
from videoprocess_server.media.noise import analyze, estimate_frames, sample_places
from videoprocess_server.media.noise_blocks import estimate_plane
from videoprocess_server.model.noise import noise_of
from videoprocess_server.model.tasks import AnalyzeTask

slow = partial(pytest.param, marks=pytest.mark.slow)
NATURAL = ["dog_720p30_10s.mp4", "flower_540p_5s.mp4", "nasa_2video_2audio_2subs.mp4"]


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("sigma", [slow(5), 10, slow(20)])
@pytest.mark.parametrize("name", NATURAL)
def test_added_noise_is_measured(name: str, sigma: int, bits: int, clips: Path) -> None:
    found = estimate_frames(to_frames(with_noise(read_clip(clips / name, 3), sigma, bits), bits))
    for estimate in (found.sigma_y, found.sigma_u, found.sigma_v):
        assert estimate == pytest.approx(sigma, rel=0.2)
    assert found.frame_count == 3


@pytest.mark.parametrize("name", NATURAL)
def test_noise_over_time_reads_the_same_as_in_frames(name: str, clips: Path) -> None:
    """Noise that was added is another in each frame, whether the camera moves or not."""
    found = estimate_frames(to_frames(with_noise(read_clip(clips / name, 3), 10, camera=True)))
    assert found.temporal_sigma_y == pytest.approx(found.sigma_y, rel=0.15)
    assert found.temporal_sigma_u == pytest.approx(7, rel=0.1)
    assert found.temporal_sigma_v == pytest.approx(7, rel=0.1)


def test_noise_that_stands_still_is_told_from_noise_that_changes(clips: Path) -> None:
    noisy = with_noise(read_clip(clips / NATURAL[1], 1), 10)
    found = estimate_frames(to_frames([noisy[0], noisy[0], noisy[0]]))
    assert found.sigma_y == pytest.approx(10, rel=0.2)
    assert found.temporal_sigma_y == 0
    half = [[plane.copy() for plane in noisy[0]] for _ in range(3)]
    half = with_noise(half, 5)
    assert estimate_frames(to_frames(half)).temporal_sigma_y == pytest.approx(5, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NATURAL)
def test_noise_that_grows_with_light_is_told_at_black_and_white(name: str, clips: Path) -> None:
    found = estimate_frames(to_frames(with_noise(read_clip(clips / name, 3), 10, camera=True)))
    assert found.sigma_y_at_black == pytest.approx(10 * 0.4**0.5, rel=0.25)
    assert found.sigma_y_at_white == pytest.approx(10 * (0.4 + 0.6 * 255 / 128) ** 0.5, rel=0.15)


def test_even_noise_is_told_as_even(clips: Path) -> None:
    found = estimate_frames(to_frames(with_noise(read_clip(clips / NATURAL[0], 3), 8)))
    assert found.sigma_y_at_black == pytest.approx(8, rel=0.2)
    assert found.sigma_y_at_white == pytest.approx(8, rel=0.2)


def test_a_grey_area_tells_nothing_of_brightness() -> None:
    rng = np.random.default_rng(1)
    plane = np.clip(128 + rng.normal(0, 8, (240, 320)), 0, 255)
    found = estimate_frames(to_frames([[plane, plane[:120, :160], plane[:120, :160]]]))
    assert found.sigma_y_at_black is None
    assert found.temporal_sigma_y is None


@pytest.mark.parametrize(
    "name", [*map(slow, NATURAL), slow("android14_hlg_main10_1080p.mp4"), "h264_fullrange_webcam.mkv"]
)
def test_clean_clips_measure_low(name: str, clips: Path) -> None:
    assert _analyzed(clips / name).sigma_y < 1


@pytest.mark.slow
def test_noise_that_was_encoded_is_measured(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "noisy.mp4", frames=40, gop=8, noise_sigma=10, crf=15)
    found = _analyzed(clip.path)
    assert found.sigma_y == pytest.approx(10, rel=0.2)
    assert found.frame_count > noise.PLACES
    assert len(found.places) == noise.PLACES
    assert sum(place.sigma_y for place in found.places) / noise.PLACES == pytest.approx(10, rel=0.2)
    assert found == _analyzed(clip.path)


def test_black_bars_do_not_hide_the_noise() -> None:
    rng = np.random.default_rng(1)
    values = np.full((240, 320), 128.0)
    values += np.clip(rng.normal(0, 8, values.shape), -100, 100)
    values[:80], values[-80:] = 16, 16
    assert estimate_plane(np.rint(values).astype(np.float32)) == pytest.approx(8, rel=0.2)


@pytest.mark.parametrize("size", [(2, 2), (64, 48), (7, 300)])
def test_tiny_pictures_are_measured_without_a_fault(size: tuple[int, int]) -> None:
    frame = VideoFrame(*size, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    found = estimate_frames([frame])
    assert found.sigma_y == 0


@pytest.mark.parametrize("name", ["gray", "rgb24", "nv12", "yuv444p10le", "yuv422p", "gbrp10le"])
def test_every_pixel_format_is_measured(name: str) -> None:
    frame = draw_frame(1, 320, 180, noise_sigma=10).reformat(format=name)
    assert 4 < estimate_frames([frame]).sigma_y < 12


def test_the_edges_of_graphics_are_not_taken_for_noise() -> None:
    """White, a grey frame and black figures, as a screen shows them; noise on all of it is seen."""
    plane = np.full((240, 320), 255, np.float32)
    plane[:16] = plane[-16:] = 218
    rows, columns = np.mgrid[:240, :320]
    for x, y in itertools.product(range(30, 300, 26), (60, 120, 180)):
        plane[np.abs(np.hypot(columns - x, (rows - y) / 1.4) - 9) < 1.6] = 10
    assert estimate_plane(plane) <= 1.0
    noisy = np.clip(plane * 0.7 + 30 + np.random.default_rng(1).normal(0, 10, plane.shape), 0, 255)
    assert estimate_plane(np.rint(noisy).astype(np.float32)) == pytest.approx(10, rel=0.1)


def test_nothing_to_measure_is_a_fault() -> None:
    with pytest.raises(ValueError, match="frame"):
        estimate_frames([])


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_what_is_passed_over_before_a_place_changes_nothing_there(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=60, gop=30, noise_sigma=3, codec=codec)
    found = _analyzed(clip.path)
    monkeypatch.setattr(noise, "_PASSED_OVER", "DEFAULT")
    assert _analyzed(clip.path) == found


@pytest.mark.parametrize("part_count", [2, 3, 4, 9])
def test_parts_of_the_places_together_are_the_whole(part_count: int, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=96, gop=6, noise_sigma=3)
    video = probe_file(clip.path).video
    with opened(clip.path) as fd:
        parts = [
            analyze(AnalyzeTask(video=video, part=part, part_count=part_count), fd)
            for part in range(part_count)
        ]
    assert noise_of(parts) == _analyzed(clip.path)
    assert sum(bool(part.frames) for part in parts) == min(part_count, 8)


@pytest.mark.parametrize(("first", "duration", "count"), [(0, 8000, 8), (-5, 3, 3), (7, 0, 1), (7, None, 1)])
def test_places_are_spread_over_the_video(first: int, duration: int | None, count: int) -> None:
    places = sample_places(first, duration)
    assert len(places) == count
    assert all(first <= place < first + max(1, duration or 1) for place in places)


@pytest.mark.parametrize("name", ["single.mp4", "single.mkv", "single.mov"])
def test_a_single_frame_is_measured(name: str, tmp_path: Path) -> None:
    """Every place lies after the only frame's time stamp."""
    found = _analyzed(make_clip(tmp_path / name, frames=1, noise_sigma=10, crf=15).path)
    assert found.sigma_y == pytest.approx(10, rel=0.2)


def test_matroska_that_begins_late_is_measured(tmp_path: Path) -> None:
    """Its duration counts from 0: places must not all lie after its end."""
    hours = 10 * 3600
    clip = make_clip(tmp_path / "late.mkv", frames=40, gop=8, start_pts=hours * 30)
    assert clip.times[0] == hours
    assert _analyzed(clip.path).frame_count >= 1


def test_10_bit_values_are_scaled_to_255() -> None:
    frames: Sequence[VideoFrame] = [draw_frame(1, 320, 180, "yuv420p10le", noise_sigma=6)]
    assert plane_values(frames[0], 0).max() > 255
    assert estimate_frames(frames).sigma_y == pytest.approx(6, rel=0.2)


def _analyzed(path: Path) -> noise.NoiseEstimate:
    video = probe_file(path).video
    assert video.time_base > Fraction(0)
    with opened(path) as fd:
        return noise_of([analyze(AnalyzeTask(video=video), fd)])
