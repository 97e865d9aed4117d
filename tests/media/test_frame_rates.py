"""A higher frame rate: every frame stays, others are made up between them, and neither time nor seams show how it was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st
from numpy._core._multiarray_umath import __cpu_dispatch__

from broken_clips import break_packet, coded_packets
from cpu_independence import png_of
from field_pairs import make_field_pairs
from frame_pictures import draw_frame, frame_number
from joining import joined, verified
from media_factory import make_clip, read_frame_numbers
from media_tasks import (
    as_one_segment,
    encode,
    filtered_hashes,
    opened,
    plan_file,
    rendered_frames,
    with_enhancement,
)
from soaking import SOAKING
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.frame_rates import plan_frame_rate
from videoprocess_server.media.interpolate.interpolation import Interpolator, Picture, can_interpolate
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.maker import Payloads, runs_of_segments
from videoprocess_server.media.planes import read_plane
from videoprocess_server.model.cadence import Cadence, Moment, moments
from videoprocess_server.model.grid import grid_time_base
from videoprocess_server.model.hdi import OperationMode, StreamIntent
from videoprocess_server.model.plan import FrameGrid, Interpolation, interpolated_times_text
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, StreamInfo, Watermark

MILLISECOND = Fraction(1, 1000)
END = 3001  # ms, after all frames that are drawn
GAP = 120


def raised(lowest: int, highest: int | None = None, **more: object) -> ModeSetting:
    """A setting that asks for a range."""
    asked = FrameRateRange(min_fps=lowest, max_fps=highest or lowest)
    return ModeSetting(frame_rate_range=asked, **more)  # type: ignore[arg-type]


# which frames there are, and when


_TIMES = st.sets(st.integers(-1000, 2000), min_size=1, max_size=120).map(sorted)


def _multiplied(factor: int, ticks: Fraction) -> Cadence:
    made = Interpolation(factor=factor, gap_ticks=GAP, rate=Fraction(60))
    return Cadence(end_pts=END, time_base=MILLISECOND, output_time_base=ticks, grid=None, interpolation=made)


def _filled(rate: int, origin_pts: int) -> Cadence:
    made = Interpolation(factor=None, gap_ticks=GAP, rate=Fraction(rate))
    grid = FrameGrid(rate=Fraction(rate), origin_pts=origin_pts)
    return Cadence(
        end_pts=END,
        time_base=MILLISECOND,
        output_time_base=grid_time_base(grid, MILLISECOND),
        grid=grid,
        interpolation=made,
    )


def _all(pts: list[int], cadence: Cadence) -> list[Moment[int]]:
    return list(moments(pts, lambda tick: tick, cadence))


@given(_TIMES, st.integers(2, 8))
def test_a_multiple_keeps_every_frame_and_divides_every_step_evenly(pts: list[int], factor: int) -> None:
    made = _all(pts, _multiplied(factor, MILLISECOND / factor))
    times = [moment.pts for moment in made]
    assert times == sorted(set(times))
    assert [moment.pts for moment in made if moment.following is None] == [tick * factor for tick in pts]
    steps = [(one, other) for one, other in pairwise(pts) if other - one <= GAP]
    assert [
        (moment.item, moment.following, moment.pts) for moment in made if moment.following is not None
    ] == [
        (one, other, one * factor + part * (other - one)) for one, other in steps for part in range(1, factor)
    ]


@given(_TIMES, st.integers(2, 8))
def test_ticks_that_hold_no_exact_time_are_rounded_down(pts: list[int], factor: int) -> None:
    made = _all(pts, _multiplied(factor, MILLISECOND))
    times = [moment.pts for moment in made]
    assert times == sorted(set(times))
    assert set(pts) <= set(times)
    for moment in made:
        if moment.following is not None:
            exact = moment.item + moment.fraction * (moment.following - moment.item)
            assert 0 <= exact - moment.pts < 1


@given(_TIMES, st.integers(20, 120))
def test_a_grid_has_a_frame_in_every_slot_but_in_gaps(pts: list[int], rate: int) -> None:
    cadence = _filled(rate, pts[0])
    made = _all(pts, cadence)
    ticks = cadence.output_time_base / MILLISECOND
    slots = {moment.pts * ticks: moment for moment in made}
    assert len(slots) == len(made)
    assert list(slots) == sorted(slots)
    for number in range((END - pts[0]) * rate // 1000 + 1):
        time = pts[0] + Fraction(number * 1000, rate)
        moment = slots.pop(time, None)
        before = max(tick for tick in pts if tick <= time)
        after = min((tick for tick in pts if tick > time), default=None)
        near = min(abs(tick - time) for tick in (before, after) if tick is not None)
        if near <= Fraction(125, rate) and time < END:
            assert moment is not None
            assert (moment.following, abs(moment.item - time)) == (None, near)
        elif after is not None and after - before <= GAP:
            assert moment is not None
            assert (moment.item, moment.following) == (before, after)
            assert before + moment.fraction * (after - before) == time
        elif moment is not None:
            assert moment.following is None
            assert abs(moment.item - time) == near <= Fraction(500, rate)
    assert not slots
    shown = [moment.item for moment in made if moment.following is None]
    assert shown == sorted(set(shown))


@given(_TIMES, st.integers(20, 120), st.integers(2, 8), st.data())
def test_what_is_shown_depends_on_the_next_frames_only(
    pts: list[int], rate: int, factor: int, data: st.DataObject
) -> None:
    """A segment sees one frame before it and one after it, and makes what one long run makes there."""
    first = data.draw(st.integers(0, len(pts) - 1))
    after_last = data.draw(st.integers(first + 1, len(pts)))
    around = pts[max(first - 1, 0) : after_last + 1]
    mine = pts[first:after_last]
    for cadence in (_multiplied(factor, MILLISECOND / factor), _filled(rate, pts[0])):
        alone = [moment for moment in _all(around, cadence) if moment.item in mine]
        assert alone == [moment for moment in _all(pts, cadence) if moment.item in mine]


# which rate


def _planned(setting: ModeSetting, rate: Fraction, count: int = 60) -> tuple[int | None, Fraction | None]:
    """Factor and rate of the result of a steady source, None where they are the source's."""
    time_base = Fraction(1, 90_000)
    pts = [round(number / rate / time_base) for number in range(count)]
    made = plan_frame_rate(setting, pts, time_base, None)
    if made.interpolation is None:
        return None, made.grid and made.grid.rate
    assert (made.grid is None) == (made.interpolation.factor is not None)
    return made.interpolation.factor, made.interpolation.rate


