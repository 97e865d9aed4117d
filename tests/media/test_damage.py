"""Frames that do not decode: named, with the last good one in their place; the bytes do not depend on who makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from broken_clips import BREAKS, CodedPacket, break_packet, coded_packets, decoded_elsewhere
from field_pairs import make_field_pairs
from media_factory import make_clip
from media_tasks import encode, filtered_hashes, opened, plan_file, probe_file
from soaking import SOAKING
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.noise import analyze
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.noise import noise_of
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.tasks import AnalyzeTask, SegmentDone

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


@pytest.fixture(name="hostile", scope="module")
def _hostile(clips: Path) -> Path:
    return clips / "hostile"


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
    assert wrong <= differ | (set(ticks) - set(after)) | set(plan.damaged_pts)
    assert len(wrong - set(plan.damaged_pts)) <= affected
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


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("key", "zeroed"),
        ("P", "flipped"),
        pytest.param("B", "zeroed", marks=pytest.mark.slow),
        pytest.param("key", "flipped", marks=pytest.mark.slow),
        pytest.param("P", "zeroed", marks=pytest.mark.slow),
        pytest.param("B", "flipped", marks=pytest.mark.slow),
    ],
)
def test_a_broken_packet_is_named_and_the_rest_is_exact(
    source: Path, tmp_path: Path, kind: str, how: str
) -> None:
    packet = _of_kind(coded_packets(source), kind)
    path = break_packet(source, tmp_path / f"broken{source.suffix}", packet, how, Random(1))
    _check(source, path, tmp_path)
    if how == "zeroed":
        assert packet.pts in _plan(path).damaged_pts


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(400 if SOAKING else 1))
def test_random_breaks(source: Path, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    packet = random.choice(coded_packets(source)[1:])
    path = break_packet(
        source, tmp_path / f"broken{source.suffix}", packet, random.choice(list(BREAKS)), random
    )
    _check(source, path, tmp_path)


def test_unless_it_is_asked_for_the_job_fails_with_the_time(source: Path, tmp_path: Path) -> None:
    packet = _of_kind(coded_packets(source), "P")
    path = break_packet(source, tmp_path / f"broken{source.suffix}", packet, "zeroed", Random(1))
    plan = plan_file(path, segment_seconds=HALF_SECOND)
    assert not plan.damaged_pts
    with pytest.raises(MediaFault) as caught:
        encode(path, plan, plan.segments, tmp_path)
    assert caught.value.reason == "DECODE_FAILED"
    assert f"{float(packet.pts * plan.time_base):.3f} s" in caught.value.message


def test_the_time_of_a_frame_that_a_decoder_leaves_out_without_a_word(tmp_path: Path) -> None:
    """H.265 with a first byte of no meaning: no error, no mark, only a frame fewer."""
    whole = make_clip(tmp_path / "whole.mp4", width=128, height=96, frames=30, codec="libx265", gop=10).path
    packet = coded_packets(whole)[13]
    path = break_packet(whole, tmp_path / "broken.mp4", packet, "beheaded", Random(1))
    plan = plan_file(path)
    first_missing = min(packet.pts for packet in coded_packets(whole)[13:20])
    with pytest.raises(
        MediaFault, match=f"At {float(first_missing * plan.time_base):.3f} s: .* frames of a segment"
    ):
        encode(path, plan, plan.segments, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damaged"), [("corrupted_midfile.mp4", [3.0]), ("invalid_nalu_26of30.mp4", [0.867533])]
)
def test_real_damaged_clips(hostile: Path, tmp_path: Path, name: str, damaged: list[float]) -> None:
    path = hostile / name
    plan = plan_file(path, setting=CONCEALED)
    times = [float(pts * plan.time_base) for pts in plan.damaged_pts]
    assert times[:1] == pytest.approx(damaged, abs=1e-3)
    done = encode(path, plan, plan.segments, tmp_path)
    assert sum(segment.frame_count for segment in done) == len(coded_packets(path)) == plan.frame_count


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_first_key_frame_that_does_not_decode_shows_the_first_good_frame(
    tmp_path: Path, codec: str
) -> None:
    whole = make_clip(tmp_path / "whole.mp4", width=128, height=96, frames=30, codec=codec, gop=10).path
    path = break_packet(whole, tmp_path / "broken.mp4", coded_packets(whole)[0], "zeroed", Random(1))
    media = probe_file(path)
    with opened(path) as fd:
        assert noise_of([analyze(AnalyzeTask(video=media.video), fd)]).frame_count
    plan = _plain(_plan(path))
    shown = filtered_hashes(path, plan, plan.segments)
    assert len(shown) == 30
    assert plan.first_pts in plan.damaged_pts
    good = next(k for k, (pts, _) in enumerate(shown) if pts not in plan.damaged_pts)
    assert {pixels for _, pixels in shown[:good]} == {shown[good][1]}
    assert shown[20:] == filtered_hashes(whole, good_plan := _plain(_plan(whole)), good_plan.segments)[20:]


@pytest.mark.slow
def test_a_single_key_frame_does_not_freeze_the_rest(tmp_path: Path) -> None:
    """A webcam's one GOP: what was coded after the damage is shown as it decodes, and named."""
    whole = make_clip(tmp_path / "whole.mkv", width=128, height=96, frames=60, gop=1000, noise_sigma=3).path
    path = break_packet(whole, tmp_path / "broken.mkv", coded_packets(whole)[9], "zeroed", Random(1))
    plan = _plan(path)
    assert len(plan.damaged_pts) == 1
    assert _count_affected(plan) > 40
    together = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert _facts(together) == _facts(alone)
    plain = _plain(plan)
    assert len({pixels for _, pixels in filtered_hashes(path, plain, plain.segments)}) == 59


def test_intact_sources_have_no_damage_and_the_same_plan(source: Path) -> None:
    assert _plan(source) == plan_file(source, segment_seconds=HALF_SECOND)


def test_several_broken_packets_with_filters_across_seams(source: Path, tmp_path: Path) -> None:
    """Pre-roll and post-roll go over damaged frames, too."""
    path = source
    for number, place in enumerate((1, 16, 29, 30, 31, 44, 58)):
        packet = coded_packets(source)[place]
        path = break_packet(
            path, tmp_path / f"broken{number}{source.suffix}", packet, "zeroed", Random(number)
        )
    plan = plan_file(path, setting=CONCEALED, segment_seconds=Fraction(3, 10))
    filters = replace(plan.filters, enhancement=("atadenoise=s=9",), pre_roll_frames=4, post_roll_frames=4)
    plan = replace(plan, filters=filters)
    together = filtered_hashes(path, plan, plan.segments)
    alone = [entry for segment in plan.segments for entry in filtered_hashes(path, plan, [segment])]
    assert together == alone
    assert len(together) == FRAMES


def test_damage_in_one_of_two_packets_of_a_frame(tmp_path: Path) -> None:
    """PAFF: a packet that does not decode takes its frame with it, and no frame is made up for a field."""
    whole = make_field_pairs(tmp_path / "whole.mp4")
    packets = coded_packets(whole)
    path = break_packet(whole, tmp_path / "broken.mp4", packets[24], "zeroed", Random(1))
    plan = _plan(path)
    assert plan.source_frame_count == 30
    assert packets[24].pts in plan.damaged_pts
    done = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert _facts(done) == _facts(alone)
    assert sum(segment.frame_count for segment in done) == 30
