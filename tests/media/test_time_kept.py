"""Every frame of a result is shown when the source shows it, to the tick, and is the frame that the source shows then."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest

from field_pairs import make_field_pairs
from frame_pictures import frame_number
from joining import joined
from media_factory import make_clip, read_frame_numbers
from media_tasks import encode, plan_file
from videoprocess_server.model.losses import Loss

#: small, and yet large enough for a readable frame number
SMALL: dict[str, Any] = {"width": 128, "height": 96}
HALF_SECOND = Fraction(1, 2)


def _cut(source: Path, path: Path, seconds: float, *options: str) -> Path:
    """What `ffmpeg -ss … -c copy` makes: the file begins at a key frame before, or tells no time of what lies before."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-ss", str(seconds), "-i", str(source)]
    subprocess.run([*command, "-c", "copy", *options, str(path)], check=True, timeout=60)
    return path


def _open_gop(codec: str, suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return make_clip(
            folder / f"clip{suffix}", **SMALL, frames=60, gop=15, b_frames=3, open_gop=True, codec=codec
        ).path

    return make


def _begins_within_a_gop(codec: str, suffix: str, *options: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return _cut(_open_gop(codec, ".mp4")(folder), folder / f"cut{suffix}", 0.8, *options)

    return make


def _at_rate(fps: Fraction, frames: int, suffix: str = ".mp4") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return make_clip(folder / f"clip{suffix}", **SMALL, frames=frames, fps=fps, gop=frames // 3).path

    return make


def _with_pts(pts: list[int], time_base: Fraction, suffix: str = ".mp4") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return make_clip(folder / f"clip{suffix}", **SMALL, pts=pts, time_base=time_base, gop=10).path

    return make


def _starting(start_pts: int, suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return make_clip(folder / f"clip{suffix}", **SMALL, frames=45, gop=15, start_pts=start_pts).path

    return make


def _one_gop(folder: Path) -> Path:
    return make_clip(folder / "clip.mp4", width=64, height=48, frames=300, gop=1000, b_frames=3).path


def _hidden(folder: Path) -> Path:
    return make_clip(folder / "clip.mov", **SMALL, frames=60, gop=20, hidden_frames=7).path


_GAPS = [*range(0, 900, 30), *range(300 * 600, 300 * 600 + 600, 20), 1200 * 600, 1200 * 600 + 1]
_VARYING = [k * 20 + (k * k * 7) % 19 for k in range(60)]

SOURCES: dict[str, Callable[[Path], Path]] = {
    "open GOPs, H.264, MP4": _open_gop("libx264", ".mp4"),
    "open GOPs, H.264, MKV": _open_gop("libx264", ".mkv"),
    "open GOPs, H.265, MOV": _open_gop("libx265", ".mov"),
    "open GOPs, H.265, MKV": _open_gop("libx265", ".mkv"),
    "H.264 cut within a GOP, MP4": _begins_within_a_gop("libx264", ".mp4"),
    "H.264 cut within a GOP, MKV": _begins_within_a_gop("libx264", ".mkv"),
    "H.265 cut within a GOP, MOV": _begins_within_a_gop("libx265", ".mov"),
    "H.265 cut within a GOP, MKV": _begins_within_a_gop("libx265", ".mkv"),
    "frames before 0, H.264, MKV": _begins_within_a_gop("libx264", ".mkv", "-avoid_negative_ts", "disabled"),
    "frames before 0, H.265, MKV": _begins_within_a_gop("libx265", ".mkv", "-avoid_negative_ts", "disabled"),
    "an edit list that begins within a GOP": _hidden,
    "late, MP4": _starting(100, ".mp4"),
    "late, MKV": _starting(100, ".mkv"),
    "gaps of minutes, MP4": _with_pts(_GAPS, Fraction(1, 600)),
    "gaps of minutes, MKV": _with_pts([k * 5 // 3 for k in _GAPS[:-1]], Fraction(1, 1000), ".mkv"),
    "no two frames equally long": _with_pts(_VARYING, Fraction(1, 600), ".mov"),
    "7 a second": _at_rate(Fraction(7), 30),
    "120000/1001 a second": _at_rate(Fraction(120_000, 1001), 90),
    "240 a second": _at_rate(Fraction(240), 150, ".mov"),
    "one GOP of ten seconds": _one_gop,
}


def _shown(path: Path) -> list[tuple[Fraction, int]]:
    """Time and number of the frames that have a time."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (frame.pts * frame.time_base, frame_number(frame))
            for frame in container.decode(stream)
            if frame.pts is not None and frame.time_base is not None
        ]


def _untimed_count(path: Path) -> int:
    """Packets without a time."""
    with av.open(str(path)) as container:
        return sum(packet.pts is None for packet in container.demux(video=0) if packet.size)


def _times_elsewhere(path: Path) -> list[Fraction]:
    """The times at which the independent ffmpeg program shows pictures."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-copyts", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    base = next(Fraction(line.split()[2]) for line in said if line.startswith("#tb 0:"))
    return [int(line.split(",")[2]) * base for line in said if not line.startswith("#")]


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_times_and_frames_of_the_result(make: Callable[[Path], Path], tmp_path: Path) -> None:
    source = make(tmp_path)
    expected = _shown(source)
    if not _untimed_count(source):  # for which ffmpeg makes times up
        assert _times_elsewhere(source) == [time for time, _ in expected]
    result = joined(source, tmp_path / "made").path
    assert read_frame_numbers(result) == expected
    assert _times_elsewhere(result) == [time for time, _ in expected]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_frames_that_have_no_time_are_named(codec: str, tmp_path: Path) -> None:
    source = _begins_within_a_gop(codec, ".mkv", "-avoid_negative_ts", "disabled")(tmp_path)
    untimed = _untimed_count(source)
    plan = plan_file(source, segment_seconds=HALF_SECOND)
    assert untimed
    assert [(lost.what, lost.count) for lost in plan.not_kept] == [(Loss.UNTIMED_FRAMES, untimed)]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_two_packets_a_frame(suffix: str, tmp_path: Path) -> None:
    """Each field of a frame is a packet of its own, with a time at which no frame is shown (PAFF)."""
    source = make_field_pairs(tmp_path / f"clip{suffix}")
    with av.open(str(source)) as container:
        assert sum(1 for packet in container.demux(video=0) if packet.size) == 60
    expected = _shown(source)
    assert len(expected) == 30
    plan = plan_file(source, segment_seconds=HALF_SECOND)
    assert (plan.source_frame_count, len(plan.segments)) == (30, 2)
    together = encode(source, plan, plan.segments, tmp_path / "together")
    alone = [encode(source, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert [done.sha256 for done in together] == [done.sha256 for done in alone]
    assert [shown for done in together for shown in read_frame_numbers(Path(done.path))] == expected
