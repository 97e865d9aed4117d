"""The maker track as a file of its own: a sample for each frame of the result, at its time, told by FFmpeg's reader."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from media_factory import make_clip
from media_tasks import SOME_NOISE, VIDEO_STREAM, opened, plan_file, probe_file
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.movie import read_movie
from videoprocess_server.media.maker_file import write_maker
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, StreamInfo
from videoprocess_server.model.tasks import MakerTask

MAKER = StreamInfo(stream_id=9, intent=StreamIntent.CUSTOM)
UNEVEN = (0, 10, 40, 90, 100, 180, 200, 300)


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", width=64, height=48, pts=UNEVEN, time_base=Fraction(1, 100)).path


def written(source: Path, plan: Plan, name: str = "maker.mp4") -> Path:
    path = source.with_name(name)
    with opened(source) as fd:
        made = write_maker(
            MakerTask(media=probe_file(source), plan=plan, output_path=str(path)), fd, lambda _: None
        )
    assert made.file.size_bytes == path.stat().st_size
    return path


def samples(path: Path) -> list[tuple[Fraction, dict[str, Any]]]:
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert stream.type == "data"
        return [
            ((packet.pts or 0) * packet.time_base, json.loads(bytes(packet)))
            for packet in container.demux(stream)
            if packet.size
        ]


def test_each_frame_of_an_uneven_rate_has_its_sample(source: Path) -> None:
    path = written(source, plan_file(source, streams=[MAKER]))
    told = samples(path)
    assert [time for time, _ in told] == [Fraction(pts, 100) for pts in UNEVEN]
    assert [line["enhanced"] for _, line in told] == [True] * len(UNEVEN)
    assert set(told[0][1]) == {"enhanced", "filters", "noise", "schema"}
    assert (told[0][1]["schema"], told[0][1]["noise"]["sigma_y"]) == (
        "videoprocess.maker/1",
        SOME_NOISE.sigma_y,
    )
    assert all(set(line) == {"enhanced"} for _, line in told[1:])
    with opened(path) as fd:
        (track,) = read_movie(fd).tracks
    assert track.sample_entries[0][4:8] == b"mett"
    assert b"com.openharmony.timed_metadata.vid_maker_info\0" in track.sample_entries[0]


def test_frames_before_the_begin_are_told_as_carried_over(source: Path) -> None:
    told = samples(written(source, plan_file(source, streams=[MAKER], enhance_from_us=900_000)))
    assert [line["enhanced"] for _, line in told] == [False] * 3 + [True] * 5


def test_beside_a_video_the_segments_are_told(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4", width=64, height=48, frames=48).path
    plan = plan_file(source, streams=[VIDEO_STREAM, MAKER], segment_seconds=Fraction(1, 2))
    told = [line["segment"] for _, line in samples(written(source, plan))]
    assert told == [segment.index for segment in plan.segments for _ in range(segment.frame_count)]
    assert told[-1] > 0


def test_frames_that_are_dropped_have_no_sample(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4", width=64, height=48, frames=24).path
    setting = ModeSetting(frame_rate_range=FrameRateRange(min_fps=1, max_fps=10))
    plan = plan_file(source, streams=[MAKER], setting=setting)
    assert [time for time, _ in samples(written(source, plan))] == [Fraction(k, 10) for k in range(8)]


def test_it_is_the_same_bytes_each_time(source: Path) -> None:
    plan = plan_file(source, streams=[MAKER])
    first, second = written(source, plan), written(source, plan, "again.mp4")
    assert first.read_bytes() == second.read_bytes()


def test_another_source_is_refused(source: Path) -> None:
    plan = replace(plan_file(source, streams=[MAKER]), pts_sha256="00")
    with pytest.raises(MediaFault, match="other frames"):
        written(source, plan)
