"""A segment is made of the same pixels and bytes whoever makes it, alone or in a run, and no frame is lost at a seam."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from media_factory import make_clip, read_frame_numbers
from media_tasks import as_one_segment, encode, filtered_hashes, opened, plan_file, with_enhancement
from videoprocess_server.media import segments
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.segments import filtered_frames
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.tasks import EncodeTask, Progress, SegmentDone, TaskMessage

HALF_SECOND = Fraction(1, 2)
#: small, and yet large enough for a readable frame number
SMALL = {"width": 128, "height": 96}


@dataclass(frozen=True)
class Source:
    make: Callable[[Path], Path]
    segment_seconds: Fraction = HALF_SECOND


def _h264_b_frames(folder: Path) -> Path:
    return make_clip(folder / "h264.mp4", **SMALL, frames=60, gop=15, b_frames=3).path


def _open_gop_h264(folder: Path) -> Path:
    return make_clip(folder / "h264_open.mp4", **SMALL, frames=60, gop=15, b_frames=3, open_gop=True).path


def _open_gop_hevc_10_bit(folder: Path) -> Path:
    return make_clip(
        folder / "open.mp4",
        **SMALL,
        frames=60,
        codec="libx265",
        pix_fmt="yuv420p10le",
        gop=15,
        b_frames=3,
        open_gop=True,
    ).path


def _variable_rate(folder: Path) -> Path:
    steps = [20, 40, 19, 21, 60, 20, 20, 150, 20, 33]
    pts = [0]
    for k in range(59):
        pts.append(pts[-1] + steps[k % len(steps)])
    return make_clip(folder / "vfr.mov", **SMALL, pts=pts, time_base=Fraction(1, 600), gop=12).path


def _edit_list_in_mid_gop(folder: Path) -> Path:
    return make_clip(folder / "edited.mp4", **SMALL, frames=60, gop=20, hidden_frames=5).path


def _one_long_gop(folder: Path) -> Path:
    return make_clip(folder / "long.mp4", **SMALL, frames=75, gop=1000).path


def _matroska(folder: Path) -> Path:
    return make_clip(folder / "clip.mkv", **SMALL, frames=60, gop=15).path


def _all_intra(folder: Path) -> Path:
    return make_clip(folder / "intra.mp4", **SMALL, frames=40, gop=1, b_frames=0).path


SOURCES = {
    "h264 with B frames": Source(_h264_b_frames),
    "h264 with open GOPs": Source(_open_gop_h264),
    "hevc 10 bit with open GOPs": Source(_open_gop_hevc_10_bit),
    "variable rate": Source(_variable_rate),
    "edit list in mid GOP": Source(_edit_list_in_mid_gop),
    "one long GOP": Source(_one_long_gop),
    "matroska in milliseconds": Source(_matroska),
    "all key frames": Source(_all_intra, Fraction(3, 10)),
}


@pytest.fixture(name="source", scope="module", params=SOURCES.values(), ids=SOURCES.keys())
def _source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    path = request.param.make(tmp_path_factory.mktemp("source"))
    plan = plan_file(path, segment_seconds=request.param.segment_seconds)
    assert len(plan.segments) >= 3
    return path, plan


def test_filtered_pixels_do_not_depend_on_cuts(source: tuple[Path, Plan]) -> None:
    path, made = source
    plan = with_enhancement(made)
    whole = as_one_segment(plan)
    unsegmented = filtered_hashes(path, whole, whole.segments)
    piecewise = [entry for segment in plan.segments for entry in filtered_hashes(path, plan, [segment])]
    assert unsegmented == piecewise


def test_decoding_starts_early_enough_for_the_plans_own_window(source: tuple[Path, Plan]) -> None:
    path, plan = source
    whole = as_one_segment(plan)
    unsegmented = filtered_hashes(path, whole, whole.segments)
    assert unsegmented == [
        entry for segment in plan.segments for entry in filtered_hashes(path, plan, [segment])
    ]


def test_bytes_do_not_depend_on_the_run(source: tuple[Path, Plan], tmp_path: Path) -> None:
    path, plan = source
    together = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert [_facts(done) for done in together] == [_facts(done) for done in alone]
    assert len({done.parameter_sets_sha256 for done in together}) == 1


def test_every_frame_comes_once_in_order_with_its_time(source: tuple[Path, Plan], tmp_path: Path) -> None:
    path, plan = source
    expected = read_frame_numbers(path)
    made = [
        shown
        for done in encode(path, plan, plan.segments, tmp_path)
        for shown in read_frame_numbers(Path(done.path))
    ]
    assert expected == made


def test_segment_files_hold_the_planned_times(source: tuple[Path, Plan], tmp_path: Path) -> None:
    path, plan = source
    digest, count = hashlib.sha256(), 0
    for done in encode(path, plan, plan.segments, tmp_path):
        with av.open(done.path) as container:
            stream = container.streams.video[0]
            assert stream.time_base == plan.output_time_base
            packets = [
                (packet.pts, packet.dts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size
            ]
        assert packets[0][2]
        assert all(dts is not None and pts is not None and dts <= pts for pts, dts, _ in packets)
        assert len({dts for _, dts, _ in packets}) == done.frame_count == len(packets)
        for pts in sorted(pts for pts, _, _ in packets if pts is not None):
            digest.update(b"%d\n" % pts)
            count += 1
    assert (count, digest.hexdigest()) == (plan.frame_count, plan.pts_sha256)


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_very_short_videos(tmp_path: Path, frames: int, codec: str) -> None:
    """x265 leaves decode times uninitialised in segments of one or two frames."""
    path = make_clip(tmp_path / "short.mp4", frames=frames, codec=codec).path
    plan = plan_file(path)
    one = encode(path, plan, plan.segments, tmp_path / "one")
    other = encode(path, plan, plan.segments, tmp_path / "other")
    assert [_facts(done) for done in one] == [_facts(done) for done in other]
    assert read_frame_numbers(path) == read_frame_numbers(Path(one[0].path))


def test_frames_before_the_time_stamp_are_not_enhanced(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=60, gop=30, noise_sigma=4.0).path
    plan = with_enhancement(plan_file(path, enhance_from_us=1_000_000, segment_seconds=HALF_SECOND))
    untouched = replace(plan, filters=replace(plan.filters, enhancement=()))
    everywhere = replace(plan, segments=tuple(replace(segment, enhanced=True) for segment in plan.segments))
    made = filtered_hashes(path, plan, plan.segments)
    assert made[:30] == filtered_hashes(path, untouched, plan.segments)[:30]
    enhanced = filtered_hashes(path, everywhere, everywhere.segments)
    assert made[30:] == enhanced[30:]
    assert made[29] != enhanced[29]


def test_a_plain_chain_passes_pixels_untouched(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "full.mp4", frames=20, pix_fmt="yuvj420p").path
    plan = with_enhancement(plan_file(path), (), 0)
    with av.open(str(path)) as container:
        source = [
            frame.reformat(format="yuv420p", src_color_range=2, dst_color_range=2)
            for frame in container.decode(video=0)
        ]
    with opened(path) as fd:
        made = [frame.picture for frame in filtered_frames(plan, plan.segments, fd)]
    assert len(made) == len(source)
    assert all(
        (one.to_ndarray() == other.to_ndarray()).all() for one, other in zip(made, source, strict=True)
    )


def test_frames_that_are_only_marked_as_key_frames_are_not_decoded_from(clips: Path) -> None:
    """A 2004 handset's sync samples after the first are P frames: decoding from one gives rubbish and no error."""
    path = clips / "phone_2004_h263_amr_vfr.3gp"
    plan = with_enhancement(plan_file(path, segment_seconds=Fraction(2)))
    # Its own key frames instead of the beginning, as a plan without a look-back would have them.
    plan = replace(plan, segments=tuple(replace(s, decode_from_pts=s.start_pts) for s in plan.segments))
    plain = replace(
        plan, filters=replace(plan.filters, enhancement=(), pre_roll_frames=0, post_roll_frames=0)
    )
    whole = as_one_segment(plain)
    unsegmented = filtered_hashes(path, whole, whole.segments)
    assert unsegmented == [
        entry for segment in plain.segments for entry in filtered_hashes(path, plain, [segment])
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_file_that_begins_in_an_open_gop(tmp_path: Path, suffix: str, codec: str) -> None:
    """Frames that need others from before the file's beginning are shown by no player."""
    whole = make_clip(
        tmp_path / "whole.mp4", **SMALL, frames=60, gop=15, b_frames=3, open_gop=True, codec=codec
    ).path
    path = tmp_path / f"cut{suffix}"
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        keys = 0
        for packet in source.demux(source.streams.video[0]):
            keys += packet.is_keyframe
            if packet.size and keys > 1:
                packet.stream = stream
                out.mux(packet)
    plan = plan_file(path, segment_seconds=HALF_SECOND)
    made = [
        shown
        for done in encode(path, plan, plan.segments, tmp_path / "out")
        for shown in read_frame_numbers(Path(done.path))
    ]
    assert made == read_frame_numbers(path)


def test_static_hdr_metadata_goes_through(tmp_path: Path) -> None:
    static = (
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    )
    path = tmp_path / "hdr.mp4"
    with av.open(str(path), "w") as out:
        options = {"x265-params": f"log-level=error:pools=none:frame-threads=1:hdr10=1:{static}"}
        stream = out.add_stream("libx265", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        stream.codec_context.color_trc = 16
        for k in range(9):
            frame = av.VideoFrame(64, 64, "yuv420p10le")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    plan = plan_file(path)
    assert static in plan.renditions[0].encoder.options["x265-params"]
    done = encode(path, plan, plan.segments, tmp_path / "out")[0]
    assert _hdr(Path(done.path)) == _hdr(path) != {}


def _hdr(path: Path) -> dict[str, bytes]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        names = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
        return {
            name: bytes(frame.side_data[name])
            for name in names
            if name in {d.type.name for d in frame.side_data}
        }


def test_a_worker_tells_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PROGRESS_SECONDS", 0)
    path = make_clip(tmp_path / "clip.mp4", **SMALL, frames=10).path
    plan = plan_file(path)
    messages: list[TaskMessage] = []
    task = EncodeTask(plan=plan, segments=plan.segments, output_paths=(str(tmp_path / "0.mp4"),))
    with opened(path) as fd:
        segments.encode_segments(task, fd, messages.append)
    told = [message for message in messages if isinstance(message, Progress)]
    assert [message.frames for message in told] == sorted(message.frames for message in told)
    assert told[0].frames == 0
    assert told[-1].frames == 10
    assert isinstance(messages[-1], SegmentDone)


def test_a_frame_the_decoder_calls_damaged_is_not_passed_on(clips: Path, tmp_path: Path) -> None:
    source = clips / "dog_720p30_10s.mp4"
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        position, size = packets[20].pos or 0, packets[20].size
    data = bytearray(source.read_bytes())
    for offset in range(size // 2, size // 2 + 40, 4):
        data[position + offset] ^= 0x55
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    plan = plan_file(path)
    with pytest.raises(MediaFault, match="DECODE_FAILED: At 0"):
        encode(path, plan, plan.segments[:1], tmp_path)


def test_a_damaged_source_fails_and_says_where(clips: Path, tmp_path: Path) -> None:
    path = clips / "hostile" / "corrupted_midfile.mp4"
    plan = plan_file(path)
    with pytest.raises(MediaFault, match=r"DECODE_FAILED: At \d+\.\d{3} s") as caught:
        encode(path, plan, plan.segments, tmp_path)
    assert caught.value.reason == "DECODE_FAILED"


def test_a_frame_missing_against_the_plan_is_no_silent_hole(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=40, gop=10).path
    plan = plan_file(path, segment_seconds=HALF_SECOND)
    wrong = replace(plan.segments[1], source_frame_count=plan.segments[1].source_frame_count + 1)
    with pytest.raises(MediaFault, match="DECODE_FAILED"):
        encode(path, plan, [plan.segments[0], wrong], tmp_path)


def test_a_picture_that_changes_its_size_is_named(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=10).path
    plan = plan_file(path)
    other = replace(plan, filters=replace(plan.filters, source_picture="640x360 yuv420p"))
    with pytest.raises(MediaFault, match="from 640x360 yuv420p to 320x180 yuv420p"):
        encode(path, other, plan.segments, tmp_path)


def test_segments_are_never_overwritten(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=10).path
    plan = plan_file(path)
    encode(path, plan, plan.segments, tmp_path / "out")
    with pytest.raises(FileExistsError):
        encode(path, plan, plan.segments, tmp_path / "out")


def _facts(done: SegmentDone) -> SegmentDone:
    """All but where the file lies."""
    return replace(done, path="")
