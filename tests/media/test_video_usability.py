"""What a source tells of its picture beside colours, its result tells, too; what a stranger makes of it does no harm."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from frame_pictures import draw_frame
from joining import joined, verified
from media_factory import make_clip
from media_tasks import VIDEO_STREAM, encode, plan_file
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.geometry import plan_geometry
from videoprocess_server.media.planes import read_plane, write_plane
from videoprocess_server.media.probe import probe
from videoprocess_server.media.video_usability import (
    NOT_TOLD,
    ChromaLocation,
    Overscan,
    TelevisionFormat,
    VideoUsability,
    kept_usability,
    read_usability,
    untold,
    with_usability,
)
from videoprocess_server.model.hdi import EncodeType, StreamIntent
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.settings_snapshot import Rect, StreamInfo
from videoprocess_server.model.tasks import MediaLimits, ProbeTask

ENCODERS = {"h264": "libx264", "hevc": "libx265"}
QUIET = {"h264": "", "hevc": "pools=none:frame-threads=1:wpp=0:info=0:log-level=error"}
#: every value of each, x264's and x265's names in the order of the standard's codes
LOCATIONS = tuple(ChromaLocation)
FORMATS = ("component", "pal", "ntsc", "secam", "mac", None)
OVERSCANS = ("show", "crop", None)
EVERYTHING = VideoUsability(
    chroma_location=ChromaLocation.TOPLEFT, video_format=TelevisionFormat.NTSC, overscan=Overscan.CROP
)
PREVIEW_STREAM = StreamInfo(stream_id=2, intent=StreamIntent.PREVIEW)
FROM_H264 = {
    codec: StreamInfo(stream_id=1, intent=StreamIntent.VIDEO, encode_type=encode_type)
    for codec, encode_type in (("h264", EncodeType.H264), ("hevc", EncodeType.H265))
}


def _clip(
    path: Path, codec: str, parameters: str, *, pixel_format: str = "yuv420p", frames: int = 12, **more: str
) -> Path:
    """A clip of an encoder that is told `parameters`."""
    with av.open(str(path), "w") as out:
        stream = cast("Any", out.add_stream(ENCODERS.get(codec, codec), rate=30))
        stream.options = {"preset": "ultrafast", **more} if codec in ENCODERS else more
        if codec in ENCODERS:
            key = f"{ENCODERS[codec][len('lib') :]}-params"
            stream.options |= {key: ":".join(filter(None, (QUIET[codec], parameters)))}
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
        stream.codec_context.thread_count = 1
        for number in range(frames):
            frame = draw_frame(number, 96, 64, pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _configuration(path: Path) -> tuple[str, bytes]:
    with av.open(str(path)) as clip:
        context = clip.streams.video[0].codec_context
        return context.codec.canonical_name, context.extradata or b""


def _traced(path: Path) -> dict[str, str]:
    """What FFmpeg, of another build, reads in the first parameter sets."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "verbose",
        "-i",
        str(path),
        "-map",
        "0:v:0",
        "-c",
        "copy",
    ]
    command += ["-frames:v", "1", "-bsf:v", "trace_headers", "-f", "null", "-"]
    trace = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    names = "video_format|overscan_appropriate_flag|chroma_sample_loc_type_(?:top|bottom)_field"
    found = re.findall(rf"\b({names})\s+\S+ = (\d+)", trace)
    return dict(reversed(found))


def _made(source: Path, folder: Path, *streams: StreamInfo) -> tuple[Plan, Path]:
    plan = plan_file(source, streams=streams or (VIDEO_STREAM,))
    encode(source, plan, plan.segments, folder)
    return plan, folder / "0.mp4"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("codec", ENCODERS)
