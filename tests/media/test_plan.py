"""A plan covers every frame exactly once, and asks of the encoder only what was asked of it."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_factory import Colours, make_clip
from media_tasks import plan_file, probe_file
from videoprocess_server.media.encoders import declared_rate
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.cuts import MIN_SEGMENT_FRAMES, CutRules, choose_cuts
from videoprocess_server.model.dataspace import dataspaces_agree, pack_dataspace
from videoprocess_server.model.hdi import EncodeType, PixelFormat, StreamIntent
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.settings_snapshot import StreamInfo

HLG = Colours(primaries=9, transfer=18, matrix=9)
PQ = Colours(primaries=9, transfer=16, matrix=9)
BT709_LIMITED, BT2020_HLG_LIMITED, BT2020_PQ_LIMITED = 4_260_097, 4_457_732, 4_457_476


# cuts


@st.composite
def _indexes(draw: st.DrawFn) -> tuple[list[int], list[int], int, CutRules, int | None]:
    steps = draw(st.lists(st.integers(1, 400), min_size=1, max_size=200))
    pts = [draw(st.integers(-50, 50))]
    for step in steps[:-1]:
        pts.append(pts[-1] + step)
    keys = sorted({pts[0], *draw(st.lists(st.sampled_from(pts), max_size=12))})
    segment = Fraction(draw(st.integers(1, 4000)))
    rules = CutRules(segment_ticks=segment, longest_gop_ticks=segment * draw(st.integers(1, 4)))
    forced = draw(st.none() | st.integers(pts[0] - 10, pts[-1] + 10))
    return pts, keys, pts[-1] + steps[-1], rules, forced


@given(_indexes())
def test_every_frame_is_in_exactly_one_segment(
    case: tuple[list[int], list[int], int, CutRules, int | None],
) -> None:
    pts, keys, end, rules, forced = case
    cuts = choose_cuts(pts, keys, end, rules, forced)
    assert cuts[0] == 0
    assert list(cuts) == sorted(set(cuts))
    assert cuts[-1] < len(pts)


@given(_indexes())
def test_only_a_forced_cut_makes_short_segments(
    case: tuple[list[int], list[int], int, CutRules, int | None],
) -> None:
    pts, keys, end, rules, forced = case
    cuts = [*choose_cuts(pts, keys, end, rules, forced), len(pts)]
    at_force = {
        k for k, start in enumerate(cuts) if forced is not None and start < len(pts) and pts[start] >= forced
    }
    first_forced = min(at_force, default=None)
    for k in range(len(cuts) - 1):
        first_of_part = k in {0, first_forced}
        last_of_part = k + 1 in {len(cuts) - 1, first_forced}
        length = cuts[k + 1] - cuts[k]
        assert length >= MIN_SEGMENT_FRAMES or (first_of_part and last_of_part)
        if not last_of_part:
            assert pts[cuts[k + 1]] - pts[cuts[k]] >= rules.segment_ticks


@given(_indexes())
def test_a_short_gop_is_never_cut_inside(
    case: tuple[list[int], list[int], int, CutRules, int | None],
) -> None:
    pts, keys, end, rules, _ = case
    for start in choose_cuts(pts, keys, end, rules)[1:]:
        before = max(key for key in keys if key <= pts[start])
        after = min((key for key in keys if key > pts[start]), default=end)
        assert pts[start] in keys or after - before > rules.longest_gop_ticks


@given(_indexes())
def test_a_segment_starts_where_enhancement_does(
    case: tuple[list[int], list[int], int, CutRules, int | None],
) -> None:
    pts, keys, end, rules, forced = case
    cuts = choose_cuts(pts, keys, end, rules, forced)
    if forced is not None and forced <= pts[-1]:
        assert next(k for k, tick in enumerate(pts) if tick >= forced) in cuts


def test_cuts_at_key_frames_and_inside_long_gops() -> None:
    second = 30
    pts = list(range(30 * second))
    rules = CutRules(segment_ticks=Fraction(4 * second), longest_gop_ticks=Fraction(8 * second))
    assert choose_cuts(pts, pts[:: 3 * second], pts[-1] + 1, rules) == (0, 180, 360, 540, 720)
    assert choose_cuts(pts, [0], pts[-1] + 1, rules) == (0, 120, 240, 360, 480, 600, 720)
    # The key frame after a long GOP, and the end, are waited for where the segment does not grow too long by that.
    assert choose_cuts(pts, [0, 250, 500, 750], pts[-1] + 1, rules) == (0, 120, 250, 370, 500, 620, 750)
    assert choose_cuts(pts[:720], [0, 240, 480], 720, rules) == (0, 240, 480)


# plans


def test_segments_follow_each_other_and_know_where_to_decode_from(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=90, gop=15).path
    plan = plan_file(path, segment_seconds=Fraction(1))
    assert [segment.index for segment in plan.segments] == [0, 1, 2]
    assert [segment.end_pts for segment in plan.segments[:-1]] == [
        segment.start_pts for segment in plan.segments[1:]
    ]
    assert sum(segment.source_frame_count for segment in plan.segments) == plan.source_frame_count == 90
    assert all(segment.decode_from_pts <= segment.start_pts for segment in plan.segments)
    assert plan.segments[-1].end_pts == plan.end_pts > plan.last_pts


def test_the_same_input_gives_the_same_plan(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=40).path
    assert plan_file(path) == plan_file(path)


@pytest.mark.parametrize(
    ("microseconds", "first_enhanced"), [(0, 0), (33_333, 1), (33_334, 1), (500_000, 15), (500_001, 16)]
)
def test_enhancement_starts_at_the_first_frame_at_or_after(
    tmp_path: Path, microseconds: int, first_enhanced: int
) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=30).path
    plan = plan_file(path, enhance_from_us=microseconds)
    enhanced = [segment for segment in plan.segments if segment.enhanced]
    assert enhanced[0].start_pts * plan.time_base == Fraction(first_enhanced, 30)
    assert all(segment.index >= enhanced[0].index for segment in enhanced)


def test_a_time_stamp_after_the_last_frame_is_a_slip(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=30).path
    assert plan_file(path, enhance_from_us=966_667).segments[-1].source_frame_count == 1
    with pytest.raises(MediaFault, match="TIMESTAMP_BEYOND_END"):
        plan_file(path, enhance_from_us=966_668)


def test_a_file_that_was_cut_off_is_not_planned_as_if_it_ended_there(clips: Path, tmp_path: Path) -> None:
    """It is refused when it is probed; one that is cut off after that, when it is planned."""
    data = (clips / "dog_720p30_10s.mp4").read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(data)
    whole = probe_file(path)
    os.truncate(path, len(data) // 2)
    with pytest.raises(MediaFault, match="TRUNCATED_FILE"):
        probe_file(path)
    with pytest.raises(MediaFault, match="DECODE_FAILED: The file"):
        plan_file(path, media=whole)


@pytest.mark.parametrize(
    ("name", "encoder", "pixel_format", "container", "lost"),
    [
        ("iphone12pm_hlg_main10_mebx.mp4", "libx265", "yuv420p10le", "mov", []),
        ("phone_2004_h263_amr_vfr.3gp", "libx264", "yuv420p", "3gp", ["CODEC"]),
        ("h264_fullrange_webcam.mkv", "libx264", "yuv420p", "mp4", []),
        ("samsung_sef_slowmotion.mp4", "libx264", "yuv420p", "mp4", []),
    ],
)
def test_plans_of_real_clips(
    clips: Path, name: str, encoder: str, pixel_format: str, container: str, lost: list[str]
) -> None:
    plan = plan_file(clips / name)
    assert (
        plan.renditions[0].encoder.encoder,
        plan.renditions[0].encoder.pixel_format,
        plan.renditions[0].container,
    ) == (
        encoder,
        pixel_format,
        container,
    )
    assert [loss.what.name for loss in plan.not_kept] == lost


def test_an_edit_list_hides_packets_not_frames(clips: Path) -> None:
    plan = plan_file(clips / "samsung_sef_slowmotion.mp4")
    assert (plan.source_frame_count, plan.first_pts) == (63, 0)


# encoders


@pytest.mark.parametrize(("asked", "encoder"), [(EncodeType.H264, "libx264"), (EncodeType.H265, "libx265")])
def test_the_encode_type_that_is_asked_for_is_made(tmp_path: Path, asked: EncodeType, encoder: str) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    plan = plan_file(path, streams=[StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, encode_type=asked)])
    assert plan.renditions[0].encoder.encoder == encoder
    assert plan.not_kept == ()


@pytest.mark.parametrize(
    "streams",
    [
        (StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, encode_type=EncodeType.JPEG),),
        (StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, format=99),),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path: Path, streams: tuple[StreamInfo, ...]) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    with pytest.raises(MediaFault, match="STREAM_NOT_SUPPORTED"):
        plan_file(path, streams=streams)


def test_hdr_is_never_shown_as_sdr(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "hlg.mp4", frames=3, codec="libx265", pix_fmt="yuv420p10le", colours=HLG).path
    for wish in (
        StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, format=PixelFormat.YCBCR_420_SP),
        StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, dataspace=BT709_LIMITED),
    ):
        with pytest.raises(MediaFault, match="STREAM_NOT_SUPPORTED"):
            plan_file(path, streams=[wish])
    same = StreamInfo(
        stream_id=1, intent=StreamIntent.VIDEO, format=PixelFormat.YCBCR_P010, dataspace=BT2020_HLG_LIMITED
    )
    encoder = plan_file(path, streams=[same]).renditions[0].encoder
    assert (encoder.pixel_format, encoder.colour.transfer, encoder.codec_tag) == ("yuv420p10le", 18, "hvc1")


def test_bit_depth_and_chroma_are_kept_unless_asked_otherwise(tmp_path: Path) -> None:
    ten = make_clip(tmp_path / "ten.mp4", frames=3, codec="libx265", pix_fmt="yuv422p10le").path
    assert plan_file(ten).renditions[0].encoder.pixel_format == "yuv422p10le"
    eight = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, format=PixelFormat.YCBCR_420_P)
    assert plan_file(ten, streams=[eight]).renditions[0].encoder.pixel_format == "yuv422p"
    plain = make_clip(tmp_path / "eight.mp4", frames=3).path
    p010 = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, format=PixelFormat.YCBCR_P010)
    assert plan_file(plain, streams=[p010]).renditions[0].encoder.pixel_format == "yuv420p10le"


def test_packed_dataspaces_are_the_contracts_numbers() -> None:
    assert pack_dataspace(Colour(primaries=1, transfer=1, matrix=1, range=1)) == BT709_LIMITED
    assert pack_dataspace(Colour(primaries=9, transfer=18, matrix=9, range=1)) == BT2020_HLG_LIMITED
    assert pack_dataspace(Colour(primaries=9, transfer=16, matrix=9, range=1)) == BT2020_PQ_LIMITED
    assert pack_dataspace(Colour(primaries=2, transfer=2, matrix=2, range=0)) == 0
    assert (
        pack_dataspace(Colour(primaries=5, transfer=6, matrix=5, range=2)) == 2 | 1 << 8 | 2 << 16 | 1 << 21
    )


def test_unknown_parts_of_a_dataspace_agree_with_all() -> None:
    assert dataspaces_agree(0, BT709_LIMITED)
    assert dataspaces_agree(BT709_LIMITED & ~0xFF, BT709_LIMITED)
    assert not dataspaces_agree(BT709_LIMITED, BT2020_HLG_LIMITED)


@pytest.mark.parametrize(
    ("measured", "declared"),
    [
        (Fraction(2_999, 100), Fraction(30)),
        (Fraction(2_997, 100), Fraction(30_000, 1001)),
        (Fraction(37_200, 1241), Fraction(30_000, 1001)),
        (Fraction(7_396_1, 10_000), Fraction(7396, 1000)),
        (Fraction(1, 5_000), Fraction(1, 1000)),
        (Fraction(90_000), Fraction(1000)),
    ],
)
def test_one_frame_rate_is_declared(measured: Fraction, declared: Fraction) -> None:
    assert declared_rate(measured) == declared
