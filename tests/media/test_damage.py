"""Frames that do not decode: named, with the last good one in their place; the bytes do not depend on who makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from broken_clips import BREAKS, CodedPacket, break_packet, coded_packets, decoded_elsewhere
from conftest import SOAKING
from media_factory import make_clip
from media_tasks import encode, filtered_hashes, plan_file
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.tasks import SegmentDone

HALF_SECOND = Fraction(1, 2)
CONCEALED = ModeSetting(conceal_damage=True)
FRAMES = 60
GOP = 15
#: codec, whether GOPs are open, container
KINDS = [
    ("libx264", False, ".mp4"),
    ("libx264", True, ".mkv"),
    ("libx265", False, ".mkv"),
    ("libx265", True, ".mp4"),
]


@pytest.fixture(
    name="source",
    scope="module",
    params=KINDS,
    ids=lambda kind: f"{kind[0]} {'open' if kind[1] else 'closed'}{kind[2]}",
)
def _source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec, open_gop, suffix = request.param
    path = tmp_path_factory.mktemp("whole") / f"clip{suffix}"
    return make_clip(
        path,
        width=128,
        height=96,
        frames=FRAMES,
        gop=GOP,
        b_frames=3,
        codec=codec,
        open_gop=open_gop,
        noise_sigma=3,
    ).path


def _plain(plan: Plan) -> Plan:
    """Without enhancement, so that what is shown can be compared with what decodes."""
    return replace(plan, filters=replace(plan.filters, enhancement=(), pre_roll_frames=0, post_roll_frames=0))


def _plan(path: Path) -> Plan:
    return plan_file(path, setting=CONCEALED, segment_seconds=HALF_SECOND)


def _named(plan: Plan) -> int:
    return sum(lost.count for lost in plan.not_kept if lost.what is Loss.DAMAGED_FRAMES)


def _facts(done: Sequence[SegmentDone]) -> list[tuple[int, str, str]]:
    return [(segment.index, segment.sha256, segment.input_sha256) for segment in done]


def _check(whole: Path, path: Path, folder: Path) -> None:
    """Everything that must hold of a clip of which one packet is broken."""
    good = _plain(plan_file(whole, segment_seconds=HALF_SECOND))
    plan = _plain(_plan(path))
    expected = dict(filtered_hashes(whole, good, good.segments))
    shown = filtered_hashes(path, plan, plan.segments)
    assert [pts for pts, _ in shown] == list(expected)
    assert (plan.frame_count, plan.pts_sha256) == (good.frame_count, good.pts_sha256)

    before, _ = decoded_elsewhere(whole)
    after, complaints = decoded_elsewhere(path)
    ticks = sorted(before)
    by_output = dict(zip(expected, ticks, strict=True))
    differ = {pts for pts in ticks if pts in after and after[pts] != before[pts]}
    if not plan.damaged_pts:
        # What no decoder notices nobody can name.
        assert not complaints
        return
    affected = _count_affected(plan)
    assert _named(plan) == len(plan.damaged_pts) + affected
    wrong = {by_output[pts] for pts, pixels in shown if pixels != expected[pts]}
    # A still picture may be exactly what was there.
    assert wrong <= differ | set(plan.damaged_pts)
    assert len(differ - set(plan.damaged_pts)) <= affected

    last = None
    for pts, pixels in shown:
        if by_output[pts] not in plan.damaged_pts:
            last = pixels
        elif last is not None:
            assert pixels == last

    together = encode(path, plan, plan.segments, folder / "together")
    alone = [encode(path, plan, [segment], folder / "alone")[0] for segment in reversed(plan.segments)]
    assert _facts(together) == _facts(alone[::-1])


def _count_affected(plan: Plan) -> int:
    return sum(lost.count for lost in plan.not_kept if "traces" in lost.reason)


def _of_kind(packets: Sequence[CodedPacket], kind: str) -> CodedPacket:
    """A key frame, one that others refer to, and one that is shown before the one coded before it."""
    second_gop = next(k for k, packet in enumerate(packets) if packet.is_key and k)
    if kind == "key":
        return packets[second_gop]
    later = packets[second_gop + 1 : second_gop + GOP]
    if kind == "P":
        return next(packet for packet in later if packet.pts > packets[second_gop].pts)
    return next(
        packet
        for k, packet in enumerate(later)
        if k and packets[second_gop].pts < packet.pts < later[k - 1].pts and len(packet.data) > 16
    )


@pytest.mark.parametrize("how", ["zeroed", "flipped"])
@pytest.mark.parametrize("kind", ["key", "P", "B"])
def test_a_broken_packet_is_named_and_the_rest_is_exact(
    source: Path, tmp_path: Path, kind: str, how: str
) -> None:
    packet = _of_kind(coded_packets(source), kind)
    path = break_packet(source, tmp_path / f"broken{source.suffix}", packet, how, Random(1))
    _check(source, path, tmp_path)
    if how == "zeroed":
        assert packet.pts in _plan(path).damaged_pts


@pytest.mark.parametrize("seed", range(400 if SOAKING else 3))
def test_random_breaks(source: Path, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    packet = random.choice(coded_packets(source)[1:])
    path = break_packet(
        source, tmp_path / f"broken{source.suffix}", packet, random.choice(list(BREAKS)), random
    )
    _check(source, path, tmp_path)