def test_every_value_is_read(tmp_path: Path, codec: str, suffix: str) -> None:
    for number, location in enumerate(LOCATIONS):
        name, overscan = FORMATS[number], OVERSCANS[number % len(OVERSCANS)]
        told = [
            f"chromaloc={int(location)}",
            name and f"videoformat={name}",
            overscan and f"overscan={overscan}",
        ]
        path = _clip(tmp_path / f"{number}{suffix}", codec, ":".join(filter(None, told)))
        usability = read_usability(*_configuration(path))
        # x264 does not write the default.
        unwritten = codec == "h264" and location is ChromaLocation.LEFT
        assert usability.chroma_location == (None if unwritten else location)
        assert (usability.video_format and usability.video_format.name.lower()) == (
            name and (TelevisionFormat[name.upper()] and name)
        )
        assert usability.overscan == (Overscan[overscan.upper()] if overscan else None)


@pytest.mark.parametrize("result_codec", ENCODERS)
@pytest.mark.parametrize("codec", ENCODERS)
def test_the_result_tells_what_the_source_told(tmp_path: Path, codec: str, result_codec: str) -> None:
    source = _clip(tmp_path / "clip.mp4", codec, "chromaloc=2:videoformat=ntsc:overscan=crop")
    plan, made = _made(source, tmp_path / "made", FROM_H264[result_codec])
    assert _traced(made) == {
        "video_format": "2",
        "overscan_appropriate_flag": "1",
        "chroma_sample_loc_type_top_field": "2",
        "chroma_sample_loc_type_bottom_field": "2",
    }
    encoder = plan.renditions[0].encoder
    name, configuration = _configuration(made)
    assert read_usability(name, configuration) == EVERYTHING
    assert untold(name, encoder.options, configuration) == ()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("codec", ENCODERS)
def test_a_published_file_tells_it(tmp_path: Path, codec: str, suffix: str) -> None:
    source = _clip(tmp_path / f"clip{suffix}", codec, "chromaloc=2:videoformat=ntsc:overscan=crop")
    made = joined(source, tmp_path)
    assert verified(made).frame_count == 12
    assert read_usability(*_configuration(made.path)) == EVERYTHING


def test_a_proxy_tells_where_its_chroma_is_and_no_more(tmp_path: Path) -> None:
    source = _clip(tmp_path / "clip.mp4", "hevc", "chromaloc=2:videoformat=pal:overscan=show")
    plan, made = _made(source, tmp_path / "made", PREVIEW_STREAM)
    assert read_usability(*_configuration(made)) == VideoUsability(chroma_location=ChromaLocation.TOPLEFT)
    assert "in_chroma_loc" not in "".join(plan.renditions[0].geometry)  # its size is the source's
    small = plan_file(source, streams=(StreamInfo(stream_id=2, intent=StreamIntent.PREVIEW, width=48),))
    assert ":in_chroma_loc=topleft:out_chroma_loc=topleft" in small.renditions[0].geometry[0]


@pytest.mark.parametrize("codec", ENCODERS)
def test_nothing_is_told_where_the_source_tells_nothing(tmp_path: Path, codec: str) -> None:
    source = _clip(tmp_path / "clip.mp4", codec, "")
    assert read_usability(*_configuration(source)) == NOT_TOLD
    small = StreamInfo(stream_id=2, intent=StreamIntent.PREVIEW, width=48)
    for rendition in plan_file(source, streams=(VIDEO_STREAM, small)).renditions:
        text = str((rendition.encoder.options, rendition.geometry))
        assert not re.search("chromaloc|chroma_loc|videoformat|overscan|x264-params", text)


def test_an_old_phones_chroma_stays_in_the_middle(clips: Path) -> None:
    """H.263 knows no other place."""
    plan = plan_file(clips / "phone_2004_h263_amr_vfr.3gp")
    assert plan.renditions[0].encoder.options["x264-params"] == "chromaloc=1"


def test_only_the_location_is_of_420() -> None:
    """What is coded with other chroma, or becomes so, has no location; its format is told."""
    for formats in (
        ("yuv422p", "yuv422p"),
        ("yuv420p", "yuv422p"),
        ("rgb24", "yuv420p"),
        ("gray", "yuv420p"),
    ):
        kept = kept_usability(EVERYTHING, *formats)
        assert kept == VideoUsability(video_format=TelevisionFormat.NTSC, overscan=Overscan.CROP)
    assert kept_usability(EVERYTHING, "nv12", "yuv420p10le") == EVERYTHING


