"""Figures of a whole video are those of its segments, weighted; which frames are measured follows from the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.made_up_media import ENCODER, MEASURES, plan_of
from videoprocess_server.engine.quality import quality_of, shortened
from videoprocess_server.media.measure.samples import judged_numbers, sampled_numbers
from videoprocess_server.model.hdi import VideoStabilisation
from videoprocess_server.model.plan import EncoderPlan, StabilisationPlan
from videoprocess_server.model.quality import MotionFigures, SegmentMeasures


def measures(sigma: float, xpsnr_db: float) -> SegmentMeasures:
    assert MEASURES.before
    return replace(
        MEASURES,
        before=replace(MEASURES.before, sigma_y=sigma),
        coding=replace(MEASURES.coding, xpsnr_db=xpsnr_db, least_xpsnr_db=xpsnr_db - 1),
    )


class TestWhole:
    def test_segments_count_by_their_frames(self) -> None:
        plan = plan_of(2)
        long, short = plan.segments
        plan = replace(plan, segments=(replace(long, frame_count=30), short))
        quality = quality_of(plan, [measures(2.0, 40.0), measures(6.0, 40.0)])
        assert quality
        assert quality.before
        assert quality.before.sigma_y == 3.0

    def test_what_was_carried_over_was_not_enhanced(self) -> None:
        plan = plan_of(2, enhance_from_us=1_000_000)
        quality = quality_of(plan, [measures(2.0, 40.0), measures(6.0, 42.0)])
        assert quality
        assert quality.before
        assert quality.before.sigma_y == 6.0
        assert (quality.coding.xpsnr_db, quality.coding.least_xpsnr_db) == (41.0, 39.0)

    def test_jitter_is_a_root_of_a_mean_of_squares(self) -> None:
        shaken = [
            replace(MEASURES, motion_after=MotionFigures(pair_count=pairs, jitter_px=jitter))
            for pairs, jitter in ((3, 1.0), (1, 3.0))
        ]
        stabilised = StabilisationPlan(strength=VideoStabilisation.LOW, path_sha256="00", jitter_px=4.12345)
        quality = quality_of(replace(plan_of(2), stabilisation=stabilised), shaken)
        assert quality
        assert quality.motion_after == MotionFigures(pair_count=4, jitter_px=1.732)
        assert quality.jitter_before_px == 4.123

    def test_segments_of_an_earlier_build_have_none(self) -> None:
        assert quality_of(plan_of(2), [None, None]) is None

    def test_a_report_keeps_the_worst_segments_in_order(self) -> None:
        quality = quality_of(plan_of(4), [measures(1.0, db) for db in (40.0, 30.0, 50.0, 20.0)])
        assert quality
        kept = shortened(quality, 2)
        assert [part.start_us for part in kept.segments] == [1_000_000, 3_000_000]
        assert kept.segment_count == 4
        assert shortened(quality, 4) is quality


def _encoder(width: int, height: int, gop_frames: int = 30) -> EncoderPlan:
    return replace(ENCODER, width=width, height=height, options={"g": str(gop_frames)})


class TestSamples:
    @pytest.mark.parametrize("frame_count", [1, 2, 4, 5, 15, 120, 2000])
    def test_the_ends_and_some_between(self, frame_count: int) -> None:
        numbers = sampled_numbers(frame_count, _encoder(1920, 1080))
        assert numbers <= set(range(frame_count))
        assert {0, frame_count - 1} <= numbers
        assert len(numbers) == min(frame_count, 2 + min(2, frame_count // 30))

    @pytest.mark.parametrize(
        ("gop_frames", "between"),
        [(1, [30, 89]), (30, [32, 62]), (25, [27, 77]), (60, [30, 62]), (240, [30, 89])],
    )
    def test_those_between_are_spread_and_early_in_their_gops(
        self, gop_frames: int, between: list[int]
    ) -> None:
        numbers = sampled_numbers(120, _encoder(64, 48, gop_frames))
        assert sorted(numbers) == [0, *between, 119]

    @pytest.mark.parametrize("frame_count", [1, 2, 4, 5, 15, 120, 2000])
    def test_noise_is_measured_at_every_second_and_the_first(self, frame_count: int) -> None:
        numbers = sampled_numbers(frame_count, _encoder(1920, 1080))
        judged = judged_numbers(numbers)
        assert judged <= numbers
        assert 0 in judged
        assert len(judged) == (len(numbers) + 1) // 2

    def test_fewer_of_large_pictures(self) -> None:
        """They are held until they are compared."""
        assert len(sampled_numbers(120, _encoder(3840, 2160))) == 4
        assert len(sampled_numbers(120, _encoder(5760, 2880))) == 2
        assert len(sampled_numbers(120, _encoder(8192, 4320))) == 2
