"""Sources with something wrong beside the picture: named and the rest kept, or refused with a reason; never a hang."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from box_places import body_of, changed
from iso_files import box, full, run_ffmpeg, u32
from joining import joined, losses_of, verified
from media_factory import make_clip, read_frame_numbers
from videoprocess_server.media.faults import MediaFault

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=128x96:r=30:d=1")
CODED = ("-c:v", "libx264", "-g", "12", "-bf", "2", "-c:a", "aac")
SOUND = ("moov", "trak:1", "mdia", "minf", "stbl")


def _with_sound(path: Path, seconds: str = "1") -> Path:
    run_ffmpeg(*PICTURE, "-f", "lavfi", "-i", f"sine=440:r=44100:d={seconds}", *CODED, path)
    return path


def _patched(folder: Path, change: Callable[[bytes], bytes]) -> Path:
    path = _with_sound(folder / "clip.mp4")
    path.write_bytes(change(path.read_bytes()))
    return path


def _at(*path: str, offset: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: changed(data, body_of(data, *path).start + offset, new)


def _refused(source: Path, folder: Path) -> tuple[str, str]:
    with pytest.raises(MediaFault) as caught:
        joined(source, folder)
    return caught.value.reason, caught.value.message


@pytest.mark.parametrize(
    ("change", "reason", "told"),
    [
        (_at(*SOUND, "stco", offset=8, new=u32(0x7FFF_0000)), "TRUNCATED_FILE", "cut off"),
        (_at(*SOUND, "stsz", offset=12, new=u32(0x7FFF_FFF0)), "JOIN_FAILED", "beyond the end"),
        (_at(*SOUND, "stsz", offset=8, new=u32(0xFFF0)), "JOIN_FAILED", "stsz"),
        (_at(*SOUND, "stts", offset=4, new=u32(0xFFF0)), "NOT_A_VIDEO", "not a whole"),
        (_at(*SOUND, "stsc", offset=4, new=u32(0xFFF0)), "NOT_A_VIDEO", "not a whole"),
        (_at("moov", "trak:1", "edts", "elst", offset=4, new=u32(0xFFF0)), "JOIN_FAILED", "elst"),
        (_at("moov", "trak:1", "mdia", "mdhd", offset=12, new=u32(0)), "JOIN_FAILED", "mdhd"),
    ],
)
def test_tables_that_lie_are_refused_with_the_reason(
    change: Callable[[bytes], bytes], reason: str, told: str, tmp_path: Path
) -> None:
    found, message = _refused(_patched(tmp_path, change), tmp_path)
    assert found == reason
    assert told in message


@pytest.mark.parametrize(
    "edits", [(u32(0xFFFF_FFFF), u32(1024)), (u32(1), u32(0x7FFF_FFF0)), (u32(0), u32(0))]
)
def test_odd_edit_lists_of_sound_stay_as_they_are(edits: tuple[bytes, bytes], tmp_path: Path) -> None:
    path = ("moov", "trak:1", "edts", "elst")
    source = _patched(tmp_path, lambda data: changed(data, body_of(data, *path).start + 8, b"".join(edits)))
    made = joined(source, tmp_path)
    assert verified(made).frame_count == 30
    result = made.path.read_bytes()
    assert result[body_of(result, *path)] == source.read_bytes()[body_of(source.read_bytes(), *path)]


def test_an_odd_edit_list_of_the_picture_ends_as_a_player_shows_it(tmp_path: Path) -> None:
    """Shown for a tenth of a second: three frames; FFmpeg hides the others."""
    source = _patched(tmp_path, _at("moov", "trak:0", "edts", "elst", offset=8, new=u32(100)))
    made = joined(source, tmp_path)
    assert verified(made).frame_count == made.plan.frame_count == 3
    assert losses_of(made) == {("PACKETS_OUTSIDE_EDIT", 0, 27)}
    assert made.plan.end_pts * made.plan.time_base * 10 == 1


@pytest.mark.parametrize("seconds", ["0.1", "3"])
def test_sound_may_be_shorter_or_longer_than_the_picture(seconds: str, tmp_path: Path) -> None:
    made = joined(_with_sound(tmp_path / "clip.mp4", seconds), tmp_path)
    assert verified(made).frame_count == 30
    assert losses_of(made) == set()


def test_a_track_without_samples_is_kept(tmp_path: Path) -> None:
    source = _patched(tmp_path, _without_sound)
    made = joined(source, tmp_path)
    assert verified(made).frame_count == 30
    assert [report.packet_count for report in made.result.tracks] == [30, 0]
    assert losses_of(made) == set()


def test_media_in_another_file_is_named_and_not_opened(tmp_path: Path) -> None:
    """The track stays, and points to where it pointed."""

    def elsewhere(data: bytes) -> bytes:
        dref = body_of(data, "moov", "trak:1", "mdia", "minf", "dinf", "dref")
        return changed(data, dref.start + 8 + 8, u32(0))

    made = joined(_patched(tmp_path, elsewhere), tmp_path)
    assert verified(made).frame_count == 30
    assert {(what, track) for what, track, _ in losses_of(made)} == {("EXTERNAL_REFERENCE", 1)}
    assert [report.kept for report in made.result.tracks] == [True, True]


def _without_sound(data: bytes) -> bytes:
    """Empties the tables of the sound; what they pointed to stays in the file."""
    empty = {
        "stts": full("stts", u32(0)),
        "stsc": full("stsc", u32(0)),
        "stsz": full("stsz", u32(0, 0)),
        "stco": full("stco", u32(0)),
    }
    for kind, table in empty.items():
        body = body_of(data, *SOUND, kind)
        spare = body.stop - body.start + 8 - len(table)
        data = data[: body.start - 8] + table + box("free", bytes(spare - 8)) + data[body.stop :]
    return data


def test_a_matroska_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    run_ffmpeg(*PICTURE, "-f", "lavfi", "-i", "sine=440:r=44100:d=1", *CODED, path)
    assert verified(joined(path, tmp_path)).frame_count == 30
    path.write_bytes(path.read_bytes()[:-4000])
    assert _refused(path, tmp_path / "again")[0] == "TRUNCATED_FILE"


def test_a_last_sample_without_a_duration_is_not_guessed_at(tmp_path: Path) -> None:
    """FFmpeg gives the last empty subtitle the length that other tracks have with their edit lists ignored."""
    clip = make_clip(tmp_path / "clip.mp4", frames=30, width=128, height=96, hidden_frames=3, audio="aac")
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:00,400\nHello\n")
    source = tmp_path / "source.mp4"
    run_ffmpeg(
        "-i", clip.path, "-i", words, "-map", "0", "-map", "1", "-c", "copy", "-c:s", "mov_text", source
    )
    made = joined(source, tmp_path)
    assert verified(made).frame_count == len(read_frame_numbers(source))
