"""What the chains do to pictures: noise goes, the picture stays, and a seam cannot be seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from videoprocess_server.enhance.chains import build_chain
from videoprocess_server.media.noise import estimate_frames
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from measure_denoise import enhance, psnr, read_clip, to_frames, with_noise

NATURAL = ["dog_720p30_10s.mp4", "flower_540p_5s.mp4", "nasa_2video_2audio_2subs.mp4"]
INNER = slice(4, -4)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("sigma", [5, 10, 20])
@pytest.mark.parametrize("name", NATURAL)
def test_noisy_clips_come_nearer_to_the_clean_ones(name: str, sigma: int, bits: int, clips: Path) -> None:
    """By 4 dB and more; 2 dB is asked for."""
    clean = read_clip(clips / name, 10)
    noisy = with_noise(clean, sigma, bits)
    frames = to_frames(noisy, bits)
    chain = build_chain(ModeSetting(operation_mode=OperationMode.VIDEO), estimate_frames(frames[:2]), bits)
    made = enhance(frames, chain.filters)
    assert psnr(made[INNER], clean[INNER]) > psnr(noisy[INNER], clean[INNER]) + 4


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("name", NATURAL)
def test_clean_clips_stay_clean(name: str, bits: int, clips: Path) -> None:
    clean = read_clip(clips / name, 4)
    frames = to_frames(clean, bits)
    chain = build_chain(ModeSetting(operation_mode=OperationMode.NORMAL), estimate_frames(frames[:2]), bits)
    assert 40 < psnr(enhance(frames, chain.filters), clean) < 70


@pytest.mark.parametrize("believed", [5.0, 20.0])
def test_a_wrong_estimate_does_no_great_harm(believed: float, clips: Path) -> None:
    clean = read_clip(clips / NATURAL[0], 10)
    noisy = with_noise(clean, 10, 8)
    wrong = NoiseEstimate(sigma_y=believed, sigma_u=believed, sigma_v=believed, frame_count=1)
    made = enhance(
        to_frames(noisy, 8), build_chain(ModeSetting(operation_mode=OperationMode.VIDEO), wrong, 8).filters
    )
    assert psnr(made[INNER], clean[INNER]) > psnr(noisy[INNER], clean[INNER]) + 1


@pytest.mark.parametrize("bits", [8, 10])
def test_declared_frames_around_make_every_pixel_the_same(bits: int, clips: Path) -> None:
    """A frame filtered with its declared neighbours alone equals the same frame of one long run, bit for bit."""
    frames = to_frames(with_noise(read_clip(clips / NATURAL[0], 14), 8, bits), bits)
    noise = NoiseEstimate(sigma_y=8, sigma_u=6, sigma_v=7, frame_count=1)
    chain = build_chain(ModeSetting(operation_mode=OperationMode.VIDEO), noise, bits)
    assert (chain.pre_roll_frames, chain.post_roll_frames) == (4, 4)
    whole = enhance(frames, chain.filters)
    alone = enhance(frames[3:12], chain.filters)
    for plane in range(3):
        assert np.array_equal(whole[7][plane], alone[4][plane])


@pytest.mark.parametrize("bits", [8, 10])
def test_a_clean_plane_is_not_touched_by_denoising_the_others(bits: int, clips: Path) -> None:
    clip = read_clip(clips / NATURAL[1], 6)
    for noise, untouched in (
        (NoiseEstimate(sigma_y=9, sigma_u=0, sigma_v=0, frame_count=1), (1, 2)),
        (NoiseEstimate(sigma_y=0, sigma_u=9, sigma_v=9, frame_count=1), ()),
    ):
        made = enhance(
            to_frames(clip, bits),
            build_chain(ModeSetting(operation_mode=OperationMode.VIDEO), noise, bits).filters,
        )
        for plane in untouched:
            assert all(np.array_equal(a[plane], b[plane]) for a, b in zip(made, clip, strict=True))
