"""Matroska and WebM sources: FFmpeg's muxer writes the result, and what it cannot write is named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.stream import Stream

from frame_pictures import draw_frame
from iso_files import run_ffmpeg
from joining import Joined, joined, losses_of, messages_of_ffmpeg, packets_of, verified
from media_factory import make_clip
from videoprocess_server.media.faults import MediaFault

SMALL = {"width": 128, "height": 96, "frames": 45, "gop": 12, "b_frames": 3}


def test_a_second_picture_of_a_matroska_file_keeps_its_times(tmp_path: Path) -> None:
    """FFmpeg knows no decode times of the first B frames there."""
    clips = [make_clip(tmp_path / f"{k}.mkv", **SMALL) for k in range(2)]
    both = tmp_path / "both.mkv"
    with (
        av.open(str(clips[0].path)) as first,
        av.open(str(clips[1].path)) as second,
        av.open(str(both), "w") as out,
    ):
        containers = (first, second)
        tracks = [out.add_stream_from_template(c.streams.video[0], opaque=True) for c in containers]
        out.start_encoding()
        for container, track in zip(containers, tracks, strict=True):
            packets = [packet for packet in container.demux() if packet.size]
            for number, packet in enumerate(packets):
                packet.dts = number - len(packets)  # Matroska stores presentation times only
                packet.stream = track
            out.mux(packets)
    made = joined(both, tmp_path)
    assert packets_of(made.path, "video")[1] == packets_of(both, "video")[1]
    assert made.result.not_kept == ()
    assert messages_of_ffmpeg(made.path) == ""


def test_what_only_matroska_tells_is_named(tmp_path: Path) -> None:
    """Sound of 44.1 kHz at full milliseconds, and transparency beside the picture."""
    path = tmp_path / "clear.webm"
    with av.open(str(path), "w", format="matroska") as out:
        picture = out.add_stream("libvpx-vp9", rate=25)
        picture.width, picture.height, picture.pix_fmt = 128, 96, "yuva420p"
        sound = out.add_stream("aac", rate=44_100, layout="mono")
        samples = AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 44_100
        out.start_encoding()
        for number in range(25):
            frame = draw_frame(number, 128, 96).reformat(format="yuva420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(picture.encode(frame))
        out.mux([*picture.encode(None), *sound.encode(samples), *sound.encode(None)])
    made = joined(path, tmp_path)
    assert made.path.suffix == ".mp4"
    assert ("TIME_STAMPS", 1) in {(name, track) for name, track, _ in losses_of(made)}
    assert verified(made).frame_count == 25
    assert [lost.what.name for lost in made.plan.not_kept] == ["CODEC", "ALPHA"]


def _rich(folder: Path) -> Path:
    """Two tracks of sound, two of subtitles, chapters, tags, a font and a cover."""
    said = "1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,000 --> 00:00:01,400\nWorld\n"
    (folder / "said.srt").write_text(said)
    (folder / "told.txt").write_text(
        ";FFMETADATA1\ntitle=A film\nartist=Somebody\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=700\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=700\nEND=1500\ntitle=Two\n"
    )
    (folder / "letters.ttf").write_bytes(bytes(range(256)) * 8)
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", folder / "cover.jpg")
    run_ffmpeg("-i", folder / "said.srt", folder / "said.ass")
    run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=128x96:r=25", "-f", "lavfi", "-i", "sine=440:r=44100"),
        *("-i", folder / "said.srt", "-i", folder / "said.ass", "-i", folder / "told.txt", "-t", "1.5"),
        *("-map", "0", "-map", "1", "-map", "1", "-map", "2", "-map", "3"),
        *("-map_metadata", "4", "-map_chapters", "4", "-c:v", "libx264", "-bf", "2", "-g", "10"),
        *("-c:a:0", "flac", "-c:a:1", "libvorbis", "-c:s:0", "srt", "-c:s:1", "ass"),
        *("-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=fra"),
        *("-metadata:s:a:1", "title=Ton", "-metadata:s:s:0", "language=eng"),
        *("-disposition:a:1", "default", "-disposition:a:0", "0", "-disposition:s:1", "forced"),
        *("-attach", folder / "letters.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font"),
        *("-attach", folder / "cover.jpg", "-metadata:s:t:1", "mimetype=image/jpeg"),
        folder / "rich.mkv",
    )
    return folder / "rich.mkv"


@pytest.fixture(name="rich", scope="module")
def _joined_rich(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    folder = tmp_path_factory.mktemp("rich")
    return joined(_rich(folder), folder)


def test_fonts_covers_chapters_and_all_tracks_of_a_matroska_file_are_kept(rich: Joined) -> None:
    assert verified(rich).frame_count == rich.plan.frame_count
    assert losses_of(rich) == set()
    with av.open(str(rich.source)) as before, av.open(str(rich.path)) as after:
        assert [_told(stream) for stream in before.streams] == [_told(stream) for stream in after.streams]
        assert [stream.type for stream in after.streams][-2:] == ["attachment", "video"]
        assert before.streams[5].data == after.streams[5].data == bytes(range(256)) * 8
        assert [chapter["metadata"] for chapter in after.chapters()] == [{"title": "One"}, {"title": "Two"}]
        assert (after.metadata["title"], after.metadata["ARTIST"]) == ("A film", "Somebody")
        covers = [
            next(bytes(p) for p in c.demux() if p.stream_index == 6 and p.size) for c in (before, after)
        ]
    assert covers[0] == covers[1] == rich.source.with_name("cover.jpg").read_bytes()


def _told(stream: Stream) -> tuple[object, ...]:
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    named = {key: stream.metadata.get(key) for key in ("language", "title", "filename", "mimetype")}
    return stream.type, codec, int(stream.disposition), named


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"World", b"words", "track 3 has other packets"),
        (b"A film", b"A fire", "title"),
        (b"\x85\x83Two", b"\x85\x83Six", "chapters"),
        (b"\x22\xb5\x9c\x83fra", b"\x22\xb5\x9c\x83ita", "language of track 2"),
        (bytes(range(256)) * 2, bytes(512), "track 5"),
    ],
)
def test_a_change_of_anything_in_a_matroska_file_is_refused(
    rich: Joined, old: bytes, new: bytes, told: str
) -> None:
    data = rich.path.read_bytes()
    assert old in data
    with pytest.raises(MediaFault) as caught:
        verified(rich, data.replace(old, new))
    assert caught.value.reason == "VERIFY_FAILED"
    assert told in caught.value.message


@pytest.mark.slow
def test_a_real_webcam_clip_loses_nothing(clips: Path, tmp_path: Path) -> None:
    made = joined(clips / "h264_fullrange_webcam.mkv", tmp_path, Fraction(4))
    assert verified(made).frame_count == 109
    assert losses_of(made) == set()
    assert messages_of_ffmpeg(made.path) == ""


def test_packets_of_one_millisecond_stay_in_it(tmp_path: Path) -> None:
    """Matroska may have several with one time, and so may its copy."""
    path = tmp_path / "dense.mkv"
    sound = ("-f", "lavfi", "-i", "sine=440:r=44100,asetnsamples=n=20", "-c:a", "pcm_s16le")
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=128x96:r=25", *sound, "-t", "0.4", "-c:v", "libx264", path)
    made = joined(path, tmp_path)
    assert verified(made).frame_count == 10
    assert losses_of(made) == set()
    assert packets_of(made.path, "audio") == packets_of(path, "audio")


def test_a_picture_of_two_eyes_in_matroska_is_named(tmp_path: Path) -> None:
    """FFmpeg's muxer takes such a mark from its own encoder only."""
    path = tmp_path / "stereo.mkv"
    marked = ("-c:v", "libx264", "-metadata:s:v:0", "stereo_mode=left_right")
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=128x96:r=25", "-t", "0.4", *marked, path)
    made = joined(path, tmp_path)
    assert verified(made).frame_count == 10
    assert losses_of(made) == {("METADATA", 0, 1), ("PICTURE_MARKS", 0, 1)}


