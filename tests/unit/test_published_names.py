"""Names of files in shared roots: what templates become, and which are none."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.engine.published_names import published_names, template_fault
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.settings_snapshot import SharedDirectory, Snapshot, StreamInfo


@dataclass(frozen=True)
class File:
    stream_id: int
    intent: StreamIntent
    extension: str


def names(template: str, *files: File, source: str = "holiday.mp4") -> list[str | None]:
    directory = SharedDirectory(root="out", name_template=template)
    streams = tuple(
        StreamInfo(stream_id=file.stream_id, intent=file.intent, directory=directory) for file in files
    )
    return published_names(files, Snapshot(streams=streams), source, "0f")


VIDEO = File(4, StreamIntent.VIDEO, ".mp4")
STILL = File(-7, StreamIntent.STILL_CAPTURE, ".jpg")


@pytest.mark.parametrize(
    ("template", "source", "name"),
    [
        ("", "holiday.mp4", "holiday_video_4_0.mp4"),
        ("", "", "video_video_4_0.mp4"),
        ("{source}.{ext}", "a.b.mov", "a.b.mp4"),
        ("{source}.{ext}", ".hidden", "_hidden.mp4"),
        ("{source}.{ext}", "..mp4", "_.mp4"),
        ("{job_id}{job_id}", "", "0f0f"),
        ("..", "", "_."),
        (".", "", "_"),
        ("a b\n\tü\x1b[0m/"[:-1], "", "a_b_____0m"),
        ("{source}", "../../etc/passwd", "passwd"),
        ("{source}", "{ext}.mp4", "_ext_"),
        ("-rf", "", "-rf"),
    ],
)
def test_a_template_becomes_a_plain_name(template: str, source: str, name: str) -> None:
    assert template_fault(template) == ""
    assert names(template, VIDEO, source=source) == [name]


def test_files_of_a_stream_are_numbered_and_those_without_a_directory_have_no_name() -> None:
    files = [STILL, VIDEO, STILL]
    streams = (
        StreamInfo(stream_id=-7, intent=STILL.intent, directory=SharedDirectory(root="out")),
        StreamInfo(stream_id=4, intent=VIDEO.intent),
    )
    made = published_names(files, Snapshot(streams=streams), "a.mov", "0f")
    assert made == ["a_still_capture_-7_0.jpg", None, "a_still_capture_-7_1.jpg"]


@pytest.mark.parametrize(
    "template", ["a/b", "a\0", "{", "}", "{}", "{source}}", "{Source}", "{{ext}}", "x" * 129]
)
def test_what_is_no_template_is_told(template: str) -> None:
    assert template_fault(template)


@given(st.text(max_size=128), st.text(max_size=400))
def test_every_name_is_one_that_every_file_system_takes(template: str, source: str) -> None:
    if template_fault(template):
        return
    (name,) = names(template, VIDEO, source=source)
    assert name is not None
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}", name)


def test_a_long_name_is_cut_in_the_sources_part() -> None:
    (name,) = names("{source}_{job_id}.{ext}", VIDEO, source="x" * 300)
    assert name == f"{'x' * (255 - len('_0f.mp4'))}_0f.mp4"