HIGH = {"operation_mode": OperationMode.HIGH_FRAME_RATE}
SLOW = {"operation_mode": OperationMode.SLOW_MOTION}
NTSC = Fraction(30_000, 1001)


@pytest.mark.parametrize(
    ("setting", "rate", "planned"),
    [
        (raised(60), Fraction(30), (2, Fraction(60))),
        (raised(60), NTSC, (2, 2 * NTSC)),
        (raised(60, 120), Fraction(30), (2, Fraction(60))),
        (raised(48, 60), Fraction(24), (2, Fraction(48))),
        (raised(30), Fraction(24), (None, Fraction(30))),
        (raised(60), Fraction(25), (None, Fraction(60))),
        (raised(240), Fraction(30), (8, Fraction(240))),
        (raised(24, 30), Fraction(30), (None, None)),
        (raised(1, 30), Fraction(60), (None, Fraction(30))),
        (ModeSetting(), Fraction(30), (None, None)),
        (ModeSetting(**HIGH), Fraction(30), (2, Fraction(60))),
        (ModeSetting(**SLOW), Fraction(60), (2, Fraction(120))),
        (ModeSetting(**HIGH), Fraction(90), (None, None)),
        (raised(30, 120, **HIGH), Fraction(30), (4, Fraction(120))),
        (raised(30, 100, **SLOW), Fraction(30), (3, Fraction(90))),
        (raised(60, 60, **SLOW), Fraction(60), (None, None)),
        (raised(60, 60, **HIGH), Fraction(25), (None, Fraction(60))),
        (raised(30, 1000, **HIGH), Fraction(60), (4, Fraction(240))),
        (raised(15, 30, **HIGH), Fraction(60), (None, Fraction(30))),
    ],
)
def test_the_rate_that_is_chosen(
    setting: ModeSetting, rate: Fraction, planned: tuple[int | None, Fraction | None]
) -> None:
    assert _planned(setting, rate) == planned


