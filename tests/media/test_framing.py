"""A picture that is mirrored, and one that is turned otherwise than its source, as another program shows them."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

from iso_files import movie_of
from joining import Joined, joined, losses_of, verified
from media_factory import make_clip
from media_tasks import encode, filtered_hashes, plan_file, probe_file
from videoprocess_server.media.orientation import before_movie_matrix, turned_matrix
from videoprocess_server.media.stills import write_stills
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting, Rect, StreamInfo, Watermark
from videoprocess_server.model.tasks import StillsTask

ONE = 1 << 16
CLEAN = NoiseEstimate(sigma_y=0.0, sigma_u=0.0, sigma_v=0.0, frame_count=3)
#: a, b, c, d of a display matrix → what it shows of the picture as it is coded
SHOWN: dict[tuple[int, int, int, int], Any] = {
    (1, 0, 0, 1): lambda picture: picture,
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),
    (-1, 0, 0, -1): lambda picture: np.rot90(picture, 2),
    (0, -1, 1, 0): np.rot90,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): np.transpose,
    (0, -1, -1, 0): lambda picture: np.rot90(np.transpose(picture), 2),
}
#: those that tell whether lines become columns, and one that mirrors, are tried every day
TURNS = [
    turn
    if turn in {(1, 0, 0, 1), (0, 1, -1, 0), (0, 1, 1, 0)}
    else pytest.param(turn, marks=pytest.mark.slow)
    for turn in SHOWN
]


def shown(path: Path) -> np.ndarray[Any, Any]:
    """Luma of the first frame as the ffmpeg program shows it: turned as the file says."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-frames:v", "1"]
    command += ["-pix_fmt", "gray", "-f", "image2pipe", "-c:v", "pgm", "-"]
    pgm = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    _, size, _, samples = pgm.split(b"\n", 3)
    width, height = map(int, size.split())
    return np.frombuffer(samples, np.uint8).reshape(height, width).astype(np.int32)


def difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Mean absolute difference of code values."""
    assert one.shape == other.shape
    return float(np.abs(one - other).mean())


def with_matrix(source: Path, path: Path, matrix: tuple[int, ...] | None, movie: bytes = b"") -> Path:
    """A copy whose track's matrix is another; `movie` replaces the one of the whole movie."""
    data = bytearray(source.read_bytes())
    tkhd, mvhd = data.index(b"tkhd"), data.index(b"mvhd")
    if matrix is not None:
        data[tkhd + 44 : tkhd + 80] = b"".join(number.to_bytes(4, "big", signed=True) for number in matrix)
    if movie:
        data[mvhd + 40 : mvhd + 76] = movie
    path.write_bytes(data)
    return path


def matrix_for(turn: tuple[int, int, int, int]) -> tuple[int, ...]:
    a, b, c, d = (number * ONE for number in turn)
    return (a, b, 0, c, d, 0, 0, 0, 1 << 30)


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(folder / "clip.mp4", width=128, height=96, frames=12, gop=4).path


def made_of(source: Path, folder: Path, **asked: Any) -> Joined:
    made = joined(source, folder, Fraction(1, 10), noise=CLEAN, **asked)
    assert verified(made).frame_count == made.plan.frame_count
    return made


# mirrored


@pytest.mark.parametrize("turn", TURNS)
def test_what_is_shown_is_mirrored_left_to_right_however_it_is_turned(
    turn: tuple[int, int, int, int], clip: Path, tmp_path: Path
) -> None:
    source = with_matrix(clip, tmp_path / "source.mp4", matrix_for(turn))
    made = made_of(source, tmp_path, setting=ModeSetting(mirror=True))
    before, after = shown(source), shown(made.path)
    assert difference(before, after) > 5  # the clip is not symmetric
    assert difference(np.fliplr(before), after) < 2
    assert movie_of(made.path).tracks[0].matrix == matrix_for(turn)
    assert losses_of(made) == set()


def test_a_frame_that_is_carried_over_is_mirrored_too(clip: Path, tmp_path: Path) -> None:
    made = made_of(clip, tmp_path, setting=ModeSetting(mirror=True), enhance_from_us=200_000)
    assert not made.plan.segments[0].enhanced
    assert difference(np.fliplr(shown(clip)), shown(made.path)) < 2


def test_the_region_is_cut_out_of_the_source_and_then_mirrored(clip: Path, tmp_path: Path) -> None:
    setting = ModeSetting(mirror=True, zoom_crop_region=Rect(x=8, y=4, width=64, height=48))
    stream = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, width=64, height=48)
    made = made_of(clip, tmp_path, setting=setting, streams=[stream])
    assert difference(np.fliplr(shown(clip)[4:52, 8:72]), shown(made.path)) < 2


