"""What differs between two builds is one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from videoprocess_server.execution.node_check import build_difference, state_remarks
from videoprocess_server.model.tasks import BuildInfo

BUILD = BuildInfo(
    versions={"libavcodec": "62.28.102", "machine": "x86_64"},
    video_decoders=("h264", "hevc"),
    video_encoders=("libx264", "libx265"),
    filters=("scale",),
    extras={"stabilise": "4.10"},
)


def test_the_same_build_is_the_same() -> None:
    assert "" == build_difference(BUILD, replace(BUILD))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"versions": {**BUILD.versions, "libavcodec": "61.0.0"}}, ("libavcodec 61.0.0", "62.28.102")),
        ({"versions": {**BUILD.versions, "machine": "aarch64"}}, ("machine aarch64", "x86_64")),
        ({"video_encoders": ("libx264",)}, ("encoders", "nothing there", "libx265 here")),
        ({"extras": {}}, ("extras", "stabilise 4.10 here")),
    ],
)
def test_what_differs_is_named_in_a_line(change: dict[str, Any], words: tuple[str, ...]) -> None:
    line = build_difference(BUILD, replace(BUILD, **change))
    assert all(word in line for word in words)
    assert 1 == len(line.splitlines())


NOW_US = 1_700_000_000_000_000
ROUND_TRIP_US = 5_000_000


@pytest.mark.parametrize(
    ("off_us", "told"),
    [
        (0, ""),
        (ROUND_TRIP_US + 999_999, ""),
        (ROUND_TRIP_US + 1_000_000, "+1.0 s off"),
        (-999_999, ""),
        (-3_600_000_000, "-3600.0 s off"),
    ],
)
def test_a_clock_is_off_by_what_the_way_does_not_account_for(off_us: int, told: str) -> None:
    state = {"name": "n", "now_us": NOW_US + off_us, "niceness": 0}
    remarks = state_remarks(state, NOW_US, NOW_US + ROUND_TRIP_US)
    assert bool(told) == bool(remarks)
    assert all(told in remark for remark in remarks)


def test_workers_that_are_nicer_than_ray_are_remarked_upon() -> None:
    (remark,) = state_remarks({"name": "n", "now_us": NOW_US, "niceness": 15}, NOW_US, NOW_US)
    assert "RAY_worker_niceness=0" in remark