def test_a_time_code_of_a_matroska_file_is_named(tmp_path: Path) -> None:
    """MP4's muxer would make a track of it, at a rate it is not told, and fail."""
    path = tmp_path / "coded.mkv"
    coded = ("-c:v", "libx264", "-metadata", "timecode=10:00:00:00")
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=128x96:r=25", "-t", "0.4", *coded, path)
    made = joined(path, tmp_path)
    assert verified(made).frame_count == 10
    assert losses_of(made) == {("METADATA", None, 1)}


def test_what_is_not_played_of_the_last_sound_stays_so(tmp_path: Path) -> None:
    """Matroska tells it beside the packet, MP4 by a shorter one."""
    path = tmp_path / "filled_up.webm"
    sound = (
        "-f",
        "lavfi",
        "-i",
        "sine=440:r=48000",
        "-c:a",
        "libopus",
        "-c:v",
        "libvpx-vp9",
        "-cpu-used",
        "8",
    )
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=128x96:r=25", *sound, "-t", "0.4", path)
    made = joined(path, tmp_path)
    assert made.path.suffix == ".mp4"
    with av.open(str(made.path)) as container:
        last = [packet for packet in container.demux(audio=0) if packet.size][-1]
    # 0.4 s of sound; the 312 samples before that make 7 of Matroska's milliseconds, and the start half of one late
    assert last.pts + last.duration == 19_200 + 24
    assert last.duration < 960
    verified(made)
    short, whole = (b"\0\0\0\1" + length.to_bytes(4) for length in (last.duration, 960))
    assert made.path.read_bytes().count(short) == 1
    with pytest.raises(MediaFault, match="end time of track 1"):
        verified(made, made.path.read_bytes().replace(short, whole))
