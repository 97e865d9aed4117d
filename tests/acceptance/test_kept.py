"""The checker of scripts/kept tells kept, named and lost apart, on files of which that is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from kept import programs  # noqa: E402
from kept.boxes import read_boxes  # noqa: E402
from kept.facts import FileFacts  # noqa: E402
from kept.made_clips import MADE  # noqa: E402
from kept.pair import Pair  # noqa: E402
from kept.results import make_results  # noqa: E402
from kept.verdict import KEPT, LOST, NAMED, NOTHING, Cell, cells, judge  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(programs.missing()), reason=f"needs Debian's {', '.join(programs.missing())}"),
]
#: a sample of the table in docs/results
RECORDED = (
    "iphone12pm_hlg_main10_mebx.mp4",
    "nasa_2video_2audio_2subs.mp4",
    "phone_2004_h263_amr_vfr.3gp",
    "rot90_iphone_3f.mov",
)
MADE_HERE = (
    "everything.mp4",
    "fragmented.mp4",
    "begins_inside_a_gop.mp4",
    "vp9_opus.webm",
    "matroska.mkv",
    "date_and_place.mov",
)
#: what is done to a copy → columns that must tell of it
DAMAGES = {
    ("-map", "0:v:0", "-map", "0:a:0", "-map_chapters", "-1"): {"audio packets", "other packets", "tracks", "chapters", "cover art"},
    ("-map", "0", "-map_chapters", "-1"): {"chapters"},
    ("-map", "0", "-metadata", "title=Another"): {"user keys"},
    ("-map", "0", "-metadata:s:a:1", "language=spa"): {"tracks"},
    ("-map", "0", "-aspect", "4:3"): {"size"},
    ("-map", "0", "-bsf:v:0", "setts=pts=PTS+1000*eq(N\\,7)"): {"time stamps"},
    ("-map", "0", "-c:v:0", "libx264", "-filter:v:0", "shuffleframes=0 2 1 3 4"): {"pictures"},
    ("-map", "0", "-bsf:a:1", "noise=drop=eq(n\\,9)"): {"audio packets"},
    ("-map", "0", "-bsf:v:0", "h264_metadata=colour_primaries=9"): {"colour"},
}  # fmt: skip


@pytest.fixture(name="source", scope="module")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "everything.mp4"
    MADE["everything.mp4"](path)
    return path


def _cells(source: Path, result: Path, *losses: dict[str, object]) -> dict[str, Cell]:
    return cells(Pair(FileFacts(source), FileFacts(result)), losses)


def _changed(source: Path, *arguments: str) -> Path:
    result = source.with_name("changed.mp4")
    program = imageio_ffmpeg.get_ffmpeg_exe()
    command = [program, "-v", "error", "-y", "-i", str(source), "-c", "copy", *arguments, str(result)]
    subprocess.run(command, check=True)
    return result


def test_a_copy_of_a_file_keeps_everything(source: Path) -> None:
    found = _cells(source, source)
    assert {KEPT, NOTHING} == {cell.verdict for cell in found.values()}
    there = {name for name, cell in found.items() if cell.verdict == KEPT}
    assert {"chapters", "cover art", "other packets", "user keys"} <= there


@pytest.mark.parametrize("arguments", DAMAGES)
def test_what_is_changed_is_lost(source: Path, arguments: tuple[str, ...]) -> None:
    found = _cells(source, _changed(source, *arguments))
    assert DAMAGES[arguments] <= {name for name, cell in found.items() if cell.verdict == LOST}


def test_a_picture_of_few_bytes_is_still_itself(source: Path) -> None:
    coarse = _changed(source, "-map", "0", "-c:v:0", "libx264", "-b:v", "30k")
    assert KEPT == _cells(source, coarse)["pictures"].verdict


def test_an_edit_list_that_ends_earlier_is_a_loss(source: Path) -> None:
    data = bytearray(source.read_bytes())
    moov = next(box for box in read_boxes(source) if box.kind == "moov")
    elst = moov.find("trak", "edts", "elst")
    assert elst
    place = elst.offset + 16
    data[place : place + 4] = (int.from_bytes(data[place : place + 4]) - 1).to_bytes(4)
    shorter = source.with_name("shorter.mp4")
    shorter.write_bytes(data)
    cell = _cells(source, shorter)["durations"]
    assert LOST == cell.verdict
    assert any("the last frame ends" in told for told in cell.details)


def test_fragments_tell_the_times_of_a_table(source: Path) -> None:
    plain = FileFacts(source)
    fragmented = FileFacts(
        _changed(source, "-map", "0:v:0", "-map", "0:a", "-movflags", "frag_keyframe+empty_moov")
    )
    assert fragmented.is_fragmented
    assert fragmented.boxes[0].steps == plain.boxes[0].steps
    # Such a copy has no edit list, which hid what decodes before the first picture.
    assert fragmented.end - plain.end == fragmented.frame_times[0]


def test_what_a_report_names_of_that_track_is_named(source: Path) -> None:
    result = _changed(source, "-map", "0", "-bsf:a:1", "noise=drop=eq(n\\,9)")
    loss = {"what": "NOT_KEPT_CATEGORY_PACKET", "trackIndex": 2, "count": "1", "reason": "It is damaged."}
    assert NAMED == _cells(source, result, loss)["audio packets"].verdict
    assert LOST == _cells(source, result, {**loss, "trackIndex": 1})["audio packets"].verdict


def test_a_report_has_to_tell_the_keys(source: Path) -> None:
    result = _changed(source, "-map", "0", "-metadata", "title=Another")
    loss = {"what": "NOT_KEPT_CATEGORY_USER_METADATA", "count": "1", "reason": "No field for: title, movie."}
    assert NAMED == _cells(source, result, loss)["user keys"].verdict
    assert LOST == _cells(source, result, {**loss, "reason": "Something."})["user keys"].verdict


async def test_nothing_of_a_sample_of_clips_is_lost(tmp_path: Path, clips: Path) -> None:
    for name in MADE_HERE:
        MADE[name](tmp_path / name)
    sources = [*(clips / name for name in RECORDED), *(tmp_path / name for name in MADE_HERE)]
    rows = [judge(made) for made in await make_results(sources, tmp_path, jobs=2)]
    told = {
        row.name: [row.failure, *(row.cells[name].details for name in row.lost if not row.failure)]
        for row in rows
        if row.lost
    }
    assert {} == told
    assert {"begins_inside_a_gop.mp4", "phone_2004_h263_amr_vfr.3gp", "vp9_opus.webm"} <= {
        row.name for row in rows if NAMED in {cell.verdict for cell in row.cells.values()}
    }