@pytest.mark.parametrize("turn", [(1, 0, 0, 1), (0, 1, -1, 0)])
def test_a_watermark_is_not_mirrored(turn: tuple[int, int, int, int], clip: Path, tmp_path: Path) -> None:
    """It lies where it is asked for in the coded picture, its left half black and its right half white."""
    halves = np.zeros((16, 32, 3), np.uint8)
    halves[:, 16:] = 255
    with av.open(str(tmp_path / "mark.png"), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(halves)), *stream.encode()]:
            out.mux(packet)
    mark = Watermark(
        image=(tmp_path / "mark.png").read_bytes(),
        scale_factor=1.0,
        rotation_degrees=0,
        x=8,
        y=4,
        width=32,
        height=16,
    )
    source = with_matrix(clip, tmp_path / "source.mp4", matrix_for(turn))
    made = made_of(source, tmp_path, setting=ModeSetting(mirror=True, watermark=mark))
    with av.open(str(made.path)) as result:
        coded = next(result.decode(video=0)).to_ndarray(format="gray")
    assert coded[6:18, 10:22].mean() < 40
    assert coded[6:18, 26:38].mean() > 200


def test_stills_are_mirrored(clip: Path, tmp_path: Path) -> None:
    source = with_matrix(clip, tmp_path / "source.mp4", matrix_for((0, 1, -1, 0)))
    pictures = []
    for mirror in (False, True):
        stream = StreamInfo(stream_id=1, intent=StreamIntent.STILL_CAPTURE)
        plan = plan_file(source, setting=ModeSetting(mirror=mirror), streams=[stream], noise=CLEAN)
        folder = tmp_path / str(mirror)
        segments = encode(source, plan, plan.segments, folder)
        task = StillsTask(
            plan=plan,
            rendition_index=0,
            segment_paths=tuple(segment.path for segment in segments),
            output_paths=(str(folder / "cover.jpg"),),
        )
        write_stills(task, lambda message: None)
        pictures.append(shown(folder / "cover.jpg"))
    assert pictures[0].shape == (128, 96)
    assert difference(np.fliplr(pictures[0]), pictures[1]) < 2


