from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import typer
from rich.console import Console

from videoprocess.v1.job_pb2 import JOB_PHASE_ENHANCE, JobPhase, JobProgress
from videoprocess_client.cli.options import parse_rates, parse_seconds, parse_shared, parse_size
from videoprocess_client.cli.progress import display
from videoprocess_client.cli.texts import clock, megabytes
from videoprocess_client.enhancement import EnhanceProgress
from videoprocess_client.names import short_name


def test_seconds_are_exact_microseconds() -> None:
    assert [parse_seconds(text) for text in ("0", "1.5", ".1", "1.000001", "2.")] == [
        0,
        1_500_000,
        100_000,
        1_000_001,
        2_000_000,
    ]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_seconds, "-1"),
        (parse_seconds, "1e9"),
        (parse_seconds, "9" * 20),
        (parse_size, "0x1"),
        (parse_size, "640"),
        (parse_rates, "30-24"),
        (parse_rates, "0"),
        (parse_shared, "a"),
        (parse_shared, ":b"),
    ],
)
def test_malformed_values_are_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse(text)


def test_values_are_read() -> None:
    assert parse_size("640x360") == (640, 360)
    assert (parse_rates("24-30"), parse_rates("30")) == ((24, 30), (30, 30))
    path = parse_shared("media:a:b.mp4").shared_path
    assert (path.root, path.path) == ("media", "a:b.mp4")


def test_figures_are_readable() -> None:
    assert [megabytes(size) for size in (12, 1500, 2_000_000)] == ["12 B", "1.5 kB", "2.0 MB"]
    assert [clock(7), clock(3601)] == ["0:07", "1:00:01"]


def test_a_number_without_a_name_is_shown_as_it_is() -> None:
    assert (short_name(JobPhase.DESCRIPTOR, 4), short_name(JobPhase.DESCRIPTOR, 99)) == ("ENHANCE", "99")


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown(terminal: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=100, markup=False)
    job = JobProgress(percent=42, frames_done=21, frames_total=50, fps=12.5, phase=JOB_PHASE_ENHANCE)
    job.eta.FromSeconds(7)
    with display(console) as shown:
        shown.update(EnhanceProgress("upload", "v", 10, 100))
        shown.update(EnhanceProgress("upload", "v", 100, 100))
        shown.update(EnhanceProgress("process", "v", job=job))
    assert "42.0 %, 21/50 frames, 12.5 fps, 0:07 left" in written.getvalue()
    if not terminal:
        assert written.getvalue().splitlines()[:1] == ["upload: 10 % of 100 B"]
        assert len(written.getvalue().splitlines()) == 2
