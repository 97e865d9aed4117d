"""Stills are the right frames, upright, in the right colours, and the same bytes on every machine."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from cpu_independence import video_of
from frame_pictures import frame_number
from media_factory import Colours, make_clip
from media_tasks import SOME_NOISE, encode, opened, plan_file, probe_file
from videoprocess_server.media import colour_tables
from videoprocess_server.media.cover import choose_cover, choose_thumbnails, score_frame
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.hdr import HDR_TRANSFERS
from videoprocess_server.media.inputs import digest_inputs
from videoprocess_server.media.noise import analyze
from videoprocess_server.media.plan import only_needed
from videoprocess_server.media.planes import read_plane, write_plane
from videoprocess_server.media.still_colour import PIXEL_FORMATS, map_to_jpeg
from videoprocess_server.media.stills import write_stills
from videoprocess_server.media.tone_mapping.stages import STILL_COLOUR, HdrLight, map_still
from videoprocess_server.media.upright import plan_upright
from videoprocess_server.model.hdi import EncodeType, PixelFormat, StreamIntent
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.noise import noise_of
from videoprocess_server.model.plan import FrameScore, Plan
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect, StreamInfo
from videoprocess_server.model.tasks import AnalyzeTask, DigestTask, StillsTask

COVER = StreamInfo(stream_id=5, intent=StreamIntent.STILL_CAPTURE)
THUMBNAILS = StreamInfo(stream_id=6, intent=StreamIntent.POST_VIEW)
SMALL = {"width": 128, "height": 96}
HALF_SECOND = Fraction(1, 2)
ONE = 1 << 16
#: a, b, c and d of the eight ways in which a picture can stand
MATRICES = [
    (1, 0, 0, 1),
    (0, 1, -1, 0),
    (-1, 0, 0, -1),
    (0, -1, 1, 0),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, -1, -1, 0),
]


def made_stills(source: Path, folder: Path, plan: Plan) -> list[Path]:
    """Encodes all segments and writes the first rendition's pictures."""
    segments = encode(source, plan, plan.segments, folder / "segments")
    return written(plan, tuple(done.path for done in segments), folder)


def written(plan: Plan, segment_paths: tuple[str, ...], folder: Path, index: int = 0) -> list[Path]:
    rendition = plan.renditions[index]
    paths = [folder / f"{rendition.stream_id}_{k}.jpg" for k in range(len(rendition.still_pts or ()))]
    task = StillsTask(
        plan=plan,
        rendition_index=index,
        segment_paths=segment_paths,
        output_paths=tuple(str(path) for path in paths),
    )
    folder.mkdir(parents=True, exist_ok=True)
    result = write_stills(task, lambda message: None)
    for path, file in zip(paths, result.files, strict=True):
        data = path.read_bytes()
        assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return paths


def pixels_by_ffmpeg(path: Path, *filters: str) -> np.ndarray:
    """Red, green and blue of a picture, or of a video's frames, as the independent ffmpeg program shows them."""
    chain = ["-vf", ",".join(filters)] if filters else []
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), *chain]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    run = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return np.frombuffer(run.stdout, np.uint8)


def number_of(path: Path) -> int:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame_number(frame.reformat(format="yuv420p", src_color_range=2, dst_color_range=2))


# -- which frames


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=60),
    st.integers(1, 500),
    st.integers(-100, 100),
)
def test_thumbnails_are_different_frames_in_order(steps: list[int], last: int, first: int) -> None:
    shown = [first]
    for step in steps[1:]:
        shown.append(shown[-1] + step)
    chosen = choose_thumbnails(shown, shown[-1] + last)
    assert len(chosen) == min(10, len(shown))
    assert list(chosen) == sorted(set(chosen))
    assert set(chosen) <= set(shown)


def test_thumbnails_are_spread_by_time_not_by_number() -> None:
    # nine frames in the first tenth, then one a tenth
    shown = [*range(0, 90, 10), *range(100, 1000, 100)]
    assert choose_thumbnails(shown, 1000) == (50, 100, 200, 300, 400, 500, 600, 700, 800, 900)


