from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
import typer
from rich.console import Console

from videoprocess.v1.job_pb2 import JOB_PHASE_ENHANCE, BlockReason, JobPhase, JobProgress
from videoprocess.v1.report_pb2 import FrameCounts, ProcessReport
from videoprocess_client import directory, stream
from videoprocess_client.cli.options import (
    check_target,
    parse_point,
    parse_rates,
    parse_seconds,
    parse_shared,
    parse_size,
)
from videoprocess_client.cli.progress import display
from videoprocess_client.cli.stream_options import parse_stream, publication_of
from videoprocess_client.cli.stream_settings import Publication, StreamSpec
from videoprocess_client.cli.texts import blocked, clock, megabytes, report_lines
from videoprocess_client.cli.video_texts import STATE_WIDTH
from videoprocess_client.enhancement import EnhanceProgress
from videoprocess_client.enums import EncodeType, StreamIntent
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
        (parse_point, "1"),
        (parse_point, "1.5,2"),
        (parse_stream, "film"),
        (parse_stream, "video:h266"),
        (parse_stream, "video:640x360:h264"),
        (parse_stream, "video:h264:640x360:1"),
        (parse_stream, ""),
    ],
)
def test_malformed_values_are_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse(text)


def test_streams_are_read_and_told() -> None:
    for text in (
        "video",
        "preview:h264:320x180",
        "still-capture:jpeg",
        "post-view:160x90",
        "analyze",
        "custom",
    ):
        assert parse_stream(text).describe() == text
    assert parse_stream("VIDEO:H265") == StreamSpec(intent=StreamIntent.VIDEO, encode_type=EncodeType.H265)


@pytest.mark.parametrize(
    ("place", "name", "over"),
    [("", None, False), (":a", None, False), (None, "a", False), (None, None, True)],
)
def test_what_is_no_place_to_publish_is_refused(place: str | None, name: str | None, over: bool) -> None:
    with pytest.raises(typer.BadParameter):
        publication_of(place, name, over=over)


def test_a_stream_may_have_a_directory() -> None:
    plain, published = stream(1), stream(1, directory=directory("out", "trip", replace_existing=True))
    assert not plain.v1_0.HasField("buffer_queue")
    target = published.v1_0.buffer_queue.directory
    assert (target.root, target.path, target.name_template, target.replace_existing) == (
        "out",
        "trip",
        "",
        True,
    )


def test_values_are_read() -> None:
    assert publication_of(None, None, over=False) is None
    assert publication_of("out", None, over=False) == Publication(root="out")
    for text in ("out:a/b:c", "out/a/b:c"):
        assert publication_of(text, "{ext}", over=True) == Publication(
            root="out", path="a/b:c", name_template="{ext}", replace_existing=True
        )
    assert (parse_point("16,-4"), parse_point("0,0")) == ((16, -4), (0, 0))
    assert parse_size("640x360") == (640, 360)
    assert (parse_rates("24-30"), parse_rates("30")) == ((24, 30), (30, 30))
    paths = [parse_shared(text).shared_path for text in ("media:a/b:c.mp4", "media/a/b:c.mp4")]
    assert [(path.root, path.path) for path in paths] == [("media", "a/b:c.mp4")] * 2


def test_figures_are_readable() -> None:
    assert [megabytes(size) for size in (12, 1500, 2_000_000)] == ["12 B", "1.5 kB", "2.0 MB"]
    assert [clock(7), clock(3601)] == ["0:07", "1:00:01"]


def test_everything_that_holds_work_back_has_words_that_fit() -> None:
    names = {short_name(BlockReason.DESCRIPTOR, number) for number in BlockReason.values() if number}
    assert {name for name in names if blocked(name) == name.lower().replace("_", " ")} == {"QUIET_HOURS"}
    assert max(len(f"queued ({blocked(name)})") for name in names) == STATE_WIDTH


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("localhost:50051", True),
        ("[::1]:1", True),
        ("dns:///a.b:65535", True),
        ("unix:/run/a", True),
        ("localhost", False),
        ("localhost:0", False),
        ("localhost:65536", False),
        ("::1:50", False),
        (":50", False),
        ("a b:50", False),
        ("a:1,b:2", True),
        ("grpcs://a:1,[::1]:2", True),
        ("a:1,b", False),
        ("a:1,", False),
    ],
)
def test_an_address_has_a_port_that_can_be(text: str, good: bool) -> None:
    if good:
        assert check_target(text) == text
    else:
        with pytest.raises(typer.BadParameter, match="not HOST:PORT"):
            check_target(text)


def test_the_bar_keeps_its_width() -> None:
    """Whatever the words and figures beside it are."""
    widths = set()
    for percent, frames, blocked_by in ((0, 1, ""), (42.5, 123456, ""), (99.9, 7, "RETRY_BACKOFF")):
        console = Console(file=io.StringIO(), force_terminal=True, width=100, markup=False, color_system=None)
        job = JobProgress(
            percent=percent, frames_done=frames, frames_total=frames, fps=frames, phase=JOB_PHASE_ENHANCE
        )
        with display(console) as shown:
            shown.update(EnhanceProgress("process", "v", job=job, blocked_by=blocked_by))
        assert isinstance(console.file, io.StringIO)
        lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", console.file.getvalue()))
        widths.add(
            max(
                line.count("\N{BOX DRAWINGS HEAVY HORIZONTAL}") + line.count("╸") + line.count("╺")
                for line in lines
            )
        )
    assert len(widths) == 1
    assert widths.pop() > 20


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


@pytest.mark.parametrize(("made_up", "told"), [(0, "0 dropped)"), (29, "0 dropped, 29 made up)")])
def test_frames_that_are_made_up_are_told_where_there_are_any(made_up: int, told: str) -> None:
    frames = FrameCounts(source=30, encoded=30 + made_up, interpolated=made_up)
    (line, *_) = report_lines(ProcessReport(frames=frames), 3, 3)
    assert line.endswith(told)
