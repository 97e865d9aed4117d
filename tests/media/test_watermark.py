"""A watermark is burnt into every picture, where and as it is asked for, and nowhere else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from cpu_independence import png_of, video_of
from frame_pictures import draw_frame
from media_factory import make_clip
from media_tasks import encode, filtered_hashes, opened, plan_file, probe_file
from videoprocess_server.media import colour_tables
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.images import MAX_IMAGE_BYTES, check_image, decode_image
from videoprocess_server.media.planes import read_plane
from videoprocess_server.media.segments import filtered_frames
from videoprocess_server.media.watermark import Stamp, plan_overlay
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.plan import Overlay, Plan
from videoprocess_server.model.settings_snapshot import ModeSetting, Rect, StreamInfo, Watermark
from videoprocess_server.model.tasks import WatermarkInfo, WatermarkTask

SDR = Colour(primaries=1, transfer=1, matrix=1, range=1)
FULL_601 = Colour(primaries=1, transfer=1, matrix=6, range=2)
HLG = Colour(primaries=9, transfer=18, matrix=9, range=1)
PQ = Colour(primaries=9, transfer=16, matrix=9, range=1)
SIZE = (96, 64)


def picture(width: int = 17, height: int = 11, seed: int = 1) -> np.ndarray:
    """Random colours, and alpha from nothing to all."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4))
    pixels[: height // 3, :, 3] = 255
    pixels[:, : width // 4, 3] = 0
    return pixels


def watermark(pixels: np.ndarray | None = None, **changes: object) -> Watermark:
    image = png_of(picture() if pixels is None else pixels)
    plain = Watermark(image=image, scale_factor=1.0, rotation_degrees=0, x=10, y=8, width=0, height=0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def burnt(kind: str, mark: Watermark, colour: Colour) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The planes of a frame before and after."""
    frame = draw_frame(5, *SIZE, kind)
    before = [read_plane(frame, index).astype(np.int64) for index in range(len(frame.planes))]
    Stamp(Overlay(watermark=mark, colour=colour), frame).burn_into(frame)
    return before, [read_plane(frame, index).astype(np.int64) for index in range(len(frame.planes))]


def expected_planes(
    before: list[np.ndarray], kind: str, pixels: np.ndarray, x: int, y: int, colour: Colour
) -> list[np.ndarray]:
    """Alpha blending by the textbook, with floating point, for SDR."""
    bits = 10 if "10" in kind else 8
    kr, kg, kb = (float(share) for share in colour_tables.luma_shares(colour.matrix))
    red, green, blue = (pixels[..., channel] / 255 for channel in range(3))
    luma = kr * red + kg * green + kb * blue
    signals = [luma, (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))]
    scale = 1 << (bits - 8)
    levels = (
        [((1 << bits) - 1, 0)] + [((1 << bits) - 1, 1 << (bits - 1))] * 2
        if colour.range == 2
        else [(219 * scale, 16 * scale)] + [(224 * scale, 128 * scale)] * 2
    )
    planes = []
    for plane, signal, (steps, zero) in zip(before, signals, levels, strict=True):
        across, down = SIZE[0] // plane.shape[1], SIZE[1] // plane.shape[0]
        value = np.repeat(np.repeat(plane, down, 0), across, 1).astype(float)
        alpha = pixels[..., 3] / 255
        lines, columns = slice(y, y + pixels.shape[0]), slice(x, x + pixels.shape[1])
        value[lines, columns] = value[lines, columns] * (1 - alpha) + (signal * steps + zero) * alpha
        planes.append(value.reshape(plane.shape[0], down, plane.shape[1], across).mean(axis=(1, 3)))
    return planes


@pytest.mark.parametrize(
    "kind", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]
)
@pytest.mark.parametrize("colour", [SDR, FULL_601], ids=["limited", "full"])
@pytest.mark.parametrize("place", [(10, 8), (11, 9)])
def test_it_is_blended_as_the_textbook_says(kind: str, colour: Colour, place: tuple[int, int]) -> None:
    before, after = burnt(kind, watermark(x=place[0], y=place[1]), colour)
    for made, wanted in zip(after, expected_planes(before, kind, picture(), *place, colour), strict=True):
        assert np.abs(made - wanted).max() <= 1.01


@pytest.mark.parametrize("place", [(-5, -3), (90, 60), (-5, 60), (0, -10), (95, 63), (-16, 0)])
def test_what_lies_outside_of_the_picture_is_not_shown(place: tuple[int, int]) -> None:
    opaque = np.full((11, 17, 4), 255)
    _, after = burnt("yuv420p", watermark(opaque, x=place[0], y=place[1]), SDR)
    marked = np.zeros(SIZE[::-1], bool)
    marked[max(place[1], 0) : max(place[1] + 11, 0), max(place[0], 0) : max(place[0] + 17, 0)] = True
    before, _ = burnt("yuv420p", watermark(np.zeros((1, 1, 4))), SDR)
    assert np.array_equal(after[0] != before[0], marked & (before[0] != 235))
    assert (after[0][marked] == 235).all()


def test_nothing_but_the_part_under_it_changes() -> None:
    before, after = burnt("yuv420p", watermark(), SDR)
    for old, new in zip(before, after, strict=True):
        across, down = SIZE[0] // old.shape[1], SIZE[1] // old.shape[0]
        beside = np.ones(old.shape, bool)
        beside[8 // down : -(-19 // down), 10 // across : -(-27 // across)] = False
        assert np.array_equal(old[beside], new[beside])


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 360, -90, 450])
def test_it_is_turned_counterclockwise(degrees: int) -> None:
    """A player that turns the picture clockwise by as much shows it upright."""
    pixels = picture()
    pixels[..., 3] = 255
    turned = np.rot90(pixels, degrees // 90)
    _, one = burnt("yuv444p", watermark(pixels, rotation_degrees=degrees), SDR)
    _, other = burnt("yuv444p", watermark(turned), SDR)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    if degrees == 90:
        red = np.zeros((4, 8, 4))
        red[0, -1] = (255, 255, 255, 255)  # top right comes to lie top left
        before, after = burnt("yuv444p", watermark(red, rotation_degrees=90), SDR)
        assert list(zip(*np.nonzero(before[0] != after[0]), strict=True)) == [(8, 10)]


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"scale_factor": 2.0}, (34, 22)),
        ({"scale_factor": 0.5}, (8, 6)),
        ({"width": 40, "height": 20}, (40, 20)),
        ({"width": 40, "height": 20, "scale_factor": 0.5}, (20, 10)),
        ({"rotation_degrees": 90}, (11, 17)),
        ({"rotation_degrees": 90, "width": 30, "height": 20}, (30, 20)),
    ],
)
def test_its_size(changes: dict[str, object], size: tuple[int, int]) -> None:
    before, after = burnt("yuv444p", watermark(np.full((11, 17, 4), 255), **changes), SDR)
    lines, columns = np.nonzero(before[0] != after[0])
    assert (np.ptp(columns) + 1, np.ptp(lines) + 1) == size
    assert (after[0][8 : 8 + size[1], 10 : 10 + size[0]] == 235).all()


def test_colours_do_not_bleed_out_of_what_is_transparent() -> None:
    """Where it is made smaller, hidden colours must not show at edges: white next to transparent black stays white."""
    pixels = np.zeros((40, 40, 4), int)
    pixels[:, 20:] = 255
    before, after = burnt("yuv444p", watermark(pixels, scale_factor=0.275), SDR)
    part = slice(8, 19), slice(10, 21)
    assert (after[0][part] >= before[0][part]).all()


@pytest.mark.parametrize(("colour", "signal"), [(HLG, 0.75), (PQ, 0.5806)])
def test_its_white_is_the_reference_white_of_hdr(colour: Colour, signal: float) -> None:
    _, after = burnt("yuv420p10le", watermark(np.full((11, 17, 4), 255)), colour)
    middle = after[0][10, 15], after[1][5, 7], after[2][5, 7]
    assert middle == pytest.approx((64 + 876 * signal, 512, 512), abs=3)


def test_grey_and_planar_rgb_are_taken_too() -> None:
    opaque = np.full((11, 17, 4), 255)
    opaque[..., :3] = (250, 100, 30)
    for kind, values in (("gray", [132]), ("gbrp", [100, 30, 250])):
        frame = VideoFrame(*SIZE, kind)
        Stamp(Overlay(watermark=watermark(opaque), colour=FULL_601), frame).burn_into(frame)
        assert [int(read_plane(frame, index)[10, 12]) for index in range(len(frame.planes))] == pytest.approx(
            [round(0.299 * 250 + 0.587 * 100 + 0.114 * 30)] if kind == "gray" else values, abs=1
        )


# -- in videos


def plan_with(path: Path, mark: Watermark | None, **changes: object) -> Plan:
    return plan_file(path, setting=ModeSetting(watermark=mark), **changes)  # type: ignore[arg-type]


def test_every_frame_has_it_and_is_otherwise_the_same(tmp_path: Path) -> None:
    """The decoder's reference frames must not be written on."""
    path = make_clip(tmp_path / "clip.mp4", frames=20, width=128, height=96, gop=20, b_frames=3).path
    marked, plain = plan_with(path, watermark()), plan_with(path, None)
    for plan in (marked, plain):
        assert plan.filters.overlay == (
            None if plan is plain else Overlay(watermark=watermark(), colour=SD_COLOUR)
        )
    untouched = [
        replace(plan, filters=replace(plan.filters, enhancement=(), pre_roll_frames=0, post_roll_frames=0))
        for plan in (marked, plain)
    ]
    shown = []
    for plan in untouched:
        with opened(path) as fd:
            shown.append([read_plane(f.picture, 0).copy() for f in filtered_frames(plan, plan.segments, fd)])
    for with_it, without in zip(*shown, strict=True):
        assert not np.array_equal(with_it[8:19, 14:27], without[8:19, 14:27])
        with_it[8:19, 10:27] = without[8:19, 10:27]
        assert np.array_equal(with_it, without)


#: what players take a small video that tells nothing for
SD_COLOUR = Colour(primaries=2, transfer=2, matrix=6, range=0)


@pytest.mark.slow
def test_it_does_not_depend_on_cuts_and_is_in_all_streams(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=45, width=128, height=96, gop=15).path
    streams = [StreamInfo(stream_id=k, intent=StreamIntent(k)) for k in range(4)]
    plan = plan_with(path, watermark(), streams=streams, segment_seconds=Fraction(1, 2))
    together = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert [done.sha256 for done in together] == [done.sha256 for done in alone]
    whole = filtered_hashes(path, plan, plan.segments)
    assert whole == [entry for segment in plan.segments for entry in filtered_hashes(path, plan, [segment])]


def test_its_place_counts_in_the_picture_that_is_left_after_zoom(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3, width=128, height=96).path
    mark = watermark(np.full((4, 4, 4), 255), x=60, y=44)
    setting = ModeSetting(zoom_ratio=2.0, watermark=mark)
    plan = plan_file(path, setting=setting)
    with opened(path) as fd:
        frame = next(filtered_frames(plan, plan.segments, fd)).picture
    assert (frame.width, frame.height) == (64, 48)
    assert (read_plane(frame, 0)[44:, 60:] == 235).all()
    with pytest.raises(MediaFault, match="outside the picture of 64x48"):
        plan_file(path, setting=replace(setting, watermark=replace(mark, x=64)))


def test_a_path_in_the_file_is_named_and_never_opened(tmp_path: Path) -> None:
    image = tmp_path / "mark.png"
    image.write_bytes(png_of(picture()))
    metadata = {"com.openharmony.water_mark_info": f'{{"IMAGE_PATH": "{image}", "ROTATION": 0}}'}
    path = make_clip(tmp_path / "clip.mp4", frames=3, metadata=metadata).path
    assert probe_file(path).names_watermark
    plan = plan_file(path)
    assert plan.filters.overlay is None
    assert [lost.what for lost in plan.not_kept].count(Loss.EXTERNAL_REFERENCE) == 1
    assert str(image) not in repr(plan.not_kept)


# -- bad input


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"x": 96}, "outside"),
        ({"y": -11}, "outside"),
        ({"rotation_degrees": 45}, "right angles"),
        ({"scale_factor": 0.0}, "scale factor"),
        ({"scale_factor": float("nan")}, "scale factor"),
        ({"scale_factor": float("inf")}, "scale factor"),
        ({"scale_factor": 1e9}, "it may have"),
        ({"width": 1 << 30}, "it may have"),
        ({"image": b""}, "0 bytes"),
        ({"image": b"GIF89a"}, "no PNG"),
    ],
)
def test_what_cannot_be_made_is_refused(changes: dict[str, object], why: str) -> None:
    mark = watermark(**changes)
    with pytest.raises(MediaFault, match=why) as caught:
        plan_overlay(mark, Rect(x=0, y=0, width=96, height=64), video_of("yuv420p", SDR), SDR)
    assert caught.value.reason == "BAD_WATERMARK"