@pytest.mark.parametrize(
    ("setting", "rate"), [(raised(60), Fraction(7)), (raised(300), Fraction(60)), (raised(260), Fraction(50))]
)
def test_too_many_frames_are_not_made_up(setting: ModeSetting, rate: Fraction) -> None:
    with pytest.raises(
        MediaFault, match=r"FRAME_RATE_RAISE_NOT_SUPPORTED.*at most 8 .* at most 240 a second"
    ):
        _planned(setting, rate)


def test_a_gap_does_not_count_as_a_slow_source() -> None:
    """30 a second, ten minutes of nothing, 30 a second: nothing is made up for 24, and two for 60."""
    pts = [number * 3000 for number in (*range(30), *range(18_030, 18_060))]
    assert plan_frame_rate(raised(24, 30), pts, Fraction(1, 90_000), None).interpolation is None
    made = plan_frame_rate(raised(60), pts, Fraction(1, 90_000), None).interpolation
    assert made is not None
    assert (made.factor, made.rate) == (2, Fraction(60))


def test_a_single_frame_stays_alone() -> None:
    assert plan_frame_rate(raised(60), [5], Fraction(1, 90_000), Fraction(30)).interpolation is None


# the result


SMALL: dict[str, Any] = {"width": 128, "height": 96}


