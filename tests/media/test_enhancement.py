"""What the chains do to pictures: noise goes, the picture stays, and a seam cannot be seen."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from frame_pictures import plane_values
from noisy_clips import enhance, psnr, read_clip, to_frames, with_noise
from videoprocess_server.enhance.chains import SUPPORTED_MODES, build_chain
from videoprocess_server.enhance.finishing import SHADOW_LIFT
from videoprocess_server.media.filters import run_filters
from videoprocess_server.media.noise import estimate_frames
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting

NATURAL = ["dog_720p30_10s.mp4", "flower_540p_5s.mp4", "nasa_2video_2audio_2subs.mp4"]
INNER = slice(4, -4)
SMALL = (320, 176)
VIDEO = ModeSetting(operation_mode=OperationMode.VIDEO)
NIGHT = ModeSetting(operation_mode=OperationMode.NIGHT)
SOME = NoiseEstimate(
    sigma_y=8,
    sigma_u=6,
    sigma_v=7,
    frame_count=1,
    sigma_y_at_black=5,
    sigma_y_at_white=10,
    temporal_sigma_y=6,
)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("sigma", [5, 10, 20])
@pytest.mark.parametrize("name", NATURAL)
def test_noisy_clips_come_much_nearer_to_the_clean_ones(
    name: str, sigma: int, bits: int, clips: Path
) -> None:
    clean = read_clip(clips / name, 10)
    noisy = with_noise(clean, sigma, bits, camera=True)
    frames = to_frames(noisy, bits)
    made = enhance(frames, build_chain(VIDEO, estimate_frames(frames[:3]), bits).filters)
    assert psnr(made[INNER], clean[INNER]) > psnr(noisy[INNER], clean[INNER]) + 8
    assert psnr(made[INNER], clean[INNER], 1) > psnr(noisy[INNER], clean[INNER], 1) + 8


def test_a_noisy_clip_comes_nearer_to_the_clean_one(clips: Path) -> None:
    clean = read_clip(clips / NATURAL[2], 7, SMALL)
    noisy = with_noise(clean, 10, camera=True)
    frames = to_frames(noisy)
    made = enhance(frames, build_chain(VIDEO, estimate_frames(frames[:3]), 8).filters)
    assert psnr(made, clean) > psnr(noisy, clean) + 8


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("name", NATURAL)
def test_clean_clips_stay_clean(name: str, bits: int, clips: Path) -> None:
    clean = read_clip(clips / name, 4)
    frames = to_frames(clean, bits)
    chain = build_chain(ModeSetting(), estimate_frames(frames[:2]), bits)
    assert 44 < psnr(enhance(frames, chain.filters), clean) < 70


@pytest.mark.slow
@pytest.mark.parametrize("believed", [5.0, 20.0])
def test_a_wrong_estimate_does_no_great_harm(believed: float, clips: Path) -> None:
    clean = read_clip(clips / NATURAL[0], 7, SMALL)
    noisy = with_noise(clean, 10)
    wrong = NoiseEstimate(sigma_y=believed, sigma_u=believed, sigma_v=believed, frame_count=1)
    made = enhance(to_frames(noisy), build_chain(VIDEO, wrong, 8).filters)
    assert psnr(made, clean) > psnr(noisy, clean) + 1


@pytest.mark.parametrize(
    ("mode", "bits"),
    [
        (OperationMode.VIDEO, 8),
        (OperationMode.NIGHT, 10),
        pytest.param(OperationMode.VIDEO, 10, marks=pytest.mark.slow),
        pytest.param(OperationMode.NIGHT, 8, marks=pytest.mark.slow),
        pytest.param(OperationMode.PROFESSIONAL_VIDEO, 8, marks=pytest.mark.slow),
        pytest.param(OperationMode.PROFESSIONAL_VIDEO, 10, marks=pytest.mark.slow),
    ],
)
def test_declared_frames_around_make_every_pixel_the_same(
    mode: OperationMode, bits: int, clips: Path
) -> None:
    """A frame filtered with its declared neighbours alone equals the same frame of one long run, bit for bit."""
    frames = to_frames(with_noise(read_clip(clips / NATURAL[0], 15, (128, 80)), 8, bits), bits)
    chain = build_chain(ModeSetting(operation_mode=mode, deband_strength=0.5), SOME, bits)
    whole = enhance(frames, chain.filters)
    position = 7
    alone = enhance(
        frames[position - chain.pre_roll_frames : position + chain.post_roll_frames + 1], chain.filters
    )
    for plane in range(3):
        assert np.array_equal(whole[position][plane], alone[chain.pre_roll_frames][plane])


@pytest.mark.slow
def test_fewer_frames_around_than_declared_are_not_enough(clips: Path) -> None:
    frames = to_frames(with_noise(read_clip(clips / NATURAL[0], 11, (192, 112)), 8))
    chain = build_chain(VIDEO, SOME, 8)
    whole, alone = enhance(frames, chain.filters), enhance(frames[1:9], chain.filters)
    assert not np.array_equal(whole[5][0], alone[4][0])


@pytest.mark.parametrize("bits", [8, 10])
def test_a_clean_plane_is_not_touched_by_denoising_the_others(bits: int, clips: Path) -> None:
    clip = read_clip(clips / NATURAL[1], 3, SMALL)
    noise = NoiseEstimate(sigma_y=9, sigma_u=0, sigma_v=0, frame_count=1)
    made = enhance(to_frames(clip, bits), build_chain(VIDEO, noise, bits).filters)
    for plane in (1, 2):
        assert all(np.array_equal(a[plane], b[plane]) for a, b in zip(made, clip, strict=True))
    assert not np.array_equal(made[1][0], clip[1][0])


def test_the_professional_mode_leaves_every_pixel_alone(clips: Path) -> None:
    clip = with_noise(read_clip(clips / NATURAL[2], 3, SMALL), 10)
    setting = ModeSetting(operation_mode=OperationMode.PROFESSIONAL_VIDEO)
    chain = build_chain(setting, SOME, 8)
    assert chain.filters == ()
    assert psnr(enhance(to_frames(clip), chain.filters), clip) == 99


@pytest.mark.parametrize("bits", [8, 10])
def test_night_lifts_shadows_with_restraint(bits: int) -> None:
    """Black and white stay, no order turns round, and nothing is lifted by more than a few code values."""
    ramp = np.tile(np.arange(256.0), (64, 1))
    chroma = np.full((32, 128), 128.0)
    clean = NoiseEstimate(sigma_y=0, sigma_u=0, sigma_v=0, frame_count=1)
    setting = ModeSetting(operation_mode=OperationMode.NIGHT, sharpen_strength=0.0, deband_strength=0.0)
    made = enhance(to_frames([[ramp, chroma, chroma]], bits), build_chain(setting, clean, bits).filters)[0]
    line = made[0][32]
    assert np.array_equal(line[:17], np.arange(17.0))
    assert np.array_equal(line[235:], np.arange(235.0, 256.0))
    assert (np.diff(line) >= 0).all()
    lift = line - np.arange(256.0)
    assert lift.min() >= 0
    assert lift.max() == pytest.approx(SHADOW_LIFT, abs=0.5)
    assert 50 < int(lift.argmax()) < 90
    assert np.array_equal(made[1], chroma)


def test_night_leaves_high_dynamic_range_as_bright_as_it_is() -> None:
    assert any("lutyuv" in stage for stage in build_chain(NIGHT, SOME, 10).filters)
    assert not any("lutyuv" in stage for stage in build_chain(NIGHT, SOME, 10, is_hdr=True).filters)


@pytest.mark.parametrize("bits", [8, 10])
def test_debanding_smooths_steps(bits: int) -> None:
    """Bands of 2 code values become finer; with a strength of 0 they stay."""
    bands = np.repeat(np.arange(60, 100, 2.0), 16)[None].repeat(64, axis=0)
    chroma = np.full((32, 160), 128.0)
    frames = to_frames([[bands, chroma, chroma]], bits)
    clean = NoiseEstimate(sigma_y=0, sigma_u=0, sigma_v=0, frame_count=1)

    def largest_step(strength: float) -> float:
        setting = ModeSetting(operation_mode=OperationMode.PROFESSIONAL_VIDEO, deband_strength=strength)
        made = enhance(frames, build_chain(setting, clean, bits).filters)[0][0]
        return max(abs(step) for step in np.diff(made.mean(axis=0)).tolist())

    assert largest_step(0.0) == 2
    assert largest_step(1.0) < 1.5


@pytest.mark.parametrize("bits", [8, 10])
def test_strengths_are_obeyed(bits: int, clips: Path) -> None:
    """More is more, on clean footage too; 0 is off."""
    clip = read_clip(clips / NATURAL[2], 3, SMALL)
    clean = NoiseEstimate(sigma_y=0.1, sigma_u=0.1, sigma_v=0.1, frame_count=1)

    def changed(**strengths: float) -> float:
        setting = ModeSetting(operation_mode=OperationMode.PROFESSIONAL_VIDEO, **strengths)  # type: ignore[arg-type]
        return -psnr(enhance(to_frames(clip, bits), build_chain(setting, clean, bits).filters), clip)

    for name in ("denoise_strength", "sharpen_strength"):
        assert -99 == changed(**{name: 0.0}) < changed(**{name: 0.3}) < changed(**{name: 1.0}) < -20


@pytest.mark.parametrize("size", [(2, 2), (37, 21), (6, 130)])
@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("yuv422p", 8),
        ("gray", 8),
        ("nv12", 8),
        ("rgb24", 8),
        ("yuv444p12le", 12),
        ("gbrp10le", 10),
        ("yuv440p", 8),
    ],
)
def test_every_picture_is_enhanced(name: str, bits: int, size: tuple[int, int]) -> None:
    frames = []
    for number in range(3):
        frame = VideoFrame(*size, name)
        for plane in frame.planes:
            plane.update(bytes([number]) * plane.buffer_size)
        frame.pts, frame.time_base = number, Fraction(1, 30)
        frames.append(frame)
    stages = (*build_chain(NIGHT, SOME, bits).filters, f"format=pix_fmts={name}")
    made = list(run_filters(frames, stages, Fraction(1, 30), ""))
    assert [(frame.pts, frame.width, frame.height, frame.format.name) for frame in made] == [
        (number, *size, name) for number in range(3)
    ]


def test_colours_and_times_are_kept(clips: Path) -> None:
    frames = to_frames(read_clip(clips / NATURAL[0], 3, (192, 112)))
    for frame in frames:
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = 1, 2, 9, 18
    stages = (build_chain(VIDEO, SOME, 8).filters[1],)
    for frame in run_filters(frames, stages, Fraction(1, 30), ""):
        assert frame.time_base == Fraction(1, 30)
        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 2, 9, 18)


@pytest.mark.slow
def test_a_cut_does_not_show_through(clips: Path) -> None:
    """Frames before and after a cut have nothing in common, and nothing of either is seen in the other."""
    before = read_clip(clips / NATURAL[2], 4, (192, 112))
    after = [[255 - plane for plane in planes] for planes in read_clip(clips / NATURAL[0], 4, (192, 112))]
    clean = [*before, *after]
    chain = build_chain(VIDEO, SOME, 8)
    made = enhance(to_frames(with_noise(clean, 8)), chain.filters)
    apart = enhance(to_frames(with_noise(clean, 8)[:4]), chain.filters)
    assert psnr(made[3:4], clean[3:4]) > psnr(apart[3:4], clean[3:4]) - 1


@pytest.mark.slow
def test_pixels_and_estimates_do_not_depend_on_the_processor() -> None:
    """FFmpeg is told that the processor has no vector instructions, and numpy that it has the least it is built for."""
    script = Path(__file__).parent.parent / "denoised_digests.py"
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    features = " ".join(found)

    def digests(*flags: str, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, str(script), *flags],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
            env={**os.environ, **environment},
        ).stdout

    native = digests()
    assert len(native.splitlines()) == 2 * len(SUPPORTED_MODES)
    assert digests("0") == native
    if platform.machine() == "x86_64":
        assert features
    assert digests(NPY_DISABLE_CPU_FEATURES=features) == native


def test_frames_are_as_they_were_drawn() -> None:
    """The measure itself: what is not touched has no error."""
    plane = np.arange(64.0).reshape(8, 8)
    frame = to_frames([[plane, plane[:4, :4], plane[:4, :4]]])[0]
    assert np.array_equal(plane_values(frame, 0), plane)