def test_packed_pixels_are_refused() -> None:
    with pytest.raises(MediaFault, match="rgb24"):
        plan_overlay(watermark(), Rect(x=0, y=0, width=96, height=64), video_of("rgb24", SDR), SDR)


def test_an_image_is_looked_at() -> None:
    image = png_of(picture())
    assert check_image(WatermarkTask(image=image)) == WatermarkInfo(width=17, height=11)
    assert np.array_equal(decode_image(image).to_ndarray(), picture())


@pytest.mark.parametrize("name", ["truncated", "too many bytes", "a bomb", "a playlist", "a video"])
def test_hostile_images(name: str, clips: Path) -> None:
    image = png_of(picture())
    header = bytearray(image)
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    made = {
        "truncated": image[: len(image) // 2],
        "too many bytes": image + bytes(MAX_IMAGE_BYTES),
        "a bomb": bytes(header),
        "a playlist": b"#EXTM3U\n/etc/passwd\n",
        "a video": (clips / "rot90_iphone_3f.mov").read_bytes()[:1000],
    }
    with pytest.raises(MediaFault, match="BAD_WATERMARK"):
        check_image(WatermarkTask(image=made[name]))


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
    st.sampled_from((0, 1)),
)
def test_a_broken_image_is_refused_or_taken_and_nothing_else(edits: list[tuple[int, int]], kind: int) -> None:
    image = bytearray((png_of(picture()), _JPEG)[kind])
    for at, value in edits:
        image[at % len(image)] = value
    try:
        info = check_image(WatermarkTask(image=bytes(image)))
    except MediaFault as fault:
        reason = fault.reason
    else:
        reason = "" if info.width * info.height <= 16 * 1024 * 1024 else "too large"
    assert reason in {"", "BAD_WATERMARK"}


def _jpeg() -> bytes:
    from av.codec.context import CodecContext
    from av.video.codeccontext import VideoCodecContext

    context = CodecContext.create("mjpeg", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = 17, 11, "yuvj420p", Fraction(1)
    frame = draw_frame(0, 64, 48).reformat(17, 11, "yuvj420p")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


_JPEG = _jpeg()


def test_bytes_of_the_plan_are_those_of_the_picture(tmp_path: Path) -> None:
    """A segment can be made anywhere: the plan has the picture itself."""
    path = make_clip(tmp_path / "clip.mp4", frames=3, width=128, height=96).path
    overlay = plan_with(path, watermark()).filters.overlay
    assert overlay is not None
    assert hashlib.sha256(overlay.watermark.image).digest() == hashlib.sha256(png_of(picture())).digest()