def _shown(path: Path) -> list[Fraction]:
    """When the independent ffmpeg program shows pictures."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-copyts", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    base = next(Fraction(line.split()[2]) for line in said if line.startswith("#tb 0:"))
    return [int(line.split(",")[2]) * base for line in said if not line.startswith("#")]


def _numbers_at(path: Path, times: Sequence[Fraction]) -> list[tuple[Fraction, int]]:
    """Times and numbers of the frames at some times; what is made up may have none."""
    with av.open(str(path)) as container:
        shown = [(frame.pts * frame.time_base, frame) for frame in container.decode(video=0)]  # type: ignore[operator]
        return [(time, frame_number(frame)) for time, frame in shown if time in times]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_result_has_every_frame_at_its_time_and_others_in_the_middle(suffix: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / f"clip{suffix}", **SMALL, frames=40, fps=NTSC, gop=10, start_pts=300).path
    made = joined(source, tmp_path / "made", setting=raised(60))
    verified(made)
    before = read_frame_numbers(source)
    times = [time for time, _ in before]
    middles = [(one + other) / 2 for one, other in pairwise(times)]
    assert _shown(made.path) == sorted([*times, *middles])
    assert _numbers_at(made.path, times) == before
    with av.open(str(made.path)) as container:
        rate = container.streams.video[0].average_rate
    assert rate is not None
    assert abs(rate - 2 * NTSC) < 1
    assert made.plan.interpolated_us == tuple(round((time - times[0]) * 1_000_000) for time in middles)
    assert made.plan.renditions[0].encoder.frame_rate == 2 * NTSC


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path) -> None:
    """Two segments, made one by one and together, joined and verified."""
    source = make_clip(tmp_path / "clip.mp4", **SMALL, frames=17, gop=8).path
    made = joined(source, tmp_path / "made", Fraction(1, 4), setting=raised(60))
    verified(made)
    times = [Fraction(number, 60) for number in range(33)]
    assert _shown(made.path) == times
    assert len(made.plan.segments) == 2
    alone = [encode(source, made.plan, [segment], tmp_path / "alone")[0] for segment in made.plan.segments]
    assert [Path(done.path).read_bytes() for done in alone] == [
        Path(path).read_bytes() for path in made.segment_paths
    ]


@pytest.mark.slow
def test_times_that_matroska_cannot_hold_are_rounded_down(tmp_path: Path) -> None:
    """A second track that fits into no MP4 keeps the result in Matroska, which counts in milliseconds."""
    source = make_clip(tmp_path / "clip.mkv", **SMALL, frames=20, fps=NTSC, gop=10, audio="pcm_s16le").path
    made = joined(source, tmp_path / "made", setting=raised(60))
    assert made.path.suffix == ".mkv"
    verified(made)
    times = [time * 1000 for time, _ in read_frame_numbers(source)]
    middles = [(one + other) // 2 for one, other in pairwise(times)]
    assert [time * 1000 for time in _shown(made.path)] == sorted([*times, *middles])


@pytest.mark.slow
def test_25_become_60_on_an_exact_grid(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4", **SMALL, frames=26, fps=Fraction(25), gop=10).path
    made = joined(source, tmp_path / "made", setting=raised(60))
    verified(made)
    assert _shown(made.path) == [Fraction(slot, 60) for slot in range(61)]
    assert (made.plan.frame_count, made.plan.interpolated_count) == (61, 55)
    kept = [Fraction(slot, 60) for slot in range(0, 61, 12)]
    assert _numbers_at(made.path, kept) == list(zip(kept, (0, 5, 10, 15, 20, 25), strict=True))


@pytest.mark.slow
def test_a_gap_is_left_as_it_is(tmp_path: Path) -> None:
    pts = [*range(0, 600, 20), *range(3000, 3600, 20)]
    source = make_clip(tmp_path / "clip.mp4", **SMALL, pts=pts, time_base=Fraction(1, 600), gop=10).path
    made = joined(source, tmp_path / "made", setting=raised(60))
    verified(made)
    expected = sorted({*pts, *(tick + 10 for tick in pts if tick + 20 in pts)})
    assert _shown(made.path) == [Fraction(tick, 600) for tick in expected]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "fps", "pix_fmt"),
    [
        (raised(60), Fraction(30), "yuv420p"),
        (raised(60), Fraction(25), "yuv420p10le"),
        (raised(90), Fraction(30), "yuv422p"),
    ],
)
def test_seams_do_not_show_in_made_up_frames(
    setting: ModeSetting, fps: Fraction, pix_fmt: str, tmp_path: Path
) -> None:
    """Whoever makes a segment, alone or in a run, after a temporal filter: the same pixels, bit for bit."""
    codec = "libx265" if "10" in pix_fmt else "libx264"
    clip = make_clip(
        tmp_path / "clip.mp4",
        **SMALL,
        frames=40,
        fps=fps,
        gop=10,
        codec=codec,
        pix_fmt=pix_fmt,
        noise_sigma=3.0,
    )
    plan = with_enhancement(plan_file(clip.path, setting=setting, segment_seconds=Fraction(1, 3)))
    assert len(plan.segments) > 2
    one = as_one_segment(plan)
    whole = filtered_hashes(clip.path, one, one.segments)
    assert len(whole) == plan.frame_count
    assert filtered_hashes(clip.path, plan, plan.segments) == whole
    alone = [entry for segment in plan.segments for entry in filtered_hashes(clip.path, plan, [segment])]
    assert alone == whole


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_run(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=40, gop=10, noise_sigma=3.0).path
    plan = plan_file(path, setting=raised(60), segment_seconds=Fraction(1, 3))
    together = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert [done.sha256 for done in together] == [done.sha256 for done in alone]


@pytest.mark.slow
def test_what_is_carried_over_is_interpolated_unenhanced(tmp_path: Path) -> None:
    """One result has one rate; before the time stamp frames are made up of unenhanced ones."""
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=30, gop=10, noise_sigma=3.0).path
    plan = plan_file(path, setting=raised(60), enhance_from_us=500_000)
    assert [(part.enhanced, part.frame_count) for part in plan.segments] == [(False, 30), (True, 29)]
    bare = with_enhancement(plan, filters=(), window=0)
    before, after = plan.segments
    assert filtered_hashes(path, plan, [before]) == filtered_hashes(path, bare, [before])
    assert filtered_hashes(path, plan, [after]) != filtered_hashes(path, bare, [after])


@pytest.mark.slow
def test_damage_is_concealed_first(tmp_path: Path) -> None:
    """A copy takes the damaged frame's place, and frames are made up between copies as between others."""
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=40, gop=10).path
    packet = next(each for each in coded_packets(path) if not each.is_key)
    broken = break_packet(path, tmp_path / "broken.mp4", packet, "zeroed", Random(1))
    made = joined(broken, tmp_path / "made", setting=raised(60, conceal_damage=True))
    verified(made)
    assert made.plan.damaged_pts
    assert len(_shown(made.path)) == 79