@pytest.mark.parametrize(
    ("cover_time_ms", "expected"),
    [(0.0, 5), (1000.0, 35), (1016.6, 35), (1033.4, 36), (1999.9, 64), (2000.0, 11), (None, 11)],
)
def test_the_cover_is_what_is_shown_at_its_time_or_the_best(
    cover_time_ms: float | None, expected: int
) -> None:
    shown = list(range(5, 65))
    scores = [
        FrameScore(pts=pts, sharpness=sharpness, exposure=0.9) for pts, sharpness in ((7, 1.0), (11, 3.0))
    ]
    assert choose_cover(shown, 65, Fraction(1, 30), cover_time_ms, scores) == expected


def test_a_cover_is_sharp_and_neither_a_fade_nor_black_nor_white() -> None:
    rng = np.random.default_rng(1)
    sharp = np.clip(rng.normal(120, 40, (90, 160)), 0, 255)
    blurred = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1) + np.roll(sharp, (1, 1), (0, 1))) / 4
    frames = {
        1: np.full_like(sharp, 16),
        2: np.full_like(sharp, 235),
        3: blurred,
        4: sharp,
        5: 16 + (sharp - 16) * 0.5,
        # grain of black frames is sharp as well
        6: np.clip(rng.normal(16, 60, (90, 160)), 0, 28),
    }
    scores = [score_frame(pts, picture.astype(np.uint8), 8) for pts, picture in frames.items()]
    assert choose_cover(list(frames), 7, Fraction(1), None, scores) == 4
    deep = score_frame(4, (sharp.astype(np.uint8).astype(np.uint16) * 4), 10)
    assert deep == scores[3]


