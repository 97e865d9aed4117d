"""What an encoder is told follows from how the source is coded; the result is no larger than promised."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame

from frame_pictures import draw_frame
from media_factory import make_clip
from media_tasks import VIDEO_STREAM, encode, plan_file, probe_file
from videoprocess_server.media.levels import read_declared
from videoprocess_server.model.enc_param import ENC_PARAM_KEY
from videoprocess_server.model.hdi import EncodeType
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.plan import Plan

SMALL = {"width": 128, "height": 96}


def _video_bytes(path: Path) -> int:
    with av.open(str(path)) as clip:
        return sum(packet.size for packet in clip.demux(clip.streams.video[0]))


def _made_bytes(path: Path, plan: Plan, folder: Path) -> int:
    encode(path, plan, plan.segments, folder)
    return sum(_video_bytes(folder / f"{segment.index}.mp4") for segment in plan.segments)


def _options(plan: Plan) -> dict[str, str]:
    return plan.renditions[0].encoder.options


@pytest.mark.parametrize(
    ("clip", "profile", "b_frames", "gop"),
    [
        ("rot90_iphone_3f.mov", "baseline", "0", "250"),
        ("dog_720p30_10s.mp4", "high", "3", "250"),
        ("flir_thermal_vfr_7fps_bframes.mp4", "high", "3", "31"),
        ("h264_fullrange_webcam.mkv", "high", "3", "250"),
        ("phone_2004_h263_amr_vfr.3gp", "high", "3", "250"),
    ],
)
def test_profile_b_frames_and_key_frames_are_the_sources(
    clips: Path, clip: str, profile: str, b_frames: str, gop: str
) -> None:
    options = _options(plan_file(clips / clip))
    assert (options["profile"], options["bf"], options["g"]) == (profile, b_frames, gop)


@pytest.mark.parametrize(
    ("codec", "gop", "b_frames"), [("libx264", 1, 0), ("libx265", 1, 0), ("libx265", 12, 2)]
)
def test_what_is_asked_for_is_what_comes_out(tmp_path: Path, codec: str, gop: int, b_frames: int) -> None:
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=30, codec=codec, gop=gop, b_frames=b_frames).path
    plan = plan_file(path, segment_seconds=Fraction(1, 2))
    encode(path, plan, plan.segments, tmp_path / "made")
    for segment in plan.segments:
        with av.open(str(tmp_path / "made" / f"{segment.index}.mp4")) as made:
            packets = [packet for packet in made.demux(video=0) if packet.size]
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        assert max(b - a for a, b in zip(keys, [*keys[1:], len(packets)], strict=True)) <= gop
        reordered = [packet.pts for packet in packets] != sorted(packet.pts or 0 for packet in packets)
        assert reordered <= bool(b_frames)


def test_the_level_is_written(tmp_path: Path) -> None:
    for codec in ("libx264", "libx265"):
        path = make_clip(tmp_path / f"{codec}.mp4", **SMALL, frames=4, codec=codec).path
        plan = plan_file(path)
        encode(path, plan, plan.segments, tmp_path / codec)
        with av.open(str(path)) as source, av.open(str(tmp_path / codec / "0.mp4")) as made:
            name = source.streams.video[0].codec_context.codec.canonical_name
            declared = [
                read_declared(name, clip.streams.video[0].codec_context.extradata or b"")
                for clip in (source, made)
            ]
        assert declared[1].level_code >= declared[0].level_code > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "crf", "frames", "movement"),
    [
        ("libx264", 40, 24, 2.0),
        ("libx264", 44, 3, 6.0),
        ("libx264", 40, 45, 0.0),
        ("libx265", 40, 24, 2.0),
        ("libx265", 34, 3, 6.0),
        ("libx265", 40, 45, 0.0),
    ],
)
def test_a_small_source_stays_small(
    tmp_path: Path, codec: str, crf: int, frames: int, movement: float
) -> None:
    """At their usual quality the encoders would make it more than 1.5 times as large."""
    path = make_clip(
        tmp_path / "clip.mp4", frames=frames, codec=codec, crf=crf, movement=movement, gop=250
    ).path
    plan = plan_file(path, segment_seconds=Fraction(1, 2))
    assert _made_bytes(path, plan, tmp_path / "bounded") <= 1.5 * _video_bytes(path)
    free = replace(plan, segments=tuple(replace(segment, encoder_options={}) for segment in plan.segments))
    assert _made_bytes(path, free, tmp_path / "free") > 1.5 * _video_bytes(path)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_parameter_sets_do_not_depend_on_a_segments_bytes(tmp_path: Path, codec: str) -> None:
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=60, codec=codec, gop=10).path
    plan = plan_file(path, segment_seconds=Fraction(1, 3))
    rates = [b"8000", b"90000", b"2000000"]
    segments = tuple(
        replace(
            segment,
            encoder_options={1: {"maxrate": rates[k % 3].decode(), "bufsize": rates[k % 3].decode()}},
        )
        for k, segment in enumerate(plan.segments)
    )
    done = encode(path, replace(plan, segments=segments), segments, tmp_path / "made")
    assert len({segment.parameter_sets_sha256 for segment in done}) == 1
    again = encode(path, replace(plan, segments=segments), segments, tmp_path / "again")
    assert [segment.sha256 for segment in done] == [segment.sha256 for segment in again]


def test_the_recorders_wish_arrives(tmp_path: Path) -> None:
    wish = "video_encode_bitrate_mode=CBR:video_encoder_enable_b_frame=1:bitrate=zero"
    path = make_clip(tmp_path / "clip.mp4", **SMALL, b_frames=0, metadata={ENC_PARAM_KEY: wish}).path
    media = probe_file(path)
    assert media.encoder_parameters == wish
    plan = plan_file(path, media=media)
    assert _options(plan)["bf"] == "3"
    assert "crf" not in _options(plan)
    assert set(plan.segments[0].encoder_options[1]) == {"b", "maxrate", "bufsize"}
    assert [lost.reason for lost in plan.not_kept if lost.what is Loss.ENCODER_PARAMETERS] == [
        "encParam's 'bitrate=zero' cannot be read."
    ]
    encode(path, plan, plan.segments, tmp_path / "made")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["CBR", "VBR"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_an_asked_rate_is_kept(tmp_path: Path, codec: str, mode: str) -> None:
    path = make_clip(tmp_path / "clip.mp4", codec=codec, frames=90, noise_sigma=3.0, crf=24).path
    asked = int(0.7 * _video_bytes(path) * 8 / 3)
    media = replace(probe_file(path), encoder_parameters=f"video_encode_bitrate_mode={mode}:bitrate={asked}")
    plan = plan_file(path, media=media, segment_seconds=Fraction(3))
    made = _made_bytes(path, plan, tmp_path / "made") * 8 / 3
    assert made == pytest.approx(asked, rel=0.25)


@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("depth", ["p", "p10le"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_every_format_an_encoder_takes_is_kept(tmp_path: Path, codec: str, chroma: str, depth: str) -> None:
    pix_fmt = f"yuv{chroma}{depth}"
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=3, codec=codec, pix_fmt=pix_fmt).path
    plan = plan_file(path)
    assert plan.not_kept == ()
    encode(path, plan, plan.segments, tmp_path / "made")
    with av.open(str(tmp_path / "made" / "0.mp4")) as made:
        assert {frame.format.name for frame in made.decode(video=0)} == {pix_fmt}


@pytest.mark.parametrize(
    ("pix_fmt", "made_format", "losses"),
    [
        ("gray", "yuv420p", {Loss.CODEC}),
        ("gray10le", "yuv420p10le", {Loss.CODEC}),
        ("yuv420p12le", "yuv420p10le", {Loss.CODEC, Loss.BIT_DEPTH}),
        ("yuv422p12le", "yuv422p10le", {Loss.CODEC, Loss.BIT_DEPTH}),
        ("bgr0", "yuv444p", {Loss.CODEC, Loss.PIXEL_FORMAT}),
        ("gbrp10le", "yuv444p10le", {Loss.CODEC, Loss.PIXEL_FORMAT}),
    ],
)
def test_other_formats_become_the_nearest_one(
    tmp_path: Path, pix_fmt: str, made_format: str, losses: set[Loss]
) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        for number in range(3):
            frame: VideoFrame = draw_frame(number, 128, 96, "yuv420p").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    plan = plan_file(path)
    assert {lost.what for lost in plan.not_kept} == losses
    encode(path, plan, plan.segments, tmp_path / "made")
    with av.open(str(tmp_path / "made" / "0.mp4")) as made:
        assert {frame.format.name for frame in made.decode(video=0)} == {made_format}


def test_another_codec_is_coded_by_its_own_rules(clips: Path) -> None:
    """A profile and a level mean something in their own codec only."""
    plan = plan_file(
        clips / "rot90_iphone_3f.mov", streams=[replace(VIDEO_STREAM, encode_type=EncodeType.H265)]
    )
    assert "profile" not in _options(plan)
    assert "level-idc=2.1" in _options(plan)["x265-params"]
    assert "bframes=0" in _options(plan)["x265-params"]


def test_the_encoder_says_nothing_of_itself(tmp_path: Path) -> None:
    for codec in ("libx264", "libx265"):
        path = make_clip(tmp_path / f"{codec}.mp4", **SMALL, frames=4, codec=codec).path
        plan = plan_file(path)
        encode(path, plan, plan.segments, tmp_path / codec)
        made = (tmp_path / codec / "0.mp4").read_bytes()
        assert b"x264" not in made
        assert b"x265" not in made
        assert len(made) > 1000


@pytest.mark.parametrize("width", [34, 48])
def test_narrow_pictures_of_h265_do_not_break_the_encoder(tmp_path: Path, width: int) -> None:
    """x265's cutree corrupts memory there: the process dies of it, now or at its end."""
    clip = make_clip(tmp_path / "clip.mp4", width=width, height=34, frames=30)
    plan = plan_file(clip.path, streams=[replace(VIDEO_STREAM, encode_type=EncodeType.H265)])
    assert ":cutree=0" in _options(plan)["x265-params"]
    assert _made_bytes(clip.path, plan, tmp_path / "made") > 0
