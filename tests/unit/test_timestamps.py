from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.media.timestamps import rebuild_dts


@given(st.lists(st.integers(-(2**40), 2**40), unique=True, max_size=60), st.integers(1, 10_000))
def test_decode_times_increase_and_never_pass_their_presentation_time(pts: list[int], step: int) -> None:
    dts = rebuild_dts(pts, step)
    assert len(dts) == len(pts)
    assert all(a < b for a, b in pairwise(dts))
    assert all(d <= p for d, p in zip(dts, pts, strict=True))


@given(st.lists(st.integers(-(2**40), 2**40), unique=True, max_size=60).map(sorted), st.integers(1, 10_000))
def test_without_reordering_decode_time_is_presentation_time(pts: list[int], step: int) -> None:
    assert rebuild_dts(pts, step) == pts


def test_variable_rate_with_b_frames_over_a_seam() -> None:
    """flir's seam: x264 put the second segment's first dts before the first segment's last."""
    assert rebuild_dts([0, 300, 100, 200, 900, 500, 600], 100) == [-100, 0, 100, 200, 300, 500, 600]


def test_same_presentation_time_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="same presentation time"):
        rebuild_dts([0, 5, 5], 1)


def test_a_step_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="does not increase"):
        rebuild_dts([0], 0)
