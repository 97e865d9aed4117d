"""Digests of the packets that segments are made from, read anew without decoding anything."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable

import av.error

from videoprocess_server.media.decode import decode_fault, note_packet
from videoprocess_server.media.source import open_source, video_stream
from videoprocess_server.model.tasks import DigestResult, DigestTask, Progress, TaskMessage

_PACKETS_PER_PROGRESS = 256


def digest_inputs(task: DigestTask, fd: int, emit: Callable[[TaskMessage], None]) -> DigestResult:
    """Return the SHA-256 over the packets of each segment, as `Ledger` told it when the segment was made.

    Raises:
        MediaFault: DECODE_FAILED where the file cannot be read to its end.
    """
    plan, count, size = task.plan, 0, 0
    starts = [segment.start_pts for segment in plan.segments]
    digests = [hashlib.sha256() for _ in plan.segments]
    with open_source(fd) as container:
        try:
            for packet in container.demux(video_stream(container, plan.video_track_index)):
                if packet.pts is None or packet.is_discard:
                    continue
                position = bisect_right(starts, packet.pts) - 1
                if position >= 0 and packet.pts < plan.segments[position].end_pts:
                    note_packet(digests[position], packet)
                count, size = count + 1, size + packet.size
                if count % _PACKETS_PER_PROGRESS == 0:
                    emit(Progress(frames=count, bytes=size))
        except (av.error.FFmpegError, OSError) as error:
            raise decode_fault(plan.first_pts, plan.time_base, "the video track cannot be read") from error
    return DigestResult(input_sha256=tuple(digest.hexdigest() for digest in digests))