@pytest.mark.parametrize("codec", ENCODERS)
def test_options_are_added_to(codec: str) -> None:
    key = f"{ENCODERS[codec][len('lib') :]}-params"
    assert with_usability(codec, {key: "a=1"}, EVERYTHING) == {
        key: "a=1:chromaloc=2:videoformat=ntsc:overscan=crop"
    }
    assert with_usability(codec, {"crf": "20"}, NOT_TOLD) == {"crf": "20"}


@pytest.mark.parametrize("codec", ENCODERS)
def test_what_parameter_sets_do_not_tell_is_found(tmp_path: Path, codec: str) -> None:
    _, configuration = _configuration(_clip(tmp_path / "clip.mp4", codec, "chromaloc=1:videoformat=pal"))
    options = with_usability(codec, {"x264-params": "a=1"}, EVERYTHING)
    assert untold(codec, options, configuration) == ("chromaloc=2", "videoformat=ntsc", "overscan=crop")
    left = with_usability(codec, {}, VideoUsability(chroma_location=ChromaLocation.LEFT))
    _, plain = _configuration(_clip(tmp_path / "plain.mp4", codec, ""))
    assert untold(codec, left, plain) == ()


@pytest.mark.parametrize(
    ("codec", "configuration", "expected"),
    [
        ("av1", bytes([0x81, 0x00, 0b01100, 0x00]), None),
        ("av1", bytes([0x81, 0x00, 0b01101, 0x00]), ChromaLocation.LEFT),
        ("av1", bytes([0x81, 0x00, 0b01001110, 0x00]), ChromaLocation.TOPLEFT),
        ("av1", bytes([0x81, 0x00, 0b11110, 0x00]), None),  # grey
        ("av1", bytes([0x80, 0x00, 0b01110, 0x00]), None),
        ("av1", b"\x81", None),
        ("h263", b"", ChromaLocation.CENTER),
        ("mpeg1video", b"", ChromaLocation.CENTER),
        ("mjpeg", b"", ChromaLocation.CENTER),
        ("vp9", b"\x01", None),
    ],
)
def test_codecs_with_few_locations(codec: str, configuration: bytes, expected: ChromaLocation | None) -> None:
    assert read_usability(codec, configuration) == VideoUsability(chroma_location=expected)


@pytest.mark.parametrize("name", FORMATS[:-1])
def test_the_format_of_mpeg2_is_read(tmp_path: Path, name: str) -> None:
    path = _clip(tmp_path / "clip.mkv", "mpeg2video", "", video_format=name)
    expected = VideoUsability(
        chroma_location=ChromaLocation.LEFT, video_format=TelevisionFormat[name.upper()]
    )
    assert read_usability(*_configuration(path)) == expected


@pytest.mark.parametrize(
    ("visual_object", "expected"),
    [
        (0b1_0001_001_0001_1_001 << 10, TelevisionFormat.PAL),  # with an identifier
        (0b0_0001_1_010 << 17, TelevisionFormat.NTSC),
        (0b0_0001_0_010 << 17, None),  # no video_signal_type
        (0b0_0010_1_010 << 17, None),  # a still texture
    ],
)
def test_the_format_of_mpeg4_is_read(visual_object: int, expected: TelevisionFormat | None) -> None:
    bits = 26
    configuration = b"\x00\x00\x01\xb0\x01\x00\x00\x01\xb5" + (visual_object << (32 - bits)).to_bytes(
        4, "big"
    )
    assert read_usability("mpeg4", configuration).video_format == expected


@pytest.mark.parametrize("codec", ENCODERS)
def test_sets_that_contradict_each_other_tell_nothing(tmp_path: Path, codec: str) -> None:
    one, other = (
        _configuration(_clip(tmp_path / f"{location}.ts", codec, f"chromaloc={location}"))[1]
        for location in (1, 2)
    )
    assert read_usability(codec, one + one).chroma_location is ChromaLocation.CENTER
    assert read_usability(codec, one + other) == NOT_TOLD


