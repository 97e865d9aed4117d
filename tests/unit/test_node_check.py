"""What differs between two builds is one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from videoprocess_server.execution.node_check import build_difference
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
