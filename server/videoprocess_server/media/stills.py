"""Takes a rendition's pictures out of the segments, a file each, and proves that each of them decodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av.error
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from videoprocess_server.media.encode import renditions_in
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.own_files import open_own, settle
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.timeline import output_pts
from videoprocess_server.model.grid import slot_of, slot_pts
from videoprocess_server.model.plan import EncoderPlan, Plan, Rendition
from videoprocess_server.model.tasks import StillsResult, StillsTask, TaskMessage, WrittenFile


def write_stills(task: StillsTask, emit: Callable[[TaskMessage], None]) -> StillsResult:
    """Writes each picture of a rendition to its own path; the same bytes whenever it is called.

    Args:
        task: the plan, its segments' files and where to write.
        emit: is told about twice a second how far it is.

    Raises:
        MediaFault: JOIN_FAILED, the segments are not those of the plan; VERIFY_FAILED, a picture does not decode.
        FileExistsError: an output path exists.
    """
    started = time.process_time()
    plan, rendition, pulse = task.plan, task.plan.renditions[task.rendition_index], Pulse(emit)
    pictures = _pictures(plan, rendition, task.segment_paths)
    files = []
    for number, output_path in enumerate(task.output_paths):
        pts = (rendition.still_pts or ())[number]
        data = next(pictures, None)
        if data is None or data[0] != _result_pts(plan, pts):
            raise MediaFault(
                "JOIN_FAILED", f"The segments do not hold the picture at {pts} that the plan has."
            )
        files.append(_write(Path(output_path), data[1], rendition.encoder, pulse))
        pulse.beat(frames=number + 1)
    if next(pictures, None) is not None:
        raise MediaFault("JOIN_FAILED", "The segments hold more pictures than the plan has.")
    return StillsResult(files=tuple(files), cpu_seconds=time.process_time() - started)


def _pictures(plan: Plan, rendition: Rendition, paths: tuple[str, ...]) -> Iterator[tuple[int, bytes]]:
    """Give time stamp and bytes of each picture, in order."""
    for segment, path in zip(plan.segments, paths, strict=True):
        present = renditions_in(plan, segment)
        if rendition not in present:
            continue
        with open_own(path) as container:
            stream = container.streams.video[present.index(rendition)]
            for packet in container.demux(stream):
                if packet.size:
                    yield packet.pts or 0, bytes(packet)


def _result_pts(plan: Plan, source_pts: int) -> int:
    if plan.grid is None:
        return output_pts(source_pts, plan.time_base, plan.output_time_base)
    return slot_pts(slot_of(source_pts, plan.grid, plan.time_base), plan.grid, plan.time_base)


def _write(path: Path, data: bytes, encoder: EncoderPlan, pulse: Pulse) -> WrittenFile:
    with path.open("xb") as file:
        file.write(data)
    size, digest = settle(path, pulse)
    check_picture(path.read_bytes(), encoder)
    return WrittenFile(size_bytes=size, sha256=digest)


def check_picture(data: bytes, encoder: EncoderPlan) -> None:
    """Decode a picture as a viewer would.

    Raises:
        MediaFault: VERIFY_FAILED, it does not decode, or is of another size.
    """
    context = CodecContext.create(encoder.codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.options = {"err_detect": "explode"}
    try:
        frames = [*context.decode(Packet(data)), *context.decode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaFault("VERIFY_FAILED", "A picture that was written does not decode.") from error
    made = [(frame.width, frame.height) for frame in frames]
    if made != [(encoder.width, encoder.height)]:
        raise MediaFault(
            "VERIFY_FAILED", f"A picture is {made}, not {encoder.width}x{encoder.height} as the plan has it."
        )