@pytest.mark.parametrize("codec", ENCODERS)
def test_long_ways_to_the_usability_are_walked(tmp_path: Path, codec: str) -> None:
    """Of 4:4:4 with scaling lists, an aspect and a colour."""
    parameters = {
        "h264": "cqm=jvt:b-pyramid=normal:ref=8",
        "hevc": "scaling-list=default:rc-lookahead=20:b-pyramid=1:bframes=8:ref=5:range=full",
    }
    path = _clip(
        tmp_path / "clip.mp4",
        codec,
        f"{parameters[codec]}:sar=117\\:100:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:"
        "videoformat=secam:overscan=show",
        pixel_format="yuv444p",
    )
    assert read_usability(*_configuration(path)) == VideoUsability(
        video_format=TelevisionFormat.SECAM, overscan=Overscan.SHOW
    )


class _Bits:
    """Writes what a `BitReader` reads."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, bits: int, *values: int) -> None:
        self.text += "".join(f"{value:0{bits}b}" for value in values)

    def ue(self, *values: int) -> None:
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code

    def unit(self, header: bytes) -> bytes:
        """As it stands behind start codes."""
        text = self.text + "1"
        data = int(text.ljust(-len(text) // 8 * -8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
        return header + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", data)


def _everything_of_h265() -> bytes:
    """A set with all that may come before the VUI: sub-layers, lists, PCM, reference sets of both kinds, long terms."""
    bits = _Bits()
    bits.u(4, 0)
    bits.u(3, 2)  # three sub-layers
    bits.u(1, 1)
    bits.u(88, 1 << 80)
    bits.u(8, 93)
    bits.u(1, 1, 0, 0, 1)  # a profile of the first, a level of the second
    bits.u(2, *[0] * 6)
    bits.u(88, 0)
    bits.u(8, 90)
    bits.ue(0, 1, 96, 64)
    bits.u(1, 1)
    bits.ue(0, 1, 0, 1)
    bits.ue(2, 2, 4)
    bits.u(1, 1)
    bits.ue(*[4, 2, 0] * 3)
    bits.ue(0, 3, 0, 3, 1, 1)
    bits.u(1, 1, 1)
    for size in range(4):
        for number in range(2 if size == 3 else 6):
            bits.u(1, number % 2)
            # a list of its own: zeros, but for the first
            bits.ue(*([3] + [0] * (min(64, 1 << (4 + 2 * size)) - 1 + (size > 1)) if number % 2 else [0]))
    bits.u(1, 1, 1, 1)
    bits.u(4, 7, 7)
    bits.ue(0, 1)
    bits.u(1, 0)
    bits.ue(4)
    bits.ue(2, 1)  # set 0: three pictures
    for delta in (0, 3, 1):
        bits.ue(delta)
        bits.u(1, 1)
    bits.u(1, 1, 0)  # set 1, by its difference: three of four pictures are in it, one of them not used now
    bits.ue(1)
    bits.u(1, 1, 0, 1, 0, 0, 1)
    bits.u(1, 1, 1)  # set 2: again, three and one, all used
    bits.ue(0)
    bits.u(1, 1, 1, 1, 1)
    bits.u(1, 0)  # set 3: one
    bits.ue(1, 0, 5)
    bits.u(1, 1)
    bits.u(1, 1)
    bits.ue(1)
    bits.u(8, 17)
    bits.u(1, 1)
    bits.u(1, 1, 0)
    bits.u(1, 1, 0)  # a VUI, no aspect
    bits.u(1, 1, 1)  # overscan: crop
    bits.u(1, 1)
    bits.u(3, 2)
    bits.u(1, 0, 0)
    bits.u(1, 1)
    bits.ue(2, 2)
    bits.u(1, *[0] * 7)
    return b"\x00\x00\x00\x01" + bits.unit(b"\x42\x01")


def _everything_of_h264() -> bytes:
    """A set with lists that end early, offsets of the order of display, fields and an aspect of its own."""
    bits = _Bits()
    bits.u(8, 100, 0, 31)
    bits.ue(0, 1, 0, 0)
    bits.u(1, 0, 1)
    for number in range(8):
        bits.u(1, number % 2)
        # the second scale is 0: 8 - 8
        bits.ue(*([1, 18] if number % 4 == 1 else [0] * (16 if number < 6 else 64)) if number % 2 else ())
    bits.ue(4, 1)
    bits.u(1, 0)
    bits.ue(3, 4, 2, 1, 2)
    bits.ue(4)
    bits.u(1, 0)
    bits.ue(5, 3)
    bits.u(1, 0, 1, 1, 1)
    bits.ue(0, 0, 0, 2)
    bits.u(1, 1, 1)
    bits.u(8, 255)
    bits.u(16, 117, 100)
    bits.u(1, 1, 1, 1)
    bits.u(3, 2)
    bits.u(1, 0, 1)
    bits.u(8, 1, 1, 1)
    bits.u(1, 1)
    bits.ue(2, 2)
    bits.u(1, 0, 0, 0, 0, 0)
    return b"\x00\x00\x00\x01" + bits.unit(b"\x67")


@pytest.mark.parametrize(
    ("codec", "configuration"), [("h264", _everything_of_h264()), ("hevc", _everything_of_h265())]
)
def test_all_that_may_come_before_is_walked(codec: str, configuration: bytes) -> None:
    assert read_usability(codec, configuration) == EVERYTHING


@pytest.mark.parametrize("codec", ENCODERS)
def test_damage_is_no_failure(tmp_path: Path, codec: str) -> None:
    path = _clip(tmp_path / "clip.mp4", codec, "chromaloc=2:videoformat=ntsc:overscan=crop")
    _, configuration = _configuration(path)
    for end in range(len(configuration)):
        read_usability(codec, configuration[:end])
    for bit in range(8 * len(configuration)):
        damaged = bytearray(configuration)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        read_usability(codec, bytes(damaged))


@given(
    st.sampled_from(["h264", "hevc", "av1", "mpeg2video", "mpeg4", "?"]),
    st.binary(max_size=300),
    st.booleans(),
)
def test_no_bytes_fail(codec: str, data: bytes, packed: bool) -> None:
    heads = {
        "h264": b"\x01\x00\x00\x00\xff\xff\x01\x00",
        "hevc": b"\x01" + bytes(21) + b"\xff\x21\xff\xff\x01\x00",
    }
    starts = {"h264": b"\x00\x00\x01\x67", "hevc": b"\x00\x00\x01\x42\x01"}
    head = (heads if packed else starts).get(codec, b"\x00\x00\x01\xb5")
    assert isinstance(read_usability(codec, head + data), VideoUsability)


@pytest.mark.parametrize(
    ("location", "offset"),
    [(ChromaLocation.LEFT, 1), (ChromaLocation.CENTER, 2), (ChromaLocation.TOPLEFT, 1)],
)
def test_a_smaller_picture_has_its_chroma_where_it_is_said_to_be(
    tmp_path: Path, location: ChromaLocation, offset: int
) -> None:
    """A ramp of 4 a sample: at half the size sample j lies where 2j + 1/4 was where chroma is on luma, at 2j + 1/2 else."""
    clip = make_clip(tmp_path / "clip.mp4", width=128, height=96, frames=1)
    with clip.path.open("rb") as file:
        video = probe(ProbeTask(limits=MediaLimits()), file.fileno()).video
    geometry = plan_geometry(
        video, Rect(x=0, y=0, width=128, height=96), 64, 48, "yuv420p", chroma_location=location
    )
    frame = VideoFrame(128, 96, "yuv420p")
    columns, rows = np.meshgrid(np.arange(64), np.arange(48))
    for plane, values in ((0, np.zeros((96, 128))), (1, columns * 4), (2, rows * 4)):
        write_plane(frame, plane, values.astype(np.uint8))
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    made = next(FilterChain(geometry.fit, frame.time_base).push(frame))
    # Away from the edges.
    assert {int(value) for value in read_plane(made, 1)[12, 8:24] - 8 * np.arange(8, 24)} == {offset}
    vertical = 1 if location is ChromaLocation.TOPLEFT else 2
    assert {int(value) for value in read_plane(made, 2)[8:16, 12] - 8 * np.arange(8, 16)} == {vertical}
