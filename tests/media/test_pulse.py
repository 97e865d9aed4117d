from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from media_factory import make_clip
from media_tasks import opened, plan_file, probe_file
from videoprocess_server.media import pulse as pulse_module
from videoprocess_server.media.noise import analyze
from videoprocess_server.media.pulse import Pulse, sha256_of
from videoprocess_server.model.noise import noise_of
from videoprocess_server.model.tasks import AnalyzeTask, Progress, TaskMessage


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def told() -> list[TaskMessage]:
    return []


def test_counts_are_told_twice_a_second(told: list[TaskMessage]) -> None:
    clock = Clock()
    pulse = Pulse(told.append, clock)
    for frames in range(1, 13):
        clock.now += 0.125
        pulse.beat(frames=frames, size=10)
    assert told == [
        Progress(frames=4, bytes=40),
        Progress(frames=8, bytes=80),
        Progress(frames=12, bytes=120),
    ]


def test_bytes_add_up_and_frames_stay(told: list[TaskMessage]) -> None:
    clock = Clock()
    pulse = Pulse(told.append, clock)
    pulse.beat(frames=7)
    clock.now += 1
    pulse.beat(size=5)
    assert told == [Progress(frames=7, bytes=5)]


def test_analysis_and_planning_tell_what_they_have_done(
    told: list[TaskMessage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse_module, "PULSE_SECONDS", 0)
    path = make_clip(tmp_path / "clip.mp4", frames=40, gop=8).path
    plan = plan_file(path, emit=told.append)
    assert [message.frames for message in told if isinstance(message, Progress)] == list(range(1, 41))
    told.clear()
    with opened(path) as fd:
        found = noise_of([analyze(AnalyzeTask(video=probe_file(path).video), fd, told.append)])
    frames = [message.frames for message in told if isinstance(message, Progress)]
    assert frames == list(range(1, len(frames) + 1))
    assert len(frames) >= found.frame_count > 0
    assert plan.frame_count == 40


def test_a_files_digest_is_told_as_it_is_read(told: list[TaskMessage]) -> None:
    data = bytes(range(256)) * 10_000
    clock = Clock()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            clock.now += 1
            return super().read(size)

    assert sha256_of(Slow(data), Pulse(told.append, clock)) == hashlib.sha256(data).hexdigest()
    assert told == [Progress(frames=0, bytes=size) for size in (1 << 20, 2 << 20, len(data))]