@pytest.mark.slow
def test_stills_are_frames_of_the_source(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=20, gop=10).path
    streams = [
        StreamInfo(stream_id=1, intent=StreamIntent.VIDEO),
        StreamInfo(stream_id=2, intent=StreamIntent.POST_VIEW),
    ]
    plan = plan_file(path, setting=raised(60), streams=streams)
    done = encode(path, plan, plan.segments, tmp_path / "made")
    with av.open(done[0].path) as container:
        stills = [packet for packet in container.demux(container.streams.video[1]) if packet.size]
    assert len(stills) == len(plan.renditions[1].still_pts or ()) == 10


@pytest.mark.slow
def test_a_watermark_does_not_move_with_the_picture(tmp_path: Path) -> None:
    """It is burnt in after frames were made up of unmarked ones: it looks the same in all of them."""
    path = make_clip(tmp_path / "clip.mp4", frames=12, gop=12, movement=6.0).path
    mark = Watermark(
        image=png_of(np.full((1, 1, 4), 255)),
        scale_factor=1.0,
        rotation_degrees=0,
        x=100,
        y=100,
        width=32,
        height=32,
    )
    plan = plan_file(path, setting=raised(60, watermark=mark))
    frames = rendered_frames(path, plan, plan.segments)
    assert len(frames) == 23
    assert len({read_plane(frame, 0)[104:128, 104:128].tobytes() for frame in frames}) == 1


def test_the_maker_track_tells_which_frames_are_made_up(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=24, gop=12).path
    plan = plan_file(path, setting=raised(60), segment_seconds=Fraction(1, 4))
    told = [json.loads(sample) for sample in Payloads(plan, runs_of_segments(plan))]
    assert [sample.get("interpolated", False) for sample in told] == [number % 2 == 1 for number in range(47)]


def test_the_file_tells_the_times(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=4).path
    made = joined(path, tmp_path / "made", setting=raised(60))
    assert verified(made).frame_count == 7
    with opened(made.path) as fd:
        assert read_movie(fd).user_keys["com.openharmony.interp_frame_pts"].as_text() == "16667,50000,83333"
    assert interpolated_times_text(replace(made.plan, interpolated_count=5)) == "16667,50000,83333,+2"


# the pictures


def test_what_moves_is_in_the_middle() -> None:
    """A texture that moves by eight pixels is four further, and not twice there half as strong."""
    earlier, middle, later = (draw_frame(number, 192, 128, movement=4.0) for number in (10, 11, 12))
    made = Interpolator().between(Picture.of(earlier), Picture.of(later), Fraction(1, 2))
    inner = np.s_[40:-8, 16:-16]  # without the number's blocks, which do not move
    wanted = read_plane(middle, 0)[inner].astype(int)
    blended = (read_plane(earlier, 0)[inner].astype(int) + read_plane(later, 0)[inner]) // 2
    assert np.abs(read_plane(made, 0)[inner] - wanted).mean() < np.abs(blended - wanted).mean() / 4


@pytest.mark.parametrize("fraction", [Fraction(1, 8), Fraction(1, 3), Fraction(3, 4)])
def test_a_fraction_is_as_far_on(fraction: Fraction) -> None:
    earlier, later = draw_frame(10, 192, 128, movement=0.8), draw_frame(20, 192, 128, movement=0.8)
    made = Interpolator().between(Picture.of(earlier), Picture.of(later), fraction)
    shown, before = read_plane(made, 0)[40:-8].astype(int), read_plane(earlier, 0)[40:-8].astype(int)
    inner = np.s_[:, 24:-24]
    errors = [np.abs(shown[inner] - np.roll(before, shift, axis=1)[inner]).mean() for shift in range(-8, 9)]
    assert abs(abs(int(np.argmin(errors)) - 8) - 8 * fraction) <= Fraction(3, 4)  # half pixels


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_between_equal_pictures_is_the_same_picture(pix_fmt: str) -> None:
    picture = Picture.of(draw_frame(3, 190, 110, pix_fmt, noise_sigma=5.0))
    made = Interpolator().between(picture, replace(picture), Fraction(1, 3))
    assert all((read_plane(made, index) == plane).all() for index, plane in enumerate(picture.planes))


