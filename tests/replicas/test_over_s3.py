"""What needs more than one pass, or more than eight bits, moves over from a replica that dies, too."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from media_factory import make_clip
from replicas.conftest import FLAGS
from replicas.replica_set import ReplicaSet
from replicas.shared_job import (
    Order,
    assert_ends_once,
    assert_little_was_made_twice,
    embedded_sha256,
    in_the_middle,
)
from videoprocess.v1 import mode_setting_pb2 as mode

pytestmark = pytest.mark.scale


def _stabilised(folder: Path, _clips: Path) -> Order:
    """Its passes hand files to each other."""
    make_clip(folder / "shaken.mp4", frames=120, gop=15, audio="aac", width=320, height=180, noise_sigma=6.0)
    return Order(folder / "shaken.mp4", mode.ModeSetting(video_stabilization=2), FLAGS)


def _hdr(folder: Path, clips: Path) -> Order:
    """A phone's HEVC in HLG with timed metadata; its GOPs are as the phone made them."""
    return Order(Path(shutil.copy(clips / "iphone12pm_hlg_main10_mebx.mp4", folder)), flags=FLAGS)


@pytest.mark.parametrize("make", [_stabilised, _hdr])
async def test_it_goes_on_at_the_other_to_the_same_bytes(
    tmp_path: Path, clips: Path, replicas: ReplicaSet, make: Callable[[Path, Path], Order]
) -> None:
    order = make(tmp_path, clips)
    job = await in_the_middle(replicas, order)
    job.driving.kill()
    hit = replicas.rows.segments("leased")
    expected = await asyncio.to_thread(embedded_sha256, tmp_path, order)
    await assert_ends_once(job.other, [job.answer], expected)
    assert_little_was_made_twice(replicas, hit)
