"""Seams: is the picture around them as good as elsewhere, and what do segments cost beside one encode of the same GOPs?"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from media_tasks import VIDEO_STREAM, encode, opened, probe_file
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.noise import analyze
from videoprocess_server.media.plan import make_plan
from videoprocess_server.media.segments import filtered_frames
from videoprocess_server.model.noise import noise_of
from videoprocess_server.model.plan import EncoderPlan, Plan, PlanSettings
from videoprocess_server.model.settings_snapshot import ModeSetting, Snapshot
from videoprocess_server.model.tasks import AnalyzeTask, PlanTask

NAME: Final = "seams"
#: clips that are there, with several segments each
DEFAULT_CLIPS: Final = (
    "dog_720p30_10s.mp4",
    "nasa_2video_2audio_2subs.mp4",
    "phone_2004_h263_amr_vfr.3gp",
)
#: rate factor of all encodes: bytes are compared at equal quality, so no cap may come between
CRF: Final = 20.0
#: by which the unsegmented encode is made too, to find its size at the segmented one's quality
STEPS: Final = (-1.0, 0.0, 1.0)
#: frames on each side of a seam that count as near it
NEAR_FRAMES: Final = 2
#: of media: short clips have seams, too
SEGMENT_SECONDS: Final = Fraction(4)
#: goals
MOST_MORE_BYTES_PERCENT: Final = 1.5
MOST_WORSE_DB: Final = 0.1
#: options that bound a segment's bytes
_BOUNDS: Final = frozenset({"maxrate", "bufsize"})


def run(work: Path, clips: Sequence[Path]) -> dict[str, Any]:
    """Measure each clip that has a seam.

    Returns:
        For each clip sizes in bytes, XPSNR of luma in dB, and whether the goals are met.
    """
    return {path.name: _measure(work / path.stem, path) for path in clips}


def _measure(work: Path, path: Path) -> dict[str, Any]:
    work.mkdir(parents=True, exist_ok=True)
    plan = _plan(path)
    if len(plan.segments) < 2:
        return {"skipped": "it is one segment"}
    cuts = [segment.start_pts for segment in plan.segments]
    encode(path, plan, plan.segments, work)
    files = [work / f"{segment.index}.mp4" for segment in plan.segments]
    segmented = _xpsnr(work, _wanted(path, plan), _decoded(files))
    wholes = []
    for step in STEPS:
        whole = work / f"whole{step:+.0f}.mkv"
        _encode_whole(path, plan, whole, CRF + step, cuts[1:])
        quality = _xpsnr(work, _wanted(path, plan), _decoded([whole]))
        wholes.append((_mean(quality), _track_bytes(whole), quality))
    size = sum(map(_track_bytes, files))
    more_percent = (size / _size_at(_mean(segmented), wholes) - 1) * 100
    near = _near(path, plan)
    at_seams, elsewhere = _split(segmented, near)
    whole_at_seams, whole_elsewhere = _split(wholes[1][2], near)
    worse = (whole_at_seams.mean() - at_seams.mean()) - (whole_elsewhere.mean() - elsewhere.mean())
    return {
        "segments": len(plan.segments),
        "frames": len(segmented),
        "bytes": size,
        "unsegmented_bytes_at_equal_xpsnr": round(_size_at(_mean(segmented), wholes)),
        "more_bytes_percent": round(more_percent, 2),
        "xpsnr_y_db": {
            "whole_video": round(_mean(segmented), 2),
            "at_seams": round(float(at_seams.mean()), 2),
            "elsewhere": round(float(elsewhere.mean()), 2),
            "worst_at_seams": round(float(at_seams.min()), 2),
            "worst_elsewhere": round(float(elsewhere.min()), 2),
            "unsegmented_at_seams": round(float(whole_at_seams.mean()), 2),
            "unsegmented_elsewhere": round(float(whole_elsewhere.mean()), 2),
        },
        "worse_at_seams_than_unsegmented_db": round(float(worse), 3),
        "goals": {
            "more_bytes_percent": {
                "at_most": MOST_MORE_BYTES_PERCENT,
                "met": more_percent <= MOST_MORE_BYTES_PERCENT,
            },
            "seams_no_worse": {
                "at_most_db": MOST_WORSE_DB,
                "met": bool(
                    at_seams.mean() >= elsewhere.mean() - MOST_WORSE_DB and at_seams.min() >= elsewhere.min()
                )
                or bool(worse <= MOST_WORSE_DB),
            },
        },
        "per_frame_xpsnr_y_db": [round(value, 2) for value in segmented],
        "frames_at_seams": [place for place, is_near in enumerate(near) if is_near],
    }


def _plan(path: Path) -> Plan:
    media = probe_file(path)
    with opened(path) as fd:
        noise = noise_of([analyze(AnalyzeTask(video=media.video), fd)])
    task = PlanTask(
        media=media,
        snapshot=Snapshot(streams=(VIDEO_STREAM,), mode_setting=ModeSetting(crf=CRF)),
        enhance_from_us=0,
        noise=noise,
        settings=PlanSettings(segment_seconds=SEGMENT_SECONDS),
    )
    with opened(path) as fd:
        return make_plan(task, fd)


def _wanted(path: Path, plan: Plan) -> Iterator[VideoFrame]:
    """The frames that go into the encoder."""
    chain = FilterChain(plan.renditions[0].geometry, plan.output_time_base)
    with opened(path) as fd:
        for frame in filtered_frames(plan, plan.segments, fd):
            yield from chain.push(frame.picture)
    yield from chain.push(None)


def _decoded(files: Iterable[Path]) -> Iterator[VideoFrame]:
    for file in files:
        with av.open(str(file)) as clip:
            yield from clip.decode(video=0)


def _encode_whole(path: Path, plan: Plan, output: Path, crf: float, cuts: Sequence[int]) -> None:
    """Encode without segments: one encoder, told to begin a GOP where segments would."""
    coded = plan.renditions[0].encoder
    options = coded.options | plan.segments[0].encoder_options.get(plan.renditions[0].stream_id, {})
    options = {name: value for name, value in options.items() if name not in _BOUNDS}
    options |= {"crf": f"{crf:g}", "forced-idr": "1"}
    output.unlink(missing_ok=True)
    with av.open(str(output), "w") as container:
        stream = _stream(container, coded, options, plan.output_time_base)
        for frame in _wanted(path, plan):
            pts = (frame.pts or 0) * plan.output_time_base / plan.time_base
            frame.pict_type = PictureType.I if pts in cuts else PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _stream(
    container: Any,  # noqa: ANN401 - an OutputContainer
    coded: EncoderPlan,
    options: dict[str, str],
    time_base: Fraction,
) -> VideoStream:
    stream = container.add_stream(coded.encoder, rate=coded.frame_rate, options=options)
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.thread_count = coded.thread_count
    context.width, context.height, context.pix_fmt = coded.width, coded.height, coded.pixel_format
    context.time_base, context.framerate = time_base, coded.frame_rate
    return stream


def _xpsnr(work: Path, wanted: Iterator[VideoFrame], made: Iterator[VideoFrame]) -> list[float]:
    """XPSNR of luma of every frame in dB, as FFmpeg's filter tells it (Helmrich et al., ICASSP 2020)."""
    stats = work / "xpsnr.log"
    stats.unlink(missing_ok=True)
    push: Callable[[VideoFrame, VideoFrame], None] | None = None
    graph = Graph()
    for number, (before, after) in enumerate(zip(wanted, made, strict=True)):
        for frame in (before, after):
            frame.pts, frame.time_base = number, Fraction(1, 30)
        if push is None:
            push = _comparison(graph, before, after, stats)
        push(before, after)
    assert push is not None
    graph.push(None)
    while True:
        try:
            graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            break
    del graph, push
    return [_luma_of(line) for line in stats.read_text().splitlines() if line.startswith("n:")]


