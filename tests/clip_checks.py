"""Compares a result with its source as two independent readers see them: PyAV frame by frame, and an ffmpeg program.

Nothing here asks the service's own media code; what the report says is compared with what is found.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import av
import imageio_ffmpeg
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from frame_pictures import plane_values
from videoprocess.v1 import report_pb2

#: cells a picture is reduced to before it is compared with its neighbours
COLUMNS, ROWS = 64, 36
#: mean squared difference of cells, in code values of 255, from which on two pictures differ visibly
VISIBLE = 1.0
#: codecs of which demuxers make packets as they like: only the row of bytes is a fact
_GROUPED = ("pcm_", "amr")
#: FFmpeg's numbers: colours that are not told, and full range
_UNKNOWN, _FULL = 2, 2
_T = TypeVar("_T")

#: the null muxer counts in 1/frame rate unless told otherwise and warns about variable rates, whatever the file
_TO_NOWHERE = (
    "-map",
    "0:v",
    "-map",
    "0:a?",
    "-fps_mode",
    "passthrough",
    "-enc_time_base:v",
    "demux",
    "-f",
    "null",
    "-",
)


@dataclass(frozen=True)
class CopiedTrack:
    """A track beside the processed picture, in source and result."""

    #: in the source
    index: int
    kind: str
    codec: str
    packets_in: int
    packets_out: int
    #: packets that the source's edit list hides
    hidden: int
    #: and those that the result's hides
    hidden_out: int
    same_bytes: bool
    same_times: bool


@dataclass(frozen=True)
class Picture:
    """What a player is told about the processed track."""

    codec: str
    width: int
    height: int
    pixel_format: str
    #: primaries, transfer, matrix of ISO/IEC 23091-2; full range
    colour: tuple[int, int, int, bool]
    rotation: int
    matrix: str


@dataclass(frozen=True)
class ClipRow:
    """A source and its result, compared."""

    name: str
    segments: int
    frames_in: int
    frames_out: int
    #: frames of the result whose presentation time is not exactly the source's
    other_times: int
    #: frames of the result that are more like a neighbour of the frame they should be
    other_pictures: int
    tracks: tuple[CopiedTrack, ...]
    #: seconds from the first picture to the first packet of sound; None without sound
    sound_after_picture_in: Fraction | None
    sound_after_picture_out: Fraction | None
    picture_in: Picture
    picture_out: Picture
    #: what the independent ffmpeg says about the result
    messages: str
    faults: tuple[str, ...] = field(default=())


def examine(source: Path, result: Path, report: report_pb2.ProcessReport) -> ClipRow:
    """Compares `result` with `source`, and both with `report`.

    Args:
        source: the recording.
        result: what the service made of it, at the source's frame rate and size.
        report: what the service says it did.

    Returns:
        What was found; `faults` is empty where the result is what was promised.
    """
    places = _places(source, result, report)
    pictures = _Pictures(source, main_track(source), result, places[main_track(source)])
    packets_in, packets_out = _packets(source), _packets(result)
    everything_in, everything_out = (_packets(path, ignore_edit_list=True) for path in (source, result))
    tracks = tuple(
        _copied(
            index,
            (packets_in[index], everything_in[index]),
            (packets_out[place], everything_out[place]),
            matroska=source.suffix == ".mkv",
        )
        for index, place in places.items()
        if index != main_track(source)
    )
    sound = [(track.index, places[track.index]) for track in tracks if track.kind == "audio"]
    row = ClipRow(
        name=source.name,
        segments=report.segment_count,
        frames_in=len(pictures.times_in),
        frames_out=len(pictures.times_out),
        other_times=sum(a != b for a, b in zip_longest(pictures.times_in, pictures.times_out)),
        other_pictures=pictures.others,
        tracks=tracks,
        sound_after_picture_in=packets_in[sound[0][0]].times[0] - pictures.times_in[0] if sound else None,
        sound_after_picture_out=packets_out[sound[0][1]].times[0] - pictures.times_out[0] if sound else None,
        picture_in=pictures.picture_in,
        picture_out=pictures.picture_out,
        messages=independent_messages(result),
    )
    faults = (*_picture_faults(row, report), *_track_faults(row, source, report))
    return ClipRow(**{**row.__dict__, "faults": faults})


def main_track(path: Path) -> int:
    """Index of the track that is processed: the one with the most pixels."""
    with open_clip(path) as container:
        return max(container.streams.video, key=lambda s: (s.width * s.height, -s.index)).index


def open_clip(path: Path, *, ignore_edit_list: bool = False) -> InputContainer:
    """Opens a file; a tag that is not UTF-8 does not matter."""
    options = {"ignore_editlist": "1"} if ignore_edit_list else {}
    return av.open(str(path), options=options, metadata_errors="replace")


def independent_messages(path: Path) -> str:
    """What an ffmpeg that is not PyAV's says while it decodes pictures and sound to the end; "" is well."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-v",
        "warning",
        "-xerror",
        "-i",
        str(path),
        *_TO_NOWHERE,
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    # User keys may be of a type that FFmpeg does not read; they are kept.
    lines = [line for line in run.stderr.splitlines() if "Skipping unhandled metadata" not in line]
    said = "\n".join(lines).replace(str(path), path.name).strip()
    return said if run.returncode == 0 else f"{said} (exit code {run.returncode})".strip()


