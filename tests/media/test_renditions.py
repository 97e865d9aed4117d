"""Any set of streams is made in one pass, and each is what it would be alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import av
import pytest

from media_factory import Colours, make_clip, read_frame_numbers
from media_tasks import encode, opened, plan_file, probe_file
from videoprocess_server.media.encode import renditions_in
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.join import join
from videoprocess_server.media.proxies import fit_proxy
from videoprocess_server.media.stills import write_stills
from videoprocess_server.media.verify import verify
from videoprocess_server.model.hdi import EncodeType, PixelFormat, StreamIntent
from videoprocess_server.model.plan import Plan, Rendition
from videoprocess_server.model.settings_snapshot import StreamInfo
from videoprocess_server.model.tasks import JoinTask, StillsTask, VerifyTask

VIDEO = StreamInfo(stream_id=1, intent=StreamIntent.VIDEO)
PREVIEW = StreamInfo(stream_id=2, intent=StreamIntent.PREVIEW)
COVER = StreamInfo(stream_id=3, intent=StreamIntent.STILL_CAPTURE)
THUMBNAILS = StreamInfo(stream_id=4, intent=StreamIntent.POST_VIEW)
H265 = StreamInfo(stream_id=5, intent=StreamIntent.VIDEO, encode_type=EncodeType.H265, width=96, height=64)
EVERYTHING = (VIDEO, PREVIEW, COVER, THUMBNAILS, H265)
HALF_SECOND = Fraction(1, 2)
HLG = Colours(primaries=9, transfer=18, matrix=9)
HDR10 = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
CLIPS = Path(__file__).parent.parent / "clips"


def files_of(source: Path, folder: Path, plan: Plan) -> dict[int, list[bytes]]:
    """Takes a plan through all media tasks: the bytes of each stream's files."""
    segments = encode(source, plan, plan.segments, folder / "segments")
    paths = tuple(done.path for done in segments)
    return {
        made.stream_id: (_joined if made.is_moving else _stills)(source, folder, plan, index, paths)
        for index, made in enumerate(plan.renditions)
    }


def _joined(source: Path, folder: Path, plan: Plan, index: int, paths: tuple[str, ...]) -> list[bytes]:
    media, made = probe_file(source), plan.renditions[index]
    path = folder / f"{made.stream_id}{made.file_extension}"
    task = JoinTask(media=media, plan=plan, rendition_index=index, segment_paths=paths, output_path=str(path))
    with opened(source) as fd:
        result = join(task, fd, lambda message: None)
    check = VerifyTask(plan=plan, rendition_index=index, media=media, join=result, path=str(path))
    with opened(source) as fd:
        verify(check, fd, lambda message: None)
    return [path.read_bytes()]


def _stills(_source: Path, folder: Path, plan: Plan, index: int, paths: tuple[str, ...]) -> list[bytes]:
    made = plan.renditions[index]
    outputs = [folder / f"{made.stream_id}_{k}.jpg" for k in range(len(made.still_pts or ()))]
    task = StillsTask(
        plan=plan,
        rendition_index=index,
        segment_paths=paths,
        output_paths=tuple(str(path) for path in outputs),
    )
    write_stills(task, lambda message: None)
    return [path.read_bytes() for path in outputs]


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, frames=45, gop=15, b_frames=3, width=128, height=96, audio="aac", rotation=90).path


@pytest.fixture(name="together", scope="module")
def _together(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[bytes]]:
    plan = plan_file(clip, streams=EVERYTHING, segment_seconds=HALF_SECOND)
    return files_of(clip, tmp_path_factory.mktemp("together"), plan)


@pytest.mark.parametrize("stream", EVERYTHING, ids=lambda stream: f"{stream.intent.name} {stream.stream_id}")
def test_a_stream_is_the_same_alone(
    clip: Path, together: dict[int, list[bytes]], stream: StreamInfo, tmp_path: Path
) -> None:
    alone = files_of(clip, tmp_path, plan_file(clip, streams=[stream], segment_seconds=HALF_SECOND))
    assert alone == {stream.stream_id: together[stream.stream_id]}