def test_pixels_of_a_mirrored_picture_do_not_depend_on_the_run(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", width=128, height=96, frames=36, gop=12).path
    plan = plan_file(path, setting=ModeSetting(mirror=True), segment_seconds=Fraction(1, 4))
    assert len(plan.segments) > 1
    alone = [entry for segment in plan.segments for entry in filtered_hashes(path, plan, [segment])]
    assert filtered_hashes(path, plan, plan.segments) == alone


# turned


@pytest.mark.parametrize(
    ("name", "degrees"),
    [
        ("clip.mp4", 90),
        ("clip.mkv", 270),
        *[
            pytest.param(name, degrees, marks=pytest.mark.slow)
            for name in ("clip.mp4", "clip.mov", "clip.3gp", "clip.mkv")
            for degrees in (0, 90, 180, 270)
        ],
    ],
)
def test_the_result_is_turned_as_asked(name: str, degrees: int, tmp_path: Path) -> None:
    """A Matroska file with sound that no MP4 player takes stays one."""
    sound = "pcm_s16le" if name.endswith("mkv") else "aac"
    clip = make_clip(tmp_path / name, width=128, height=96, frames=6, gop=6, audio=sound)
    made = made_of(clip.path, tmp_path, setting=ModeSetting(orientation_degrees=degrees))
    assert made.path.suffix == Path(name).suffix
    expected = np.rot90(shown(clip.path), -degrees // 90)
    assert difference(expected, shown(made.path)) < 2
    assert losses_of(made) <= losses_of(made_of(clip.path, tmp_path / "plain"))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("degrees", [0, pytest.param(90, marks=pytest.mark.slow)])
def test_it_takes_the_place_of_the_sources_turn_and_mirror(
    turn: tuple[int, int, int, int], degrees: int, clip: Path, tmp_path: Path
) -> None:
    source = with_matrix(clip, tmp_path / "source.mp4", matrix_for(turn))
    assert difference(SHOWN[turn](shown(clip)), shown(source)) < 1
    made = made_of(source, tmp_path, setting=ModeSetting(orientation_degrees=degrees))
    assert difference(np.rot90(shown(clip), -degrees // 90), shown(made.path)) < 2


def test_a_source_that_is_turned_so_already_keeps_its_matrix(clips: Path, tmp_path: Path) -> None:
    source = clips / "rot90_iphone_3f.mov"
    made = made_of(source, tmp_path, setting=ModeSetting(orientation_degrees=90))
    assert movie_of(made.path).tracks[0].matrix == movie_of(source).tracks[0].matrix


def test_a_smaller_picture_is_moved_by_its_own_height(clip: Path, tmp_path: Path) -> None:
    stream = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, width=64, height=48)
    made = made_of(clip, tmp_path, setting=ModeSetting(orientation_degrees=90), streams=[stream])
    assert movie_of(made.path).tracks[0].matrix == (0, ONE, 0, -ONE, 0, 0, 48 * ONE, 0, 1 << 30)


@pytest.mark.parametrize(
    ("turn", "degrees"),
    [
        ((0, 1, -1, 0), 90),
        *[
            pytest.param(turn, degrees, marks=pytest.mark.slow)
            for turn in ((0, 1, -1, 0), (-1, 0, 0, 1))
            for degrees in (0, 90, 180, 270)
        ],
    ],
)
def test_a_movie_that_is_turned_as_a_whole_is_undone(
    turn: tuple[int, int, int, int], degrees: int, clip: Path, tmp_path: Path
) -> None:
    whole = b"".join(number.to_bytes(4, "big", signed=True) for number in matrix_for(turn))
    source = with_matrix(clip, tmp_path / "source.mp4", None, whole)
    made = made_of(source, tmp_path, setting=ModeSetting(orientation_degrees=degrees))
    assert movie_of(made.path).header.matrix == matrix_for(turn)
    assert difference(np.rot90(shown(clip), -degrees // 90), shown(made.path)) < 2


def test_a_movie_that_is_turned_by_no_right_angle_cannot_be_undone() -> None:
    identity = matrix_for((1, 0, 0, 1))
    for scale in (0, ONE // 2, 2 * ONE):
        assert before_movie_matrix(identity, (scale, 0, 0, 0, scale, 0, 0, 0, 1 << 30)) is None


def test_a_mirrored_and_turned_picture_is_mirrored_as_it_is_shown(clip: Path, tmp_path: Path) -> None:
    made = made_of(clip, tmp_path, setting=ModeSetting(mirror=True, orientation_degrees=270))
    assert difference(np.fliplr(np.rot90(shown(clip))), shown(made.path)) < 2


def test_the_proxy_and_stills_are_turned_too(clip: Path, tmp_path: Path) -> None:
    setting = ModeSetting(orientation_degrees=90)
    proxy = StreamInfo(stream_id=1, intent=StreamIntent.PREVIEW, width=64, height=48)
    made = made_of(clip, tmp_path, setting=setting, streams=[proxy])
    assert shown(made.path).shape == (64, 48)
    still = StreamInfo(stream_id=1, intent=StreamIntent.STILL_CAPTURE)
    (rendition,) = plan_file(clip, setting=setting, streams=[still]).renditions
    assert (rendition.encoder.width, rendition.encoder.height) == (96, 128)


def test_a_result_that_is_turned_otherwise_than_planned_is_refused(clip: Path, tmp_path: Path) -> None:
    made = joined(clip, tmp_path, Fraction(1, 5), setting=ModeSetting(orientation_degrees=90))
    for turn in ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1)):
        other = with_matrix(made.path, tmp_path / "other.mp4", matrix_for(turn))
        with pytest.raises(Exception, match="display matrix"):
            verified(made, other.read_bytes())


def test_nothing_asked_keeps_the_very_matrix() -> None:
    odd = (7, 8, 9, 10, 11, 12, 13, 14, 15)
    assert turned_matrix(odd, None, (4, 2), moves=True) == odd
    assert turned_matrix(None, 0, (4, 2), moves=True) is None
    assert turned_matrix(odd, 0, (4, 2), moves=True) is None


# what tells of places in the picture


def test_a_mirrored_picture_loses_what_is_said_of_each_picture(clips: Path) -> None:
    source = clips / "iphone14pro_hlg_noaudio_opengop_rot90.mov"
    kept, mirrored = (
        plan_file(source, setting=ModeSetting(mirror=mirror), media=probe_file(source))
        for mirror in (False, True)
    )
    lost = {loss.what for loss in mirrored.not_kept} - {loss.what for loss in kept.not_kept}
    assert bool(kept.renditions[0].carried_length_size) == (Loss.HDR_METADATA in lost)
    assert mirrored.renditions[0].carried_length_size == 0