@dataclass
class _Track:
    kind: str
    codec: str
    digests: list[bytes] = field(default_factory=list)
    times: list[Fraction] = field(default_factory=list)
    run: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    discarded: int = 0

    @property
    def grouped(self) -> bool:
        return self.codec.startswith(_GROUPED)


def _packets(path: Path, *, ignore_edit_list: bool = False) -> dict[int, _Track]:
    """Every track's packets as the demuxer gives them."""
    with open_clip(path, ignore_edit_list=ignore_edit_list) as container:
        tracks = {
            s.index: _Track(s.type, s.codec_context.codec.canonical_name if s.codec_context else "")
            for s in container.streams
        }
        for packet in container.demux():
            if not packet.size:
                continue
            track = tracks[packet.stream_index]
            at = packet.pts if packet.pts is not None else packet.dts
            assert at is not None
            data = bytes(packet)
            track.digests.append(hashlib.sha256(data).digest())
            track.run.update(data)
            track.size += len(data)
            track.times.append(at * packet.time_base)
            track.discarded += packet.is_discard
    return tracks


def _copied(
    index: int, before: tuple[_Track, _Track], after: tuple[_Track, _Track], *, matroska: bool
) -> CopiedTrack:
    """Compares a track as it is shown, and with all that its edit list hides."""
    # Without edit lists an MP4 of a Matroska file begins at 0.
    pairs = list(zip(before, after, strict=True))[: 1 if matroska else 2]
    (source, everything), (out, everything_out) = before, after
    same = all(a.run.digest() == b.run.digest() if a.grouped else a.digests == b.digests for a, b in pairs)
    times = all(a.times[:1] == b.times[:1] if a.grouped else a.times == b.times for a, b in pairs)
    return CopiedTrack(
        index=index,
        kind=source.kind,
        codec=source.codec,
        packets_in=len(source.digests),
        packets_out=len(out.digests),
        hidden=max(0, len(everything.digests) - len(source.digests)),
        hidden_out=max(0, len(everything_out.digests) - len(out.digests)),
        same_bytes=same,
        same_times=times,
    )


def _places(source: Path, result: Path, report: report_pb2.ProcessReport) -> dict[int, int]:
    """Track of the source → track of the result, for all that are kept; they keep their order."""
    with open_clip(source) as container:
        count = len(container.streams)
    assert list(range(count)) == [track.index for track in report.tracks], "the report leaves out a track"
    kept = [track.index for track in report.tracks if track.kept]
    with open_clip(result) as container:
        assert len(container.streams) >= len(kept), "the result lacks a track that the report says is kept"
        return dict(zip(kept, [stream.index for stream in container.streams], strict=False))


class _Pictures:
    """Walks over both pictures side by side; three frames of the source are in memory."""

    def __init__(self, source: Path, source_index: int, result: Path, result_index: int) -> None:
        self.times_in: list[Fraction] = []
        self.times_out: list[Fraction] = []
        self.others = 0
        with open_clip(source) as a, open_clip(result) as b:
            both = zip_longest(_with_neighbours(self._source(a, source_index)), self._result(b, result_index))
            for around, made in both:
                if around is not None and made is not None:
                    self._compare(*around, made)

    def _source(self, container: InputContainer, index: int) -> Iterator[NDArray[np.float64]]:
        for frame in _frames(container, index):
            if not self.times_in:
                self.picture_in = _picture(container, index, frame)
            self.times_in.append(_time(frame))
            yield _cells(frame)

    def _result(self, container: InputContainer, index: int) -> Iterator[NDArray[np.float64]]:
        for frame in _frames(container, index):
            if not self.times_out:
                self.picture_out = _picture(container, index, frame)
            self.times_out.append(_time(frame))
            yield _cells(frame)

    def _compare(
        self,
        before: NDArray[np.float64] | None,
        this: NDArray[np.float64],
        after: NDArray[np.float64] | None,
        made: NDArray[np.float64],
    ) -> None:
        neighbours = [
            cells for cells in (before, after) if cells is not None and _far(cells, this) >= VISIBLE
        ]
        if neighbours:
            self.others += any(_far(made, cells) <= _far(made, this) for cells in neighbours)


