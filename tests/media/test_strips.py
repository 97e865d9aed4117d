"""A strip shows the same of source and result beside each other, as a person looks at it; the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from media_factory import make_clip
from media_tasks import encode, opened, plan_file, probe_file
from videoprocess_server.media.strips import DETAIL, LINE, OVERVIEW, WIDTH, write_strip
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, StreamInfo
from videoprocess_server.model.tasks import StripTask

HALF_SECOND = Fraction(1, 2)
VIDEO = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO)
COVER = StreamInfo(stream_id=2, intent=StreamIntent.STILL_CAPTURE)
THUMBNAILS = StreamInfo(stream_id=3, intent=StreamIntent.POST_VIEW)
CLEAN = NoiseEstimate(sigma_y=0.1, sigma_u=0.1, sigma_v=0.1, frame_count=3)
NOISY = NoiseEstimate(sigma_y=12.0, sigma_u=12.0, sigma_v=12.0, frame_count=3)
RIGHT = slice(OVERVIEW[0] + DETAIL[0] + LINE, OVERVIEW[0] + 2 * DETAIL[0] + LINE)
LEFT = slice(OVERVIEW[0], OVERVIEW[0] + DETAIL[0])

Picture = NDArray[Any]


def _strip(
    path: Path,
    folder: Path,
    *,
    setting: ModeSetting | None = None,
    streams: Sequence[StreamInfo] = (VIDEO,),
    noise: NoiseEstimate = CLEAN,
    enhance_from_us: int = 0,
) -> bytes:
    plan = plan_file(
        path,
        setting=setting,
        streams=streams,
        noise=noise,
        segment_seconds=HALF_SECOND,
        enhance_from_us=enhance_from_us,
    )
    done = encode(path, plan, plan.segments, folder)
    output = folder / "strip.jpg"
    task = StripTask(
        video=probe_file(path).video,
        plan=plan,
        segment_paths=tuple(each.path for each in done),
        output_path=str(output),
    )
    with opened(path) as fd:
        result = write_strip(task, fd, lambda _: None)
    assert result.file.size_bytes == output.stat().st_size
    return output.read_bytes()


def _rows(data: bytes) -> list[Picture]:
    """The rows of a strip, as red, green and blue."""
    with av.open(io.BytesIO(data), format="jpeg_pipe") as container:
        (frame,) = container.decode(video=0)
    picture = frame.to_ndarray(format="rgb24").astype(np.int64)
    assert picture.shape[1] == WIDTH
    height = DETAIL[1]
    return [picture[top : top + height] for top in range(0, picture.shape[0], height + LINE)]


def _difference(row: Picture) -> float:
    return float(np.abs(row[:, LEFT] - row[:, RIGHT]).mean())


@pytest.mark.slow
def test_three_frames_of_source_and_result(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=24, gop=12, width=640, height=360, crf=5).path
    rows = _rows(_strip(path, tmp_path / "s"))
    assert len(rows) == 3
    for row in rows:
        assert row.shape == (270, WIDTH, 3)
        assert _difference(row) < 6
        assert _difference(np.roll(row, 7, axis=0)) == _difference(row)
    assert np.abs(rows[0] - rows[2]).mean() > 5  # the texture has moved


@pytest.mark.slow
def test_noise_is_seen_on_the_left_alone(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "clip.mp4", frames=30, gop=15, width=640, height=360, crf=5, noise_sigma=12
    ).path
    for row in _rows(_strip(path, tmp_path / "s", noise=NOISY)):
        rough = [float(np.abs(np.diff(row[:, part, 1], axis=1)).mean()) for part in (LEFT, RIGHT)]
        assert rough[0] > 2 * rough[1]


@pytest.mark.slow
def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=45, gop=15, noise_sigma=8).path
    one, two = (_strip(path, tmp_path / run, noise=NOISY) for run in ("one", "two"))
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("streams", [(VIDEO,), (COVER, THUMBNAILS)], ids=["video", "stills"])
@pytest.mark.parametrize(
    "setting",
    [ModeSetting(mirror=True), ModeSetting(orientation_degrees=90), ModeSetting(zoom_ratio=2.0)],
    ids=["mirror", "turned", "zoom"],
)
def test_both_are_turned_mirrored_and_cut_alike(
    tmp_path: Path, setting: ModeSetting, streams: tuple[StreamInfo, ...]
) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=30, gop=15, width=640, height=360, crf=5).path
    plain = _rows(_strip(path, tmp_path / "plain", streams=streams))
    rows = _rows(_strip(path, tmp_path / "s", setting=setting, streams=streams))
    for row, other in zip(rows, plain, strict=True):
        assert _difference(row) < 6
        assert float(np.abs(row - other).mean()) > 6


@pytest.mark.slow
def test_rotation_of_the_source_is_applied(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mov", frames=30, gop=15, width=640, height=360, rotation=90, crf=5).path
    (row, *_) = _rows(_strip(path, tmp_path / "s"))
    assert (row[:, : OVERVIEW[0]].max(axis=(0, 2)) > 20).mean() < 0.75  # it stands, with black beside
    assert _difference(row) < 6


@pytest.mark.slow
def test_another_size_shows_the_same_scene(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=30, gop=15, width=640, height=360, crf=5).path
    streams = [StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, width=1280, height=720)]
    for row in _rows(_strip(path, tmp_path / "s", streams=streams)):
        assert _difference(row) < 6


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(10, 10), (60, 60)])
def test_of_another_frame_rate_the_same_moments_are_shown(tmp_path: Path, rates: tuple[int, int]) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=24, gop=12, width=640, height=360, crf=5, movement=12).path
    setting = ModeSetting(frame_rate_range=FrameRateRange(min_fps=rates[0], max_fps=rates[1]))
    for row in _rows(_strip(path, tmp_path / "s", setting=setting)):
        assert _difference(row) < 6


def test_a_single_frame_is_one_row(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=1, width=64, height=48).path
    assert len(_rows(_strip(path, tmp_path / "s"))) == 1


@pytest.mark.slow
def test_it_shows_what_was_enhanced(tmp_path: Path) -> None:
    """Of what was carried over there is nothing to see, so all three rows are of the second half."""
    path = make_clip(
        tmp_path / "clip.mp4", frames=60, gop=15, width=640, height=360, crf=5, noise_sigma=12
    ).path
    for row in _rows(_strip(path, tmp_path / "s", enhance_from_us=1_000_000, noise=NOISY)):
        rough = [float(np.abs(np.diff(row[:, part, 1], axis=1)).mean()) for part in (LEFT, RIGHT)]
        assert rough[0] > 2 * rough[1]


@pytest.mark.slow
def test_hdr_is_shown_as_stills_show_it(clips: Path, tmp_path: Path) -> None:
    for row in _rows(_strip(clips / "android14_hlg_main10_1080p.mp4", tmp_path / "s")):
        assert _difference(row) < 8
        assert 40 < row[:, LEFT].mean() < 220
