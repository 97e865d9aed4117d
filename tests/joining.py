"""Takes a file through all media tasks, and looks at results with readers that are not the service's."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
from av.stream import Stream

from media_tasks import encode, opened, plan_file, probe_file
from videoprocess_server.engine.outcome import Verification, verification_of
from videoprocess_server.media.check import Track, check_segment
from videoprocess_server.media.join import join
from videoprocess_server.media.units import count_units, single_units
from videoprocess_server.media.verify import verify
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.quality import CheckedVideo
from videoprocess_server.model.tasks import (
    JoinResult,
    JoinTask,
    VerifyResult,
    VerifyTask,
)


@dataclass(frozen=True)
class Joined:
    source: Path
    media: MediaInfo
    plan: Plan
    segment_paths: tuple[str, ...]
    path: Path
    result: JoinResult


def joined(
    source: Path,
    folder: Path,
    segment_seconds: Fraction = Fraction(1, 2),
    *,
    maker: bool = False,
    **asked: Any,
) -> Joined:
    """Plans, encodes and joins; the enhancement is what the plan chooses for a noise of 2.

    Args:
        source: a clip.
        folder: where to.
        segment_seconds: of the plan.
        maker: whether the file gets our own track.
        asked: of `plan_file`.
    """
    media, plan = probe_file(source), plan_file(source, segment_seconds=segment_seconds, **asked)
    segments = encode(source, plan, plan.segments, folder / "segments")
    paths = tuple(segment.path for segment in segments)
    path = folder / f"result{plan.renditions[0].file_extension}"
    return Joined(source, media, plan, paths, path, join_again(source, media, plan, paths, path, maker=maker))


def join_again(
    source: Path,
    media: MediaInfo,
    plan: Plan,
    segment_paths: tuple[str, ...],
    path: Path,
    *,
    maker: bool = False,
) -> JoinResult:
    task = JoinTask(
        media=media,
        plan=plan,
        rendition_index=0,
        segment_paths=segment_paths,
        output_path=str(path),
        maker=maker,
    )
    with opened(source) as fd:
        return join(task, fd, lambda message: None)


def verified(made: Joined, data: bytes | None = None) -> Verification:
    """Verifies a result, or other bytes that pretend to be it, as a job does: what its packets decode to is the segments' to tell.

    Raises:
        MediaFault, TaskFailedError: VERIFY_FAILED.
    """
    found = compared(made, data)
    return verification_of(made.plan, 0, checked(made), found)


def compared(made: Joined, data: bytes | None = None) -> VerifyResult:
    """Compares a result, or other bytes that pretend to be it, with plan and source.

    Raises:
        MediaFault: VERIFY_FAILED.
    """
    path, result = made.path, made.result
    if data is not None:
        path = made.path.with_name(f"pretended{made.path.suffix}")
        path.write_bytes(data)
        result = replace(result, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    task = VerifyTask(plan=made.plan, rendition_index=0, media=made.media, join=result, path=str(path))
    with opened(made.source) as fd:
        return verify(task, fd, lambda message: None)


def checked(made: Joined) -> tuple[CheckedVideo, ...]:
    """What the segments of a result decode to.

    Raises:
        MediaFault: VERIFY_FAILED.
    """
    track = Track(number=0, rendition_index=0, decoded=lambda _frame: None)
    return tuple(
        video
        for segment, path in zip(made.plan.segments, made.segment_paths, strict=True)
        for video in check_segment(Path(path), made.plan, segment, [track], lambda _size: None)
    )


def losses_of(made: Joined) -> set[tuple[str, int | None, int]]:
    """What the join names: kind, track, count."""
    return {(lost.what.name, lost.track_index, lost.count) for lost in made.result.not_kept}


def messages_of_ffmpeg(path: Path) -> str:
    """What the independent ffmpeg program says while it decodes all picture and sound; "" when it is content."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "warning", "-xerror", "-i", str(path)]
    # Without the time base of the file the null muxer counts frames and complains about variable rates.
    command += [
        "-map",
        "0:v",
        "-map",
        "0:a?",
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "demux",
        "-f",
        "null",
        "-",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # PCM in Matroska has channels and no layout, and user keys may be of a type that FFmpeg does not read, in the source as well.
    usual = ("Guessed Channel Layout", "Skipping unhandled metadata")
    said = [line for line in run.stderr.splitlines(keepends=True) if not any(text in line for text in usual)]
    return "".join(said) if run.returncode == 0 else f"exit {run.returncode}: {run.stderr}"


def packets_of(path: Path, kind: str) -> list[list[tuple[Fraction, str]]]:
    """Of each track of a kind: time in seconds and SHA-256 of every unit the track holds, as FFmpeg reads it."""
    tracks: dict[int, list[tuple[Fraction, str]]] = {}
    with av.open(str(path), metadata_errors="replace") as container:
        for stream in container.streams:
            if stream.type == kind:
                tracks[stream.index] = []
        for packet in container.demux():
            if packet.size and packet.stream_index in tracks:
                for unit in single_units(packet):
                    assert unit.pts is not None
                    digest = hashlib.sha256(bytes(unit)).hexdigest()
                    tracks[packet.stream_index].append((unit.pts * unit.time_base, digest))
    return [tracks[index] for index in sorted(tracks)]


def units_of(path: Path, index: int) -> int:
    with av.open(str(path), metadata_errors="replace") as container:
        return sum(count_units(packet) for packet in container.demux(container.streams[index]) if packet.size)


def stream_facts(stream: Stream) -> tuple[str | None, str | None, int]:
    return stream.metadata.get("language"), stream.metadata.get("handler_name"), int(stream.disposition)


def display_matrix(path: Path) -> bytes | None:
    with av.open(str(path)) as container:
        frame = next(container.decode(container.streams.video[0]))
        data = frame.side_data.get("DISPLAYMATRIX")
        return None if data is None else bytes(data)