def test_a_cover_is_enhanced_where_only_a_part_is(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=60, width=128, height=96).path
    ticks = int(probe_file(path).video.time_base.denominator)
    scores = tuple(
        FrameScore(pts=ticks * second // 2, sharpness=sharp, exposure=1.0)
        for second, sharp in ((0, 9.0), (1, 1.0), (3, 2.0))
    )
    noise = replace(SOME_NOISE, frames=scores)
    covers = [
        plan_file(path, streams=[COVER], enhance_from_us=from_us, noise=noise).renditions[0].still_pts
        for from_us in (0, 1_000_000, 1_900_000)
    ]
    assert covers == [(0,), (ticks * 3 // 2,), (0,)]


def test_a_frame_that_is_not_shown_is_no_cover() -> None:
    scores = [FrameScore(pts=3, sharpness=9.0, exposure=1.0), FrameScore(pts=8, sharpness=1.0, exposure=1.0)]
    assert choose_cover([4, 8, 12], 16, Fraction(1, 4), None, scores) == 8
    assert choose_cover([4, 12, 16], 20, Fraction(1, 4), None, scores) == 12


def test_the_analysis_judges_frames_of_the_video(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=40, **SMALL).path
    video = probe_file(path).video
    with opened(path) as fd:
        noise = noise_of([analyze(AnalyzeTask(video=video), fd)])
    assert len(noise.frames) == noise.frame_count
    plan = plan_file(path, streams=[COVER], noise=noise)
    best = max(noise.frames, key=lambda score: score.sharpness)
    assert plan.renditions[0].still_pts == (best.pts,)
    assert plan.noise == replace(noise, frames=())


@pytest.mark.parametrize(
    ("told", "known"), [("400.5", 400.5), ("-1", None), ("nan", None), ("inf", None), ("x", None)]
)
def test_the_probe_carries_the_cover_time(tmp_path: Path, told: str, known: float | None) -> None:
    metadata = {"com.openharmony.covertime": told}
    path = make_clip(tmp_path / "clip.mp4", frames=3, metadata=metadata).path
    assert probe_file(path).cover_time_ms == known


def test_the_cover_is_the_frame_that_the_cameras_user_chose(tmp_path: Path) -> None:
    metadata = {"com.openharmony.covertime": "550.000000"}
    path = make_clip(tmp_path / "clip.mp4", frames=40, start_pts=7, metadata=metadata).path
    (cover,) = made_stills(path, tmp_path / "out", plan_file(path, streams=[COVER]))
    assert number_of(cover) == 16  # 16.5 thirtieths after the first frame


def test_thumbnails_are_the_frames_that_the_plan_names(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=60, gop=15, **SMALL).path
    plan = plan_file(path, streams=[THUMBNAILS], segment_seconds=HALF_SECOND)
    paths = made_stills(path, tmp_path / "out", plan)
    assert [number_of(thumbnail) for thumbnail in paths] == [3, 9, 15, 21, 27, 33, 39, 45, 51, 57]


# -- how they look


@pytest.mark.parametrize("linear", MATRICES)
@pytest.mark.parametrize("size", [(64, 48), (33, 20)])
def test_a_picture_stands_as_players_show_it(
    linear: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    width, height = size
    a, b, c, d = linear
    frame = VideoFrame(width, height, "yuv444p")
    values = np.arange(width * height).reshape(height, width) % 251
    for index in range(3):
        write_plane(frame, index, values)
    frame.pts = 0
    matrix = (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    whole = Rect(x=0, y=0, width=width, height=height)
    video = replace(
        video_of("yuv444p", Colour(primaries=1, transfer=1, matrix=1, range=1)), width=width, height=height
    )
    geometry = plan_upright(video, whole, matrix, (0, 0), None, "yuv444p")
    chain = FilterChain(geometry.fit, Fraction(1, 30))
    made = read_plane([*chain.push(frame), *chain.push(None)][0], 0)
    # ISO/IEC 14496-12: (x, y) is shown at (a x + c y, b x + d y), moved into the first quadrant
    y, x = np.mgrid[0:height, 0:width]
    across, down = a * x + c * y, b * x + d * y
    expected = np.zeros((np.ptp(down) + 1, np.ptp(across) + 1), np.uint8)
    expected[down - down.min(), across - across.min()] = values
    assert made.shape == (geometry.height, geometry.width)
    assert np.array_equal(made, expected)


@pytest.mark.parametrize(
    ("size", "aspect", "turned", "asked", "longest", "expected"),
    [
        ((1920, 1080), 1, False, (0, 0), None, (1920, 1080)),
        ((1920, 1080), 1, True, (0, 0), None, (1080, 1920)),
        ((1920, 1080), 1, True, (0, 0), 320, (180, 320)),
        ((200, 100), 1, False, (0, 0), 320, (200, 100)),
        ((1920, 1080), 1, False, (480, 0), 320, (480, 270)),
        ((1920, 1080), 1, True, (0, 480), 320, (270, 480)),
        ((1920, 1080), 1, False, (100, 100), 320, (100, 100)),
        ((720, 576), Fraction(16, 11), False, (0, 0), None, (1047, 576)),
        ((720, 480), Fraction(8, 9), False, (0, 0), None, (720, 540)),
    ],
)
def test_sizes(
    size: tuple[int, int],
    aspect: Fraction,
    *,
    turned: bool,
    asked: tuple[int, int],
    longest: int | None,
    expected: tuple[int, int],
) -> None:
    colour = Colour(primaries=1, transfer=1, matrix=1, range=1)
    video = replace(
        video_of("yuv420p", colour), width=size[0], height=size[1], sample_aspect_ratio=Fraction(aspect)
    )
    matrix = (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30) if turned else None
    whole = Rect(x=0, y=0, width=size[0], height=size[1])
    geometry = plan_upright(video, whole, matrix, asked, longest, "yuv444p")
    assert (geometry.width, geometry.height) == expected


def test_a_size_of_another_shape_shows_the_whole_picture_on_black(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=4).path
    asked = replace(COVER, width=200, height=200)
    (cover,) = made_stills(path, tmp_path / "out", plan_file(path, streams=[asked]))
    pixels = pixels_by_ffmpeg(cover).reshape(200, 200, 3).astype(int)
    assert pixels[:42].max() < 8
    assert pixels[-42:].max() < 8
    assert pixels[46:-46].mean() > 60


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("kind", ["yuv420p", "yuvj420p", "yuv422p10le"])
def test_a_jpeg_is_what_another_program_shows(tmp_path: Path, rotation: int, kind: str) -> None:
    """The independent ffmpeg program turns the source's frame and makes it red, green and blue, too."""
    colours = Colours(range=2 if "yuvj" in kind else 1)
    path = make_clip(tmp_path / "clip.mp4", frames=4, pix_fmt=kind, rotation=rotation, colours=colours).path
    plan = plan_file(path, streams=[COVER])
    plan = replace(plan, filters=replace(plan.filters, enhancement=(), pre_roll_frames=0, post_roll_frames=0))
    (cover,) = made_stills(path, tmp_path / "out", plan)
    made = pixels_by_ffmpeg(cover)
    shape = (plan.renditions[0].encoder.height, plan.renditions[0].encoder.width, 3)
    assert made.size == np.prod(shape)
    position = 2  # the plan takes the middle frame of those that nobody has judged
    shown = pixels_by_ffmpeg(path, "scale=in_color_matrix=bt709:flags=accurate_rnd+full_chroma_int")
    source = shown.reshape(-1, *shape)[position].astype(float)
    error = made.reshape(shape).astype(float) - source
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 33


def test_a_jpeg_has_no_trace_of_when_and_where_it_was_made(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=4).path
    (cover,) = made_stills(path, tmp_path / "out", plan_file(path, streams=[COVER]))
    data = cover.read_bytes()
    assert data.startswith(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")
    assert data.endswith(b"\xff\xd9")
    assert b"\xff\xfe" not in data  # a comment
    assert b"Lavc" not in data


def patch(colour: Colour, bits: int, rgb: tuple[float, float, float]) -> np.ndarray:
    """A grey or coloured patch, coded by textbook arithmetic, and what a JPEG of it shows."""
    kr, kg, kb = (float(share) for share in colour_tables.luma_shares(colour.matrix))
    y = kr * rgb[0] + kg * rgb[1] + kb * rgb[2]
    cb, cr = (rgb[2] - y) / (2 * (1 - kb)), (rgb[0] - y) / (2 * (1 - kr))
    scale = 1 << (bits - 8)
    coded = (
        (
            y * ((1 << bits) - 1),
            cb * ((1 << bits) - 1) + (1 << (bits - 1)),
            cr * ((1 << bits) - 1) + (1 << (bits - 1)),
        )
        if colour.range == 2
        else ((y * 219 + 16) * scale, (cb * 224 + 128) * scale, (cr * 224 + 128) * scale)
    )
    frame = VideoFrame(21, 15, PIXEL_FORMATS[bits])
    for index, value in enumerate(coded):
        write_plane(frame, index, np.full((15, 21), round(value)))
    if colour.transfer in HDR_TRANSFERS:
        frame.pts, frame.time_base = 0, Fraction(1, 30)
        stages = map_still(HdrLight(colour=colour, peak=1000), PIXEL_FORMATS[bits])
        chain = FilterChain(stages, Fraction(1, 30))
        frame, colour = [*chain.push(frame), *chain.push(None)][0], STILL_COLOUR
    made = map_to_jpeg(frame, colour)
    y8, cb8, cr8 = (float(read_plane(made, index)[3, 3]) for index in range(3))
    red = y8 + 1.402 * (cr8 - 128)
    blue = y8 + 1.772 * (cb8 - 128)
    return np.array([red, (y8 - 0.299 * red - 0.114 * blue) / 0.587, blue])


@pytest.mark.parametrize("matrix", [1, 5, 7, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_sdr_keeps_its_colours(matrix: int, *, full: bool, bits: int) -> None:
    colour = Colour(primaries=1, transfer=1, matrix=matrix, range=2 if full else 1)
    for rgb in [(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (0.8, 0.3, 0.2), (0.1, 0.6, 0.3), (0.2, 0.2, 0.9)]:
        assert patch(colour, bits, rgb) == pytest.approx(np.array(rgb) * 255, abs=2.5)


def test_hdr_is_shown_as_sdr() -> None:
    """BT.2408: 75 % of HLG and 58 % of PQ are the white of a page, and look alike; darker greys are those that they are."""
    hlg = Colour(primaries=9, transfer=18, matrix=9, range=1)
    pq = Colour(primaries=9, transfer=16, matrix=9, range=1)
    white = patch(hlg, 10, (0.75,) * 3)
    assert white == pytest.approx(patch(pq, 10, (0.5806,) * 3), abs=2)
    assert white == pytest.approx([232] * 3, abs=3)
    assert patch(hlg, 10, (1.0,) * 3) == pytest.approx([255] * 3, abs=1)
    assert patch(pq, 10, (1.0,) * 3) == pytest.approx([255] * 3, abs=1)
    assert patch(pq, 10, (0.0,) * 3) == pytest.approx([0] * 3, abs=1)
    # 26 cd/m2, a grey card's: PQ 0.380, HLG 0.3788; light of 0.128 of the white is 100.3 of sRGB's 255
    assert patch(pq, 10, (0.38,) * 3) == pytest.approx([100.3] * 3, abs=1.2)
    assert patch(hlg, 10, (0.3788,) * 3) == pytest.approx([100.3] * 3, abs=1.2)
    greys = [patch(hlg, 10, (level / 20,) * 3)[0] for level in range(21)]
    assert greys == sorted(greys)


def test_wide_colours_become_those_of_srgb() -> None:
    """Display P3's red of 0.5 is outside of sRGB by little; its grey is the same grey."""
    p3 = Colour(primaries=12, transfer=13, matrix=1, range=1)
    assert patch(p3, 8, (0.5, 0.5, 0.5)) == pytest.approx([127.5] * 3, abs=2)
    red = patch(p3, 8, (0.5, 0.2, 0.2))
    assert red == pytest.approx([137.6, 45.6, 48.8], abs=3)


def test_the_tables_are_those_of_every_machine() -> None:
    """Each is rounded from doubles: a machine whose powers differ by enough to change one is found here."""
    tables: list[Callable[[], tuple[int, ...]]] = [
        colour_tables.srgb_to_light,
        colour_tables.light_to_srgb,
        colour_tables.white_light_to_pq,
        colour_tables.scene_light_to_hlg,
        colour_tables.hlg_inverse_gain,
    ]
    digest = hashlib.sha256(repr([table() for table in tables]).encode()).hexdigest()
    assert digest == "33e6760cbec062539835f8527e6a8952b414aef7acdca4ba5472f9f346fb5f9d"


@pytest.mark.slow
def test_pixels_do_not_depend_on_the_processor() -> None:
    """FFmpeg is told that the processor has no vector instructions at all, or SSE only."""
    script = Path(__file__).parent.parent / "cpu_independence.py"

    def digests(*flags: str) -> list[str]:
        command = [sys.executable, str(script), *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()

    native, without = digests(), digests("0")
    assert native[:-1] == without[:-1]
    if platform.machine() == "x86_64":
        assert native[-1] != without[-1], "FFmpeg did not take the processor for another one"


# -- how they are made


def test_few_segments_are_made_for_few_pictures(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=90, gop=15, **SMALL).path
    whole = plan_file(path, segment_seconds=HALF_SECOND)
    plan = plan_file(path, streams=[COVER], segment_seconds=HALF_SECOND)
    assert len(whole.segments) == 6
    assert [segment.index for segment in plan.segments] == [0]
    assert plan.segments[0].start_pts == whole.segments[3].start_pts
    assert plan.segments[0].start_pts <= (plan.renditions[0].still_pts or ())[0] < plan.segments[0].end_pts
    assert [number_of(still) for still in made_stills(path, tmp_path / "out", plan)] == [45]


def test_bytes_do_not_depend_on_the_run(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=60, gop=15, **SMALL).path
    plan = plan_file(path, streams=[THUMBNAILS, COVER], segment_seconds=HALF_SECOND)
    together = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert [done.sha256 for done in together] == [done.sha256 for done in alone]


def test_pictures_are_written_at_the_times_of_a_grid(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=60, gop=15, **SMALL).path
    setting = ModeSetting(frame_rate_range=FrameRateRange(min_fps=7, max_fps=7))
    plan = plan_file(path, streams=[THUMBNAILS], setting=setting, segment_seconds=HALF_SECOND)
    assert plan.grid is not None
    assert len(made_stills(path, tmp_path / "out", plan)) == 10


@pytest.mark.parametrize(
    "asked",
    [
        replace(COVER, encode_type=EncodeType.H264),
        replace(COVER, encode_type=EncodeType.HEIC),
        replace(COVER, format=int(PixelFormat.YCBCR_P010)),
        replace(COVER, dataspace=4457732),  # BT.2020 HLG
    ],
)
def test_what_a_jpeg_cannot_be_is_refused(tmp_path: Path, asked: StreamInfo) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3, colours=Colours()).path
    with pytest.raises(MediaFault, match="STREAM_NOT_SUPPORTED"):
        plan_file(path, streams=[asked])


def test_segments_of_another_plan_are_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=30, **SMALL).path
    plan = plan_file(path, streams=[THUMBNAILS])
    segments = encode(path, plan, plan.segments, tmp_path / "segments")
    paths = tuple(done.path for done in segments)
    made = plan.renditions[0]
    assert made.still_pts is not None
    other = replace(plan, renditions=(replace(made, still_pts=(made.still_pts[0] + 1, *made.still_pts[1:])),))
    with pytest.raises(MediaFault, match="JOIN_FAILED"):
        written(other, paths, tmp_path / "other")
    fewer = replace(plan, renditions=(replace(made, still_pts=made.still_pts[:-1]),))
    with pytest.raises(MediaFault, match="JOIN_FAILED"):
        written(fewer, paths, tmp_path / "fewer")
    larger = replace(plan, renditions=(replace(made, encoder=replace(made.encoder, width=130)),))
    with pytest.raises(MediaFault, match="VERIFY_FAILED"):
        written(larger, paths, tmp_path / "larger")


def test_files_are_never_overwritten(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    plan = plan_file(path, streams=[COVER], noise=SOME_NOISE)
    made_stills(path, tmp_path / "out", plan)
    with pytest.raises(FileExistsError):
        written(plan, (str(tmp_path / "out" / "segments" / "0.mp4"),), tmp_path / "out")


def test_the_digest_of_the_inputs_is_of_the_segments_that_are_made(tmp_path: Path) -> None:
    """What is compared where a source was touched: also where segments between are left out."""
    path = make_clip(tmp_path / "clip.mp4", frames=90, gop=15, **SMALL).path
    few = plan_file(path, streams=[THUMBNAILS], segment_seconds=HALF_SECOND)
    pts = few.renditions[0].still_pts or ()
    renditions = (replace(few.renditions[0], still_pts=(pts[0], pts[-1])),)
    plan = replace(few, renditions=renditions, segments=only_needed(few.segments, renditions))
    assert [segment.start_pts for segment in plan.segments] == [
        few.segments[0].start_pts,
        few.segments[-1].start_pts,
    ]
    made = encode(path, plan, plan.segments, tmp_path / "segments")
    with opened(path) as fd:
        told = digest_inputs(DigestTask(plan=plan), fd, lambda message: None)
    assert told.input_sha256 == tuple(done.input_sha256 for done in made)