def _comparison(
    graph: Graph, before: VideoFrame, after: VideoFrame, stats: Path
) -> Callable[[VideoFrame, VideoFrame], None]:
    sources = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 30)
        )
        for frame in (before, after)
    ]
    compare = graph.add("xpsnr", f"stats_file={stats}")
    sources[0].link_to(compare, 0, 0)
    sources[1].link_to(compare, 0, 1)
    sink = graph.add("buffersink")
    compare.link_to(sink)
    graph.configure()

    def push(one: VideoFrame, other: VideoFrame) -> None:
        sources[0].push(one)
        sources[1].push(other)
        try:
            while True:
                sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return

    return push


def _luma_of(line: str) -> float:
    value = float(line.split("XPSNR y:")[1].split(maxsplit=1)[0])
    return 100.0 if math.isinf(value) else value


def _mean(values: Sequence[float]) -> float:
    """Of decibels by their errors, as a whole video's is told."""
    return float(-10 * np.log10(np.mean(10 ** (-np.asarray(values) / 10))))


def _size_at(quality: float, wholes: Sequence[tuple[float, int, list[float]]]) -> float:
    """The unsegmented encode's bytes at a quality: its logarithm is nearly a straight line over so small a range."""
    ordered = sorted((db, math.log(size)) for db, size, _ in wholes)
    slopes = np.polyfit([db for db, _ in ordered], [size for _, size in ordered], 1)
    return float(math.exp(np.polyval(slopes, quality)))


def _track_bytes(path: Path) -> int:
    with av.open(str(path)) as clip:
        return sum(packet.size for packet in clip.demux(video=0))


def _near(path: Path, plan: Plan) -> list[bool]:
    """Of every frame, whether a seam is near."""
    times = [(frame.pts or 0) for frame in _wanted(path, plan)]
    ticks = plan.time_base / plan.output_time_base
    places = [bisect_left(times, segment.start_pts * ticks) for segment in plan.segments[1:]]
    return [
        any(place - NEAR_FRAMES <= number < place + NEAR_FRAMES for place in places)
        for number in range(len(times))
    ]


def _split(values: Sequence[float], near: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    array, mask = np.asarray(values), np.asarray(near)
    return array[mask], array[~mask]


def plot(measured: dict[str, Any], path: Path) -> None:
    """Draw every frame's XPSNR with the seams marked, as PATH.png."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    clips = {name: figures for name, figures in measured.items() if "skipped" not in figures}
    figure, axes = plt.subplots(max(1, len(clips)), 1, figsize=(9, 2.6 * max(1, len(clips))), squeeze=False)
    for (name, figures), axis in zip(clips.items(), axes[:, 0], strict=False):
        values = figures["per_frame_xpsnr_y_db"]
        axis.plot(values, linewidth=0.8)
        for place in figures["frames_at_seams"]:
            axis.axvspan(place - 0.5, place + 0.5, color="tab:orange", alpha=0.3)
        axis.set_title(f"{name}: {figures['more_bytes_percent']} % more bytes than unsegmented", fontsize=9)
        axis.set_ylabel("XPSNR Y, dB")
    axes[-1, 0].set_xlabel("frame; seams are orange")
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=80)
    plt.close(figure)