@pytest.mark.parametrize(
    ("fraction", "shown"), [(Fraction(1, 3), 0), (Fraction(1, 2), 1), (Fraction(2, 3), 1)]
)
def test_nothing_is_made_up_over_a_cut(fraction: Fraction, shown: int) -> None:
    rng = np.random.default_rng(4)
    scenes = [
        VideoFrame.from_ndarray(rng.integers(0, 256, (144, 128), np.uint8), format="yuv420p")
        for _ in range(2)
    ]
    pictures = [Picture.of(scene) for scene in scenes]
    made = Interpolator().between(*pictures, fraction)
    assert all((read_plane(made, index) == plane).all() for index, plane in enumerate(pictures[shown].planes))


@pytest.mark.parametrize(
    ("pixel_format", "can"),
    [
        ("yuv420p", True),
        ("yuv444p12le", True),
        ("gray", True),
        ("gbrp", True),
        ("rgb24", False),
        ("pal8", False),
        ("nv12", False),
    ],
)
def test_kinds_of_pixels(pixel_format: str, can: bool) -> None:
    assert can_interpolate(pixel_format) is can


@pytest.mark.slow
def test_made_up_frames_do_not_depend_on_the_processor() -> None:
    """NumPy without any of the features that it chooses by the processor makes the same bits."""
    script = Path(__file__).parent.parent / "interpolation_digest.py"
    digests = {
        subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": without},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for without in ("", " ".join(__cpu_dispatch__))
    }
    assert len(digests) == 1


# awkward sources


@pytest.mark.slow
def test_two_packets_a_frame(tmp_path: Path) -> None:
    """Fields become whole pictures first; frames are made up between those."""
    source = make_field_pairs(tmp_path / "clip.mp4")
    made = joined(
        source, tmp_path / "made", setting=raised(1, 240, operation_mode=OperationMode.HIGH_FRAME_RATE)
    )
    verified(made)
    factor = made.plan.interpolation and made.plan.interpolation.factor
    assert factor is not None
    assert made.plan.frame_count == 29 * factor + 1


@pytest.mark.slow
def test_frames_that_have_no_time_stay_out(tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "clip.mp4", **SMALL, frames=60, gop=15, b_frames=3, open_gop=True).path
    source = tmp_path / "cut.mkv"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-ss", "0.8", "-i", str(whole), "-c", "copy"]
    subprocess.run([*command, "-avoid_negative_ts", "disabled", str(source)], check=True, timeout=60)
    made = joined(source, tmp_path / "made", setting=raised(60))
    verified(made)
    assert made.plan.frame_count == 2 * made.plan.source_frame_count - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clip", "lowest"),
    [
        pytest.param(
            "flir_thermal_vfr_7fps_bframes.mp4",
            14,
            marks=pytest.mark.skipif(not SOAKING, reason="large pictures: a matter of make soak"),
        ),
        ("phone_2004_h263_amr_vfr.3gp", 30),
    ],
)
def test_clips_of_cameras(clip: str, lowest: int, tmp_path: Path) -> None:
    source = Path(__file__).parent.parent / "clips" / clip
    made = joined(source, tmp_path / "made", Fraction(4), setting=raised(lowest, 2 * lowest))
    verified(made)
    assert made.plan.interpolated_count > 0
    with av.open(str(source)) as before, av.open(str(made.path)) as after:
        shown = [{frame.time for frame in each.decode(video=0)} for each in (before, after)]
    if made.plan.grid is None:
        assert shown[0] <= shown[1]
