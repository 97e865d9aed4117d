"""The same pictures become the same bytes on every run, whatever vector instructions the processor has."""

from __future__ import annotations

import platform
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media_factory import make_clip
from media_tasks import encode, plan_file
from videoprocess_server.media import instruction_sets
from videoprocess_server.model.plan import Plan

RUNS = 6
#: in macroblocks 4, 11, 20 and 45 wide, which x264's code for AVX-512 does not get right, and 40, which it does
SIZES = [
    (64, 48),
    (176, 144),
    *(pytest.param(*size, marks=pytest.mark.slow) for size in ((320, 180), (720, 64), (640, 48))),
]


def _stir_memory(seed: int) -> None:
    """Leave other bytes where the next encoder finds its memory."""
    random = np.random.default_rng(seed)
    stirred = [np.full(random.integers(1_000, 300_000), seed + 1, np.uint8) for _ in range(40)]
    stirred.clear()


def _sha256(source: Path, plan: Plan, folder: Path) -> tuple[str, ...]:
    return tuple(segment.sha256 for segment in encode(source, plan, plan.segments, folder))


def _with_parameters(plan: Plan, parameters: str) -> Plan:
    (rendition,) = plan.renditions
    options = {**rendition.encoder.options, "x264-params": parameters}
    encoder = replace(rendition.encoder, options=options)
    return replace(plan, renditions=(replace(rendition, encoder=encoder),))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_runs_make_the_same_bytes_as_a_processor_without_avx(
    width: int, height: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", width=width, height=height, frames=24, noise_sigma=6.0)
    plan = plan_file(clip.path, segment_seconds=Fraction(2, 5))
    made = set()
    for run in range(RUNS):
        _stir_memory(run)
        made.add(_sha256(clip.path, plan, tmp_path / f"{run}"))
    assert len(made) == 1
    if platform.machine() == "x86_64":
        monkeypatch.setattr(instruction_sets, "_has_avx512", lambda: False)
        assert made == {_sha256(clip.path, _with_parameters(plan, "asm=sse4.2"), tmp_path / "sse")}


def test_parameters_of_the_plan_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "_has_avx512", lambda: True)
    clip = make_clip(tmp_path / "clip.mp4", width=64, height=48, frames=4)
    encoder = _with_parameters(plan_file(clip.path), "chromaloc=2").renditions[0].encoder
    told = instruction_sets.exact_options(encoder, dict(encoder.options))["x264-params"]
    assert told.split(":")[0] == "chromaloc=2"
    assert told.split(":")[1].startswith("asm=avx2")
    aligned = replace(encoder, width=1280)
    assert instruction_sets.exact_options(aligned, dict(encoder.options)) == encoder.options
