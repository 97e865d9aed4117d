from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.enhance.chains import SUPPORTED_MODES, Chain, build_chain
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting

#: filters measured to give the same bits on every CPU and at every seam (docs/picture.md)
EXACT = {"atadenoise", "nlmeans", "yaepblur", "unsharp", "cas"}
SIGMA = st.floats(0, 1000, allow_nan=False)


def _chain(y: float, u: float, v: float, bits: int = 8) -> Chain:
    noise = NoiseEstimate(sigma_y=y, sigma_u=u, sigma_v=v, frame_count=1)
    return build_chain(ModeSetting(operation_mode=OperationMode.VIDEO), noise, bits)


@given(SIGMA, SIGMA, SIGMA, st.sampled_from([8, 10, 12]))
def test_any_noise_gives_exact_filters_within_their_ranges(y: float, u: float, v: float, bits: int) -> None:
    chain = _chain(y, u, v, bits)
    names = [stage.partition("=")[0] for stage in chain.filters]
    assert set(names) <= EXACT
    assert (names[-1] == "unsharp") == (bits == 8)
    assert "cas" not in names or bits > 8
    assert ("nlmeans" in names) <= (bits == 8)
    text = ",".join(chain.filters)
    assert len(re.findall(r"[012]a=", text)) == sum(sigma >= 1.5 for sigma in (y, u, v))
    assert "a=0.0000" not in text
    assert all(0 <= float(value) <= 0.3 for value in re.findall(r"\da=([\d.]+)", text))
    assert all(0 <= float(value) <= 5 for value in re.findall(r"\db=([\d.]+)", text))
    assert all(1 <= float(value) <= 30 for value in re.findall(r"nlmeans=s=([\d.]+)", text))
    assert ("atadenoise" in names) == (chain.pre_roll_frames == 4) == (chain.post_roll_frames == 4)


def test_clean_footage_is_not_denoised() -> None:
    chain = _chain(1.4, 0.2, 0.3)
    assert chain == Chain(filters=("unsharp=lx=5:ly=5:la=0.15:ca=0",), pre_roll_frames=0, post_roll_frames=0)


def test_more_noise_is_denoised_more() -> None:
    weak, strong = _chain(5, 5, 5), _chain(10, 10, 10)
    assert weak.filters[0] < strong.filters[0]
    assert weak.filters[1] == "nlmeans=s=2.75:p=3:r=3:rc=1"
    assert strong.filters[1] == "nlmeans=s=5.50:p=3:r=3:rc=1"


def test_absurd_estimates_are_cut() -> None:
    assert _chain(1000, 1000, 1000) == _chain(40, 40, 40)


def test_normal_and_video_are_the_modes() -> None:
    assert set(SUPPORTED_MODES) == {OperationMode.NORMAL, OperationMode.VIDEO}
    with pytest.raises(KeyError):
        build_chain(
            ModeSetting(operation_mode=OperationMode.NIGHT),
            NoiseEstimate(sigma_y=0, sigma_u=0, sigma_v=0, frame_count=1),
            8,
        )
