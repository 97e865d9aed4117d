"""Frames are dropped to an exact grid, and zoom shows exactly the middle."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_factory import make_clip, read_frame_numbers
from media_tasks import encode, filtered_hashes, plan_file, rendered_frames
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.model.grid import choose, grid_time_base, slot_bounds, slot_of, slot_pts
from videoprocess_server.model.hdi import EncodeType, StreamIntent
from videoprocess_server.model.plan import FrameGrid
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect, StreamInfo

MILLISECOND = Fraction(1, 1000)
END = 3001  # ms, after all frames that are drawn
UP_TO_30 = ModeSetting(frame_rate_range=FrameRateRange(min_fps=1, max_fps=30))


# the grid


@st.composite
def _frames_and_grid(draw: st.DrawFn) -> tuple[list[int], FrameGrid]:
    pts = sorted(draw(st.sets(st.integers(0, 3000), min_size=1, max_size=150)))
    return pts, FrameGrid(rate=Fraction(draw(st.integers(1, 120))), origin_pts=pts[0])


def _chosen(pts: list[int], grid: FrameGrid) -> list[tuple[int, int]]:
    return list(choose(pts, lambda tick: tick, grid, MILLISECOND, END))


@given(_frames_and_grid())
def test_each_slot_holds_its_nearest_frame(case: tuple[list[int], FrameGrid]) -> None:
    pts, grid = case
    chosen = _chosen(pts, grid)
    slots = [slot for _, slot in chosen]
    assert slots == sorted(set(slots))
    for tick, slot in chosen:
        time = Fraction(grid.origin_pts, 1000) + slot / grid.rate
        half = 1 / grid.rate / 2
        rivals = [other for other in pts if time - half <= Fraction(other, 1000) < time + half]
        assert tick == min(rivals, key=lambda other: (abs(Fraction(other, 1000) - time), other))
        assert slot_pts(slot, grid, MILLISECOND) * grid_time_base(grid, MILLISECOND) == time


@given(_frames_and_grid(), st.data())
def test_a_slot_depends_on_the_frames_within_half_a_slot_only(
    case: tuple[list[int], FrameGrid], data: st.DataObject
) -> None:
    pts, grid = case
    tick = data.draw(st.sampled_from(pts))
    slot = slot_of(tick, grid, MILLISECOND)
    first, after_last = slot_bounds(slot, grid, MILLISECOND)
    assert first <= tick < after_last
    near = [other for other in pts if first <= other < after_last]
    assert _chosen(near, grid) == [pair for pair in _chosen(pts, grid) if pair[1] == slot]


def test_60_frames_a_second_become_every_second_one_with_its_own_time(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=60, fps=Fraction(60), gop=15).path
    plan = plan_file(path, setting=UP_TO_30, segment_seconds=Fraction(1, 4))
    assert len(plan.segments) == 4
    assert plan.frame_count == 30
    made = [
        shown
        for done in encode(path, plan, plan.segments, tmp_path)
        for shown in read_frame_numbers(Path(done.path))
    ]
    assert made == read_frame_numbers(path)[::2]


@pytest.mark.slow
def test_a_jittering_source_gets_an_exact_grid(tmp_path: Path) -> None:
    pts = [k * 25 + (k * 7) % 11 for k in range(90)]
    path = make_clip(tmp_path / "clip.mp4", pts=pts, time_base=Fraction(1, 1500), gop=20).path
    plan = plan_file(path, setting=UP_TO_30, segment_seconds=Fraction(1, 3))
    assert len(plan.segments) > 2
    made = [
        shown
        for done in encode(path, plan, plan.segments, tmp_path)
        for shown in read_frame_numbers(Path(done.path))
    ]
    assert all((time * 30).denominator == 1 for time, _ in made)
    numbers = [number for _, number in made]
    assert numbers == sorted(set(numbers))
    assert len(made) == plan.frame_count
    assert all(abs(Fraction(pts[number], 1500) - time) <= Fraction(1, 60) for time, number in made)


def test_dropping_does_not_depend_on_the_run(tmp_path: Path) -> None:
    """The frame that wins a slot at a seam may lie in either segment."""
    pts = [k * 17 + (k * 5) % 13 for k in range(90)]
    path = make_clip(tmp_path / "clip.mp4", pts=pts, time_base=Fraction(1, 1000), gop=10).path
    plan = plan_file(path, setting=UP_TO_30, segment_seconds=Fraction(1, 5))
    assert len(plan.segments) > 4
    alone = [entry for segment in plan.segments for entry in filtered_hashes(path, plan, [segment])]
    assert filtered_hashes(path, plan, plan.segments) == alone


@pytest.mark.parametrize(
    ("fps", "lowest", "highest"),
    [
        (Fraction(30_000, 1001), 30, 30),
        (Fraction(30), 24, 30),
        (Fraction(24_000, 1001), 24, 60),
        (Fraction(30), 30, 30),
    ],
)
def test_a_source_inside_the_range_is_left_alone(
    tmp_path: Path, fps: Fraction, lowest: int, highest: int
) -> None:
    time_base = Fraction(1, fps.numerator)
    path = make_clip(tmp_path / "clip.mp4", frames=30, fps=fps, time_base=time_base).path
    setting = ModeSetting(frame_rate_range=FrameRateRange(min_fps=lowest, max_fps=highest))
    assert plan_file(path, setting=setting).grid is None


# zoom and size


def _unenhanced(path: Path, setting: ModeSetting, **size: int) -> list[av.VideoFrame]:
    """Frames that went through crop and scale only, because the last one alone is enhanced."""
    stream = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, **size)
    plan = plan_file(path, setting=setting, streams=[stream], enhance_from_us=300_000)
    plain = [segment for segment in plan.segments if not segment.enhanced]
    return rendered_frames(path, plan, plain)


@pytest.mark.parametrize(
    ("setting", "box"),
    [
        (ModeSetting(zoom_ratio=2.0), (80, 44, 160, 90)),
        (
            ModeSetting(zoom_ratio=2.0, zoom_crop_region=Rect(x=40, y=20, width=200, height=120)),
            (90, 50, 100, 60),
        ),
        (ModeSetting(zoom_crop_region=Rect(x=40, y=20, width=200, height=120)), (40, 20, 200, 120)),
        (ModeSetting(zoom_ratio=1.1), (14, 8, 290, 162)),
    ],
)
def test_zoom_is_an_exact_crop_that_is_scaled(
    tmp_path: Path, setting: ModeSetting, box: tuple[int, int, int, int]
) -> None:
    x, y, width, height = box
    path = make_clip(tmp_path / "clip.mp4", frames=10, colours=None).path
    made = _unenhanced(path, setting)
    with av.open(str(path)) as container:
        source = next(container.decode(video=0))
    cropped = av.VideoFrame(width, height, "yuv420p")
    for plane, target in zip(_planes(source), cropped.planes, strict=True):
        shrink = source.width // plane.shape[1]
        part = plane[y // shrink : (y + height) // shrink, x // shrink : (x + width) // shrink]
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : target.width] = part
        target.update(rows.tobytes())
    graph = av.filter.Graph()
    graph.threads = 1
    chain = (
        graph.add_buffer(width=width, height=height, format=cropped.format, time_base=Fraction(1, 30)),
        graph.add("scale", "320:180:flags=lanczos+accurate_rnd+full_chroma_int+bitexact"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*chain).configure()
    graph.push(cropped)
    expected = graph.vpull()
    assert all((one == other).all() for one, other in zip(_planes(made[0]), _planes(expected), strict=True))


def _planes(frame: av.VideoFrame) -> list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]]:
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


def test_a_size_is_scaled_to_and_pixels_keep_their_shape_on_screen(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=10).path
    frame = _unenhanced(path, ModeSetting(), width=160, height=180)[0]
    assert (frame.width, frame.height) == (160, 180)
    stream = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, width=160, height=180)
    assert plan_file(path, streams=[stream]).renditions[0].encoder.sample_aspect_ratio == 2


@pytest.mark.parametrize(
    "region",
    [
        Rect(x=0, y=0, width=321, height=180),
        Rect(x=-2, y=0, width=100, height=100),
        Rect(x=300, y=0, width=40, height=40),
        Rect(x=0, y=0, width=0, height=100),
    ],
)
def test_a_region_outside_the_picture_is_a_slip(tmp_path: Path, region: Rect) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    with pytest.raises(MediaFault, match="CROP_OUTSIDE_PICTURE"):
        plan_file(path, setting=ModeSetting(zoom_crop_region=region))


@pytest.mark.parametrize(
    ("width", "height", "encode_type"),
    [(8, 8, EncodeType.H265), (161, 90, EncodeType.H264), (100_000, 100_000, EncodeType.H264)],
)
def test_sizes_that_no_encoder_makes_are_slips(
    tmp_path: Path, width: int, height: int, encode_type: EncodeType
) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    stream = StreamInfo(
        stream_id=1, intent=StreamIntent.VIDEO, encode_type=encode_type, width=width, height=height
    )
    with pytest.raises(MediaFault, match="SIZE_NOT_SUPPORTED"):
        plan_file(path, streams=[stream])


def test_an_odd_size_becomes_even_and_is_named(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "odd.mp4", frames=10, width=161, height=91, pix_fmt="yuv444p").path
    plan = plan_file(path)
    assert (plan.renditions[0].encoder.width, plan.renditions[0].encoder.height) == (162, 92)
    assert [loss.what.name for loss in plan.not_kept] == ["ODD_SIZE"]
    assert encode(path, plan, plan.segments, tmp_path / "out")[0].frame_count == 10