@pytest.mark.slow
def test_the_order_of_streams_does_not_matter(
    clip: Path, together: dict[int, list[bytes]], tmp_path: Path
) -> None:
    plan = plan_file(clip, streams=EVERYTHING[::-1], segment_seconds=HALF_SECOND)
    assert [made.stream_id for made in plan.renditions] == [5, 4, 3, 2, 1]
    assert files_of(clip, tmp_path, plan) == together


def test_every_set_of_streams_is_planned(clip: Path) -> None:
    for count in range(1, len(EVERYTHING) + 1):
        for streams in combinations(EVERYTHING, count):
            plan = plan_file(clip, streams=streams, segment_seconds=HALF_SECOND)
            assert [made.stream_id for made in plan.renditions] == [stream.stream_id for stream in streams]
            assert plan.is_moving == any(made.is_moving for made in plan.renditions)
            shown = [made for segment in plan.segments for made in renditions_in(plan, segment)]
            assert {made.stream_id for made in shown} == {stream.stream_id for stream in streams}


def test_bytes_do_not_depend_on_the_run(clip: Path, tmp_path: Path) -> None:
    plan = plan_file(clip, streams=EVERYTHING, segment_seconds=HALF_SECOND)
    one_run = encode(clip, plan, plan.segments, tmp_path / "together")
    alone = [encode(clip, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert [replace(done, path="") for done in one_run] == [replace(done, path="") for done in alone]


# -- proxies


def preview_of(path: Path, **changes: object) -> Rendition:
    stream = replace(PREVIEW, **changes)  # type: ignore[arg-type]
    return plan_file(path, streams=[stream]).renditions[0]


def test_a_proxy_has_all_frames_times_and_tracks(
    clip: Path, together: dict[int, list[bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "proxy.mp4"
    path.write_bytes(together[PREVIEW.stream_id][0])
    assert read_frame_numbers(path) == read_frame_numbers(clip)
    with av.open(str(path)) as proxy, av.open(str(clip)) as source:
        assert [stream.type for stream in proxy.streams] == [stream.type for stream in source.streams]
        sounds = [
            [hashlib.sha256(bytes(packet)).digest() for packet in file.demux(audio=0) if packet.size]
            for file in (proxy, source)
        ]
        assert sounds[0] == sounds[1]
    with av.open(str(path)) as proxy:
        assert next(proxy.decode(video=0)).rotation == 90


@pytest.mark.parametrize(
    ("size", "asked", "made"),
    [
        ((320, 180), (0, 0), (320, 180)),
        ((1280, 720), (0, 0), (640, 360)),
        ((720, 1280), (0, 0), (360, 640)),
        ((1366, 768), (0, 0), (640, 360)),
        ((321, 181), (0, 0), (320, 180)),
        ((1280, 720), (0, 240), (426, 240)),
        ((1280, 720), (400, 0), (400, 224)),
        ((1280, 720), (200, 200), (200, 200)),
        ((320, 180), (640, 360), (640, 360)),
        ((4000, 20), (0, 0), (640, 16)),
    ],
)
def test_the_size_of_a_proxy(size: tuple[int, int], asked: tuple[int, int], made: tuple[int, int]) -> None:
    assert fit_proxy(size, replace(PREVIEW, width=asked[0], height=asked[1]), 16) == made


@pytest.mark.parametrize(
    ("asked", "made", "aspect"), [((0, 50), (66, 50), 0), ((100, 100), (100, 100), Fraction(4, 3))]
)
def test_a_proxy_is_not_distorted(
    clip: Path, asked: tuple[int, int], made: tuple[int, int], aspect: Fraction
) -> None:
    """The clip is 128 by 96; sides that were rounded to even ones are no other shape."""
    encoder = preview_of(clip, width=asked[0], height=asked[1]).encoder
    assert (encoder.width, encoder.height, encoder.sample_aspect_ratio) == (*made, aspect)


def test_a_proxy_of_hdr_is_hdr(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "clip.mp4", frames=6, codec="libx265", pix_fmt="yuv420p10le", colours=HLG
    ).path
    plan = plan_file(path, streams=[PREVIEW])
    (data,) = files_of(path, tmp_path / "out", plan)[PREVIEW.stream_id]
    result = tmp_path / "proxy.mp4"
    result.write_bytes(data)
    with av.open(str(result)) as container:
        frame = next(container.decode(video=0))
        assert container.streams.video[0].codec_context.codec.canonical_name == "hevc"
    assert frame.format.name == "yuv420p10le"
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 18, 9)


def test_a_proxy_of_deep_sdr_plays_everywhere(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=2, codec="libx265", pix_fmt="yuv422p10le").path
    assert (preview_of(path).encoder.codec, preview_of(path).encoder.pixel_format) == ("h264", "yuv420p")
    deep = preview_of(path, format=int(PixelFormat.YCBCR_P010))
    assert (deep.encoder.codec, deep.encoder.pixel_format) == ("hevc", "yuv420p10le")


@pytest.mark.parametrize(("asked", "codec"), [(EncodeType.H264, "h264"), (EncodeType.H265, "hevc")])
def test_a_proxy_is_encoded_as_asked(tmp_path: Path, asked: EncodeType, codec: str) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=3).path
    assert preview_of(path, encode_type=asked).encoder.codec == codec
    hdr = make_clip(tmp_path / "hdr.mp4", frames=3, codec="libx265", pix_fmt="yuv420p10le", colours=HLG).path
    assert preview_of(hdr, encode_type=asked).encoder.pixel_format == "yuv420p10le"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encode_type": EncodeType.JPEG}, "STREAM_NOT_SUPPORTED"),
        ({"width": 101, "height": 100}, "SIZE_NOT_SUPPORTED"),
        ({"width": 20_000, "height": 2}, "SIZE_NOT_SUPPORTED"),
        ({"format": 99}, "STREAM_NOT_SUPPORTED"),
    ],
)
def test_what_a_proxy_cannot_be_is_refused(clip: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(MediaFault) as caught:
        preview_of(clip, **changes)
    assert caught.value.reason == reason


def test_a_proxy_is_said_to_lack_no_more_than_frames(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", frames=2, codec="libx265", pix_fmt="yuv422p10le").path
    assert plan_file(path, streams=[PREVIEW]).not_kept == ()


def make_hdr10(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        options = {"x265-params": f"log-level=error:pools=none:frame-threads=1:hdr10=1:{HDR10}"}
        stream = out.add_stream("libx265", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        stream.codec_context.color_trc = 16
        for pts in range(3):
            frame = av.VideoFrame(64, 64, "yuv420p10le")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = pts
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("asked", [EncodeType.NULL, EncodeType.H264])
def test_a_proxy_says_what_it_lacks_of_hdr(tmp_path: Path, asked: EncodeType) -> None:
    """Metadata of HDR10 in H.264, and of each picture in any: the video keeps them, so the proxy is no failure."""
    path = make_hdr10(tmp_path / "clip.mp4")
    plan = plan_file(path, streams=[VIDEO, replace(PREVIEW, encode_type=asked)])
    assert [len(files) for files in files_of(path, tmp_path / "out", plan).values()] == [1, 1]
    assert plan.not_kept == ()
    assert ("HDR10" in plan.renditions[1].note) is (asked is EncodeType.H264)


@pytest.mark.slow
def test_a_proxy_of_dolby_vision_says_that_it_is_none(tmp_path: Path) -> None:
    path = CLIPS / "iphone14pro_hlg_noaudio_opengop_rot90.mov"
    plan = plan_file(path, streams=[replace(PREVIEW, width=160)])
    assert list(files_of(path, tmp_path / "out", plan)) == [PREVIEW.stream_id]
    assert "Dolby Vision" in plan.renditions[0].note


def test_streams_may_come_twice(clip: Path, tmp_path: Path) -> None:
    streams: Sequence[StreamInfo] = [replace(THUMBNAILS, stream_id=k, width=32 * k) for k in (1, 2)]
    made = files_of(clip, tmp_path, plan_file(clip, streams=streams, segment_seconds=HALF_SECOND))
    sizes = {k: _sizes(made[k]) for k in (1, 2)}
    # the clip is turned by a right angle
    assert sizes == {1: {(32, 43)}, 2: {(64, 85)}}


def _sizes(pictures: Sequence[bytes]) -> set[tuple[int, int]]:
    found = set()
    for data in pictures:
        context = av.CodecContext.create("mjpeg", "r")
        found |= {(frame.width, frame.height) for frame in context.decode(av.Packet(data))}
    return found
