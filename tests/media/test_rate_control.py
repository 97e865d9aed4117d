"""Levels, and the bytes that segments may have."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from videoprocess_server.media.levels import Declared, Demand, choose_level, read_declared
from videoprocess_server.media.packets import PacketIndex
from videoprocess_server.media.rate_control import (
    Bounds,
    Share,
    Target,
    plan_rates,
    source_shares,
)
from videoprocess_server.model.enc_param import BitrateMode, EncParam
from videoprocess_server.model.plan import SegmentPlan

BOUNDS = Bounds(quality=20, usable_buffer=Fraction(2, 5), buffer_size=10**9)
#: 8 s of 1 Mbit/s, the second half three times the first
SHARES = (Share(bits=2_000_000, seconds=Fraction(4)), Share(bits=6_000_000, seconds=Fraction(4)))
FULL_HD = Demand(
    width=1920, height=1080, frame_rate=Fraction(30), max_rate=15_000_000, buffer_size=15_000_000
)


def _segment(index: int, start: int, end: int) -> SegmentPlan:
    return SegmentPlan(
        index=index,
        start_pts=start,
        end_pts=end,
        decode_from_pts=0,
        source_frame_count=end - start,
        frame_count=end - start,
        enhanced=True,
    )


@pytest.mark.parametrize(
    ("codec", "declared", "change", "level"),
    [
        ("h264", 0, {}, "4.0"),
        ("h264", 51, {}, "5.1"),
        ("h264", 31, {}, "4.0"),  # the source says less than its picture needs
        ("h264", 40, {"max_rate": 26_000_000}, "4.1"),
        ("h264", 40, {"frame_rate": Fraction(60)}, "4.2"),
        ("h264", 0, {"width": 3840, "height": 2160}, "5.1"),
        ("h264", 0, {"width": 128, "height": 96, "max_rate": 60_000, "buffer_size": 60_000}, "1.0"),
        ("hevc", 0, {}, "4.1"),
        ("hevc", 153, {}, "5.1"),
        ("hevc", 0, {"width": 8192, "height": 4320}, "6.0"),
        ("hevc", 0, {"width": 16_384, "height": 16_384}, None),
    ],
)
def test_the_source_level_stays_where_it_fits(
    codec: str, declared: int, change: dict[str, int], level: str | None
) -> None:
    chosen = choose_level(codec, Declared(level_code=declared), replace(FULL_HD, **change), high_profile=True)
    assert (chosen and chosen.name) == level


def test_configurations_of_strangers_declare_nothing() -> None:
    for codec in ("h264", "hevc", "vp9"):
        for configuration in (b"", b"\x01", b"\x00\x00\x00\x01gB", bytes(30)):
            assert read_declared(codec, configuration) == Declared()
    assert read_declared("h264", bytes((1, 66, 0, 31))) == Declared(profile="baseline", level_code=31)


def test_a_gop_is_shared_out_evenly() -> None:
    index = PacketIndex(
        pts=range(10, 20),
        keys=[10, 16],
        end_pts=20,
        sizes=[60, 0, 0, 0, 0, 0, 40, 0, 0, 0],
        reordered=False,
    )
    shares = source_shares(
        index,
        [_segment(0, 10, 13), _segment(1, 13, 18), _segment(2, 18, 20)],
        Fraction(1, 10),
        Fraction(10),
    )
    assert [share.bits for share in shares] == [30 * 8, 50 * 8, 20 * 8]
    assert [share.seconds for share in shares] == [Fraction(3, 10), Fraction(1, 2), Fraction(1, 5)]


def test_nothing_asked_keeps_a_quality_within_the_source_bytes() -> None:
    control = plan_rates(EncParam(), SHARES, BOUNDS)
    assert control.quality == 20
    for share, spending in zip(SHARES, control.spending, strict=True):
        assert not spending.average_rate
        spent = spending.max_rate * share.seconds + BOUNDS.usable_buffer * spending.buffer_size
        assert Fraction(139, 100) < spent / share.bits <= Fraction(7, 5)
        assert spending.buffer_size == 4 * spending.max_rate


def test_a_buffer_is_as_long_as_the_level_allows() -> None:
    for buffer_size in (600_000, 1_000_000, 2_000_000):
        for spending in plan_rates(EncParam(), SHARES, replace(BOUNDS, buffer_size=buffer_size)).spending:
            longest = max(buffer_size, spending.max_rate)
            assert spending.max_rate <= spending.buffer_size <= min(longest, 4 * spending.max_rate)


@pytest.mark.parametrize("mode", [BitrateMode.SQR, BitrateMode.CQ, BitrateMode.CRF, None])
@pytest.mark.parametrize(("factor", "quality"), [(27, 27), (1, 14), (51, 28), (None, 20)])
def test_a_factor_is_a_quality_within_bounds(
    mode: BitrateMode | None, factor: int | None, quality: int
) -> None:
    control = plan_rates(EncParam(bitrate_mode=mode, sqr_factor=factor, bitrate=1_000_000), SHARES, BOUNDS)
    assert control.quality == quality
    assert len(control.remarks) == (factor not in {quality, None})
    spent = control.spending[1].max_rate * 4 + BOUNDS.usable_buffer * control.spending[1].buffer_size
    assert spent / SHARES[1].bits == pytest.approx(1, abs=0.01)


def test_a_variable_rate_follows_the_source() -> None:
    control = plan_rates(EncParam(bitrate_mode=BitrateMode.VBR, bitrate=1_500_000), SHARES, BOUNDS)
    assert control.quality is None
    assert [spending.average_rate for spending in control.spending] == [750_000, 2_250_000]
    assert control.spending[0].options() == {"b": "750000", "maxrate": "750000", "bufsize": "3000000"}


@pytest.mark.parametrize("mode", [BitrateMode.CBR, BitrateMode.CBR_VIDEOCALL])
@pytest.mark.parametrize(
    ("bitrate", "kept"),
    [(1_200_000, 1_200_000), (None, 1_000_000), (90_000_000, 2_000_000), (8, 250_000)],
)
def test_a_constant_rate_is_one_for_all(mode: BitrateMode, bitrate: int | None, kept: int) -> None:
    control = plan_rates(EncParam(bitrate_mode=mode, bitrate=bitrate), SHARES, BOUNDS)
    assert {(made.average_rate, made.max_rate, made.buffer_size) for made in control.spending} == {
        (kept, kept, kept)
    }
    assert len(control.remarks) == 1 + (bitrate not in {kept, None})


RECORDED = EncParam(bitrate_mode=BitrateMode.CBR, bitrate=123, sqr_factor=51)


def test_a_quality_that_is_asked_for_is_bounded_by_the_level_alone_whatever_the_recorder_asks() -> None:
    chosen = replace(BOUNDS, max_rate=7_000_000, buffer_size=9_000_000)
    control = plan_rates(RECORDED, SHARES, chosen, Target(quality=18.5))
    assert (control.quality, control.remarks) == (18.5, ())
    assert {(one.average_rate, one.max_rate, one.buffer_size) for one in control.spending} == {
        (0, 7_000_000, 9_000_000)
    }


@pytest.mark.parametrize(("quality", "factor"), [(20.0, 1), (35.0, 1), (14.0, 2), (8.0, 4), (0.0, 16)])
def test_a_better_quality_asks_for_a_level_of_more_bits(quality: float, factor: int) -> None:
    """Six steps of the rate factor are twice the bits."""
    usual = plan_rates(EncParam(), SHARES, BOUNDS).spending
    asked = plan_rates(EncParam(), SHARES, BOUNDS, Target(quality=quality)).spending
    for one, other in zip(usual, asked, strict=True):
        assert other.max_rate == pytest.approx(factor * one.max_rate, rel=0.01)


@pytest.mark.parametrize("bitrate", [1_000, 100_000, 1_000_000, 50_000_000])
def test_a_rate_that_is_asked_for_is_that_of_the_whole_whatever_the_source_has(bitrate: int) -> None:
    control = plan_rates(RECORDED, SHARES, BOUNDS, Target(bitrate=bitrate))
    assert (control.quality, control.remarks) == (None, ())
    spent = sum(one.average_rate * share.seconds for one, share in zip(control.spending, SHARES, strict=True))
    assert spent / 8 == pytest.approx(bitrate, rel=0.4 if bitrate == 1_000 else 0.01)
    assert control.spending[1].average_rate >= control.spending[0].average_rate


def test_an_encoder_that_spends_less_than_it_is_told_is_told_more() -> None:
    frugal = replace(BOUNDS, spent_rate=Fraction(4, 5))
    told, more = (
        plan_rates(EncParam(), SHARES, bounds, Target(bitrate=1_000_000)).spending
        for bounds in (BOUNDS, frugal)
    )
    assert [one.average_rate * 5 // 4 for one in told] == [one.average_rate for one in more]
