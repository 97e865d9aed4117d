from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.enhance.chains import SUPPORTED_MODES, Chain, build_chain
from videoprocess_server.media.own_filters import arguments_of
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting

#: filters measured to give the same bits on every CPU and at every seam (docs/picture.md)
EXACT = {"motion_denoise", "unsharp", "cas", "deband", "lutyuv", "format"}
SIGMA = st.floats(0, 1000, allow_nan=False)
STRENGTH = st.none() | st.floats(0, 1)
CLEAN = NoiseEstimate(sigma_y=1.4, sigma_u=0.2, sigma_v=0.3, frame_count=1)
NOISY = NoiseEstimate(sigma_y=10, sigma_u=7, sigma_v=6, frame_count=1)


def _chain(noise: NoiseEstimate, bits: int = 8, **setting: object) -> Chain:
    return build_chain(ModeSetting(**{"operation_mode": OperationMode.VIDEO} | setting), noise, bits)  # type: ignore[arg-type]


def _denoising(chain: Chain) -> dict[str, str]:
    return next((arguments_of(stage) for stage in chain.filters if stage.startswith("motion_denoise")), {})


@given(
    st.sampled_from(sorted(SUPPORTED_MODES)),
    st.builds(
        NoiseEstimate,
        sigma_y=SIGMA,
        sigma_u=SIGMA,
        sigma_v=SIGMA,
        frame_count=st.just(1),
        temporal_sigma_y=st.none() | SIGMA,
        sigma_y_at_black=st.none() | SIGMA,
        sigma_y_at_white=st.none() | SIGMA,
    ),
    st.tuples(STRENGTH, STRENGTH, STRENGTH),
    st.sampled_from([8, 10, 12, 16]),
)
def test_anything_gives_exact_filters_within_their_ranges(
    mode: OperationMode,
    noise: NoiseEstimate,
    strengths: tuple[float | None, float | None, float | None],
    bits: int,
) -> None:
    setting = ModeSetting(
        operation_mode=mode,
        denoise_strength=strengths[0],
        sharpen_strength=strengths[1],
        deband_strength=strengths[2],
    )
    chain = build_chain(setting, noise, bits)
    names = [stage.partition("=")[0] for stage in chain.filters]
    assert set(names) <= EXACT
    assert ("unsharp" in names) <= (bits == 8)
    assert ("cas" in names) <= (bits > 8)
    denoising = _denoising(chain)
    assert chain.pre_roll_frames == chain.post_roll_frames == int(denoising.get("radius", "0"))
    assert all(0 <= float(denoising[key]) <= 80 for key in denoising.keys() & {"y", "u", "v", "y0", "y255"})
    assert 0 <= float(denoising.get("frozen", "0")) <= 0.95
    assert all(0 < float(value) <= 0.5 for value in re.findall(r"\dthr=([\d.]+)", " ".join(chain.filters)))


def test_clean_footage_is_not_denoised() -> None:
    chain = _chain(CLEAN)
    assert chain == Chain(filters=("unsharp=lx=5:ly=5:la=0.15:ca=0",), pre_roll_frames=0, post_roll_frames=0)


def test_what_was_measured_is_removed() -> None:
    assert _denoising(_chain(NOISY)) == {"radius": "4", "y": "10.00", "u": "7.00", "v": "6.00"}
    assert _denoising(_chain(replace(NOISY, sigma_u=1.0))).keys() == {"radius", "y", "v"}


def test_noise_that_grows_with_light_is_told() -> None:
    noise = replace(NOISY, sigma_y_at_black=6.0, sigma_y_at_white=12.0)
    assert {"y0": "6.00", "y255": "12.00"}.items() <= _denoising(_chain(noise)).items()
    contradicting = replace(NOISY, sigma_y_at_black=60.0, sigma_y_at_white=1.0)
    assert _denoising(_chain(contradicting))["y"] == "10.00"


@pytest.mark.parametrize(
    ("temporal", "frozen"), [(None, None), (10.4, None), (9.0, None), (6.0, "0.64"), (0.0, "0.95")]
)
def test_noise_that_stands_still_is_told(temporal: float | None, frozen: str | None) -> None:
    chain = _chain(replace(NOISY, temporal_sigma_y=temporal))
    assert _denoising(chain).get("frozen") == frozen


def test_absurd_estimates_are_cut() -> None:
    absurd = NoiseEstimate(sigma_y=1000, sigma_u=1000, sigma_v=1000, frame_count=1)
    most = NoiseEstimate(sigma_y=40, sigma_u=40, sigma_v=40, frame_count=1)
    assert _chain(absurd) == _chain(most)


def test_strengths_replace_what_a_mode_does_by_itself() -> None:
    assert not _denoising(_chain(NOISY, denoise_strength=0.0))
    assert _denoising(_chain(NOISY, denoise_strength=0.5))["y"] == "10.00"
    assert _denoising(_chain(NOISY, denoise_strength=1.0))["y"] == "20.00"
    assert _denoising(_chain(CLEAN, denoise_strength=1.0))["y"] == "3.00"
    assert _chain(CLEAN, sharpen_strength=0.0).filters == ()
    assert _chain(CLEAN, sharpen_strength=1.0).filters == ("unsharp=lx=5:ly=5:la=1.00:ca=0",)
    assert any(stage.startswith("deband") for stage in _chain(CLEAN, deband_strength=0.1).filters)
    night = _chain(CLEAN, operation_mode=OperationMode.NIGHT, deband_strength=0.0)
    assert not any(stage.startswith("deband") for stage in night.filters)


def test_night_denoises_more_lifts_and_debands() -> None:
    night = _chain(NOISY, operation_mode=OperationMode.NIGHT)
    assert {"radius": "6", "y": "12.50"}.items() <= _denoising(night).items()
    names = [stage.partition("=")[0] for stage in night.filters]
    assert names == ["format", "motion_denoise", "lutyuv", "unsharp", "deband", "format"]


def test_the_professional_mode_does_what_is_asked_only() -> None:
    professional = OperationMode.PROFESSIONAL_VIDEO
    assert _chain(NOISY, operation_mode=professional) == Chain(
        filters=(), pre_roll_frames=0, post_roll_frames=0
    )
    assert _denoising(_chain(NOISY, operation_mode=professional, denoise_strength=0.5))["y"] == "10.00"


def test_modes_that_move_or_make_frames_look_like_video() -> None:
    video = SUPPORTED_MODES[OperationMode.VIDEO]
    for mode in (
        OperationMode.NORMAL,
        OperationMode.SUPER_STAB,
        OperationMode.HIGH_FRAME_RATE,
        OperationMode.SLOW_MOTION,
    ):
        assert SUPPORTED_MODES[mode] == video


def test_other_modes_are_not_supported() -> None:
    assert len(SUPPORTED_MODES) == 7
    with pytest.raises(KeyError):
        _chain(CLEAN, operation_mode=OperationMode.PORTRAIT)
