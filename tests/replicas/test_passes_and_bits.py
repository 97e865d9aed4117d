"""What needs more than one pass, or more than eight bits, moves over from a replica that dies, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from media_factory import Colours, make_clip
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


def _stabilised(folder: Path) -> Order:
    """Its passes hand files to each other."""
    make_clip(folder / "shaken.mp4", frames=120, gop=15, audio="aac", width=192, height=108)
    return Order(folder / "shaken.mp4", mode.ModeSetting(video_stabilization=2))


def _hdr(folder: Path) -> Order:
    """HEVC of ten bits in HLG, as phones make it, with open GOPs."""
    hlg = Colours(primaries=9, transfer=18, matrix=9)
    make_clip(
        folder / "hdr.mov",
        frames=150,
        gop=15,
        codec="libx265",
        pix_fmt="yuv420p10le",
        open_gop=True,
        audio="aac",
        colours=hlg,
        width=320,
        height=180,
    )
    return Order(folder / "hdr.mov")


@pytest.mark.parametrize("make", [_stabilised, _hdr])
async def test_it_goes_on_at_the_other_to_the_same_bytes(
    tmp_path: Path, local: ReplicaSet, make: Callable[[Path], Order]
) -> None:
    order = make(tmp_path)
    job = await in_the_middle(local, order)
    job.driving.kill()
    hit = local.rows.segments("leased")
    expected = await asyncio.to_thread(embedded_sha256, tmp_path, order)
    await assert_ends_once(job.other, [job.answer], expected)
    assert_little_was_made_twice(local, hit)