def _frames(container: InputContainer, index: int) -> Iterator[VideoFrame]:
    stream: Any = container.streams[index]
    stream.thread_type = "SLICE"
    yield from container.decode(stream)


def _time(frame: VideoFrame) -> Fraction:
    assert frame.pts is not None
    assert frame.time_base is not None
    return frame.pts * frame.time_base


def _cells(frame: VideoFrame) -> NDArray[np.float64]:
    """Means of luma over a coarse grid, in code values of 255: neither noise nor sharpness counts."""
    values = plane_values(frame, 0)
    tall, wide = values.shape[0] // ROWS, values.shape[1] // COLUMNS
    cut = values[: tall * ROWS, : wide * COLUMNS].reshape(ROWS, tall, COLUMNS, wide)
    cells: NDArray[np.float64] = cut.mean(axis=(1, 3)) / 2 ** (frame.format.components[0].bits - 8)
    return cells


def _far(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.mean((a - b) ** 2))


def _with_neighbours(items: Iterable[_T]) -> Iterator[tuple[_T | None, _T, _T | None]]:
    before: _T | None = None
    this: _T | None = None
    for after in items:
        if this is not None:
            yield before, this, after
        before, this = this, after
    if this is not None:
        yield before, this, None


def _picture(container: InputContainer, index: int, frame: VideoFrame) -> Picture:
    stream: Any = container.streams[index]
    try:
        matrix = bytes(frame.side_data.get("DISPLAYMATRIX") or b"")  # type: ignore[call-overload]
    except ValueError:  # PyAV 18 cannot list side data of which it does not know one kind
        matrix = b""
    full = frame.color_range == _FULL or "yuvj" in frame.format.name
    return Picture(
        codec=stream.codec_context.codec.canonical_name,
        width=frame.width,
        height=frame.height,
        pixel_format=frame.format.name.replace("yuvj", "yuv"),
        colour=(int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace), full),
        rotation=int(frame.rotation),
        matrix="" if not frame.rotation else matrix.hex(),
    )


def _picture_faults(row: ClipRow, report: report_pb2.ProcessReport) -> Iterator[str]:
    named = {loss.what for loss in report.not_kept}
    before, after = row.picture_in, row.picture_out
    if row.frames_in != row.frames_out:
        yield f"{row.frames_in} frames became {row.frames_out}"
    if row.other_times:
        yield f"{row.other_times} frames have another time"
    if row.other_pictures:
        yield f"{row.other_pictures} frames are more like a neighbour of theirs"
    if (before.rotation, before.matrix) != (after.rotation, after.matrix):
        yield f"the rotation {before.rotation} became {after.rotation}, the matrix {before.matrix}: {after.matrix}"
    if before.colour != after.colour and report_pb2.NOT_KEPT_CATEGORY_COLOR not in named:
        yield f"the colour {before.colour} became {after.colour}"
    if before.codec != after.codec and report_pb2.NOT_KEPT_CATEGORY_CODEC not in named:
        yield f"{before.codec} became {after.codec} and is not named"
    if (before.width, before.height) != (after.width, after.height):
        yield f"the size became {after.width}x{after.height}"
    if row.sound_after_picture_in != row.sound_after_picture_out:
        yield f"sound lies {row.sound_after_picture_out} s after the picture, not {row.sound_after_picture_in} s"
    if row.messages:
        yield f"another ffmpeg says: {row.messages}"
    counts = report.frames
    if (counts.source, counts.encoded, counts.dropped) != (row.frames_in, row.frames_out, 0):
        yield f"the report counts {counts.source} frames in, {counts.encoded} out, {counts.dropped} dropped"


def _track_faults(row: ClipRow, source: Path, report: report_pb2.ProcessReport) -> Iterator[str]:
    for track in row.tracks:
        name = f"track {track.index} ({track.codec or track.kind})"
        if not track.same_bytes:
            yield f"{name}: {track.packets_in} packets became {track.packets_out}, or others"
        if not track.same_times:
            yield f"{name}: packets have other times"
        if track.hidden != track.hidden_out and source.suffix != ".mkv":
            yield f"{name}: {track.hidden} packets were hidden by the edit list, {track.hidden_out} are"
    named = defaultdict(set)
    for loss in report.not_kept:
        if loss.what == report_pb2.NOT_KEPT_CATEGORY_UNSPECIFIED or not loss.reason or loss.count < 1:
            yield f"a loss is not named well: {loss}"
        named[loss.what].add(loss.track_index if loss.HasField("track_index") else None)
    with open_clip(source) as container:
        chapters = bool(container.chapters())
    for reported in report.tracks:
        if (
            not reported.kept
            and reported.index not in named[report_pb2.NOT_KEPT_CATEGORY_TRACK]
            and not chapters
        ):
            yield f"track {reported.index} is gone and not named"
