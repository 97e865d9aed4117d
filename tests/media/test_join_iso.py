"""What a caller may ask of an MP4, and what of a sample entry holds for another picture."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

from iso_files import box, movie_of, payloads_of, visual_entry
from joining import Joined, joined, losses_of, packets_of, verified
from media_factory import make_clip
from videoprocess_server.media.kept_boxes import kept_boxes, lost_boxes
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.settings_snapshot import ModeSetting, StreamInfo

SMALL = {"width": 128, "height": 96, "frames": 30, "gop": 12, "b_frames": 2}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv"])
@pytest.mark.parametrize("moov_first", [True, False])
def test_the_index_comes_where_it_is_asked_for(name: str, moov_first: bool, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / name, **SMALL, audio="aac")
    made = joined(clip.path, tmp_path, setting=ModeSetting(moov_first=moov_first))
    assert movie_of(made.path).moov_first is moov_first
    assert verified(made).frame_count == 30
    assert losses_of(made) == set()


@pytest.mark.parametrize("flags", ["faststart", "0"])
def test_the_index_stays_where_the_source_has_it(flags: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", **SMALL)
    with (
        av.open(str(clip.path)) as source,
        av.open(str(tmp_path / "copy.mp4"), "w", options={"movflags": flags}) as out,
    ):
        track = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = track
                out.mux(packet)
    made = joined(tmp_path / "copy.mp4", tmp_path)
    assert movie_of(made.path).moov_first is (flags == "faststart")


def test_a_smaller_picture_is_shown_smaller_and_says_how_much(clips: Path, tmp_path: Path) -> None:
    """And its matrix, which turns it by 90 degrees, moves it half as far."""
    source = clips / "rot90_iphone_3f.mov"
    stream = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, width=284, height=160)
    made = joined(source, tmp_path, streams=[stream])
    assert verified(made).frame_count == 3
    before, after = movie_of(source), movie_of(made.path)
    assert (before.tracks[0].width, before.tracks[0].height) == (568, 320)
    assert (after.tracks[0].width, after.tracks[0].height) == (284, 160)
    moved = [k for k in range(9) if before.tracks[0].matrix[k] != after.tracks[0].matrix[k]]
    assert all(2 * after.tracks[0].matrix[k] == before.tracks[0].matrix[k] for k in moved)
    assert moved
    factor = after.user_keys["com.openharmony.scaling_factor"]
    assert (factor.type, factor.data) == (23, b"\x3f\x00\x00\x00")
    assert before.user_keys == {}


def test_a_result_of_the_same_size_has_no_further_keys(tmp_path: Path) -> None:
    made = joined(make_clip(tmp_path / "clip.mp4", **SMALL).path, tmp_path)
    assert movie_of(made.path).user_keys == {}


@pytest.mark.parametrize("name", ["clip.mov", "clip.mkv"])
def test_the_file_of_a_video_gets_a_track_of_what_was_done(name: str, tmp_path: Path) -> None:
    made = joined(make_clip(tmp_path / name, **SMALL, audio="aac").path, tmp_path, maker=True)
    assert verified(made).frame_count == 30
    *_, track = movie_of(made.path).tracks
    assert (track.handler, track.sample_entries[0][4:8]) == ("meta", b"mett")
    assert track.references == {"cdsc": (movie_of(made.path).tracks[0].track_id,)}
    told = [json.loads(payload) for payload in payloads_of(made.path, track.track_id)]
    assert [line["segment"] for line in told] == sorted(line["segment"] for line in told)
    assert len(told) == 30
    assert _seconds(made) == sorted(Fraction(int(t), track.timescale) for t in track.samples().pts)


def _seconds(made: Joined) -> list[Fraction]:
    with av.open(str(made.path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return sorted((packet.pts or 0) * packet.time_base for packet in packets)


ENTRY = visual_entry(
    "avc1",
    64,
    48,
    *(
        box(kind, b"what it says")
        for kind in ("avcC", "colr", "pasp", "clap", "fiel", "mdcv", "sv3d", "dvvC", "abcd")
    ),
)


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    folder = tmp_path_factory.mktemp("made")
    return joined(make_clip(folder / "clip.mp4", **SMALL).path, folder)


@pytest.mark.parametrize(
    ("asked", "kept", "lost"),
    [
        ({}, {"colr", "pasp", "clap", "fiel", "mdcv", "sv3d"}, {"abcd"}),
        ({"width": 64, "height": 48}, {"colr", "pasp", "fiel", "mdcv", "sv3d"}, {"abcd", "clap"}),
        ({"zoom": 2.0}, {"colr", "pasp", "fiel", "mdcv"}, {"abcd", "clap", "sv3d"}),
    ],
)
def test_boxes_of_the_sample_entry_stay_while_they_hold(
    asked: dict[str, float], kept: set[str], lost: set[str], tmp_path: Path
) -> None:
    stream = StreamInfo(
        stream_id=1,
        intent=StreamIntent.VIDEO,
        width=int(asked.get("width", 0)),
        height=int(asked.get("height", 0)),
    )
    setting = ModeSetting(zoom_ratio=asked.get("zoom", 1.0))
    made = joined(make_clip(tmp_path / "clip.mp4", **SMALL).path, tmp_path, streams=[stream], setting=setting)
    told = made.media, made.plan, made.plan.renditions[0]
    assert kept_boxes(ENTRY, *told) == kept
    (named,) = lost_boxes(ENTRY, *told)
    assert (named.what.name, named.count) == ("PICTURE_MARKS", len(lost))
    assert all(kind in named.reason for kind in lost)
    assert kept_boxes(ENTRY, *told, carried={"dvvC"}) == kept | {"dvvC"}


def test_two_eyes_become_one_and_are_named(made: Joined) -> None:
    """Spatial video: the second layer is not encoded, so the boxes that tell of it would be wrong."""
    entry = visual_entry(
        "hvc1", 64, 48, box("hvcC", b""), box("lhvC", b""), box("vexu", b""), box("hfov", b"")
    )
    told = made.media, made.plan, made.plan.renditions[0]
    assert kept_boxes(entry, *told) == set()
    (named,) = lost_boxes(entry, *told)
    assert "lhvC" in named.reason
    assert named.count == 3


def test_sound_with_a_layout_of_its_own_is_compared(tmp_path: Path) -> None:
    """PCM of a chnl box: PyAV frees its layout twice where channels are asked for, and the process dies."""
    silent, path = make_clip(tmp_path / "silent.mp4", **SMALL).path, tmp_path / "clip.mp4"
    sound = (
        "-f",
        "lavfi",
        "-i",
        "sine=440:r=48000",
        "-t",
        "0.3",
        "-ac",
        "4",
        "-c:a",
        "pcm_s16be",
        "-c:v",
        "copy",
    )
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(silent), *sound, str(path))
    subprocess.run(command, check=True, timeout=60)
    made = joined(path, tmp_path / "made")
    verified(made)
    assert packets_of(path, "audio") == packets_of(made.path, "audio")
