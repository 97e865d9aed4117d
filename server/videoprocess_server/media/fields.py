"""Interlaced sources: two fields a frame become a whole picture at the frame's time, whatever number of packets they have."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Final

import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videoprocess_server.media.decode import decode_fault, decode_tolerantly
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.packets import PacketIndex
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.source import open_source, video_stream

#: frames that are not interlaced pass unchanged; which field is first is told by each frame; the same bits on every CPU
DEINTERLACE: Final = ("bwdif=mode=send_frame:parity=auto:deint=interlaced",)
#: neighbouring frames it looks at, before and after
DEINTERLACE_ROLL_FRAMES: Final = 1
_FIELDS: Final = 2
#: frames that show whether a packet is a frame
_FIRST_FRAMES: Final = 64


def index_frames(
    fd: int, track_index: int, index: PacketIndex, pulse: Pulse, *, conceal_damage: bool = False
) -> PacketIndex:
    """Give the index of an interlaced track's frames, where each of its fields is a packet; else what it got.

    Which packets are fields of one frame only a decoder tells: all of the track is decoded.

    Args:
        fd: the source.
        track_index: of the picture.
        index: of its packets.
        pulse: told of each frame.
        conceal_damage: whether packets without a frame count as frames, two by two.

    Raises:
        MediaFault: DECODE_FAILED where frames are missing.
    """
    with open_source(fd) as container:
        stream = video_stream(container, track_index)
        time_base = stream.time_base or Fraction(1)
        first = _frame_pts(container, stream, pulse, _FIRST_FRAMES)
    packets = np.asarray(index.pts)
    if not _are_fields(packets, first):
        return index
    with open_source(fd) as container:
        frames = _frame_pts(container, video_stream(container, track_index), pulse, None)
    missing = _missing_frames(packets, frames)
    if len(missing) and not conceal_damage:
        raise decode_fault(int(missing[0]), time_base, "a frame does not decode")
    frames = np.union1d(frames, missing)
    of_frame = np.maximum(np.searchsorted(frames, packets, side="right") - 1, 0)
    sizes = np.bincount(of_frame, weights=np.asarray(index.sizes), minlength=len(frames)).astype(np.int64)
    known = frozenset(frames.tolist())
    return replace(
        index,
        pts=frames.tolist(),
        keys=[pts for pts in index.keys if pts in known] or frames[:1].tolist(),
        sizes=sizes.tolist(),
    )


def _missing_frames(packets: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every other packet of those after a frame's own two that have no frame."""
    of_frame = np.maximum(np.searchsorted(frames, packets, side="right") - 1, 0)
    place = np.arange(len(packets)) - np.searchsorted(of_frame, of_frame)
    missing: NDArray[np.int64] = packets[(place >= _FIELDS) & (place % _FIELDS == 0)]
    return missing


def _frame_pts(
    container: InputContainer, stream: VideoStream, pulse: Pulse, count: int | None
) -> NDArray[np.int64]:
    pts = []
    try:
        packets = container.demux(stream)
        for frame in islice((frame for packet in packets for frame in decode_tolerantly(packet)), count):
            if frame.pts is not None:
                pts.append(frame.pts)
            pulse.beat(frames=len(pts))
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        raise MediaFault("DECODE_FAILED", "The file's packets cannot be read to the end.") from error
    return np.unique(np.asarray(pts, dtype=np.int64))


def _are_fields(packets: NDArray[np.int64], frames: NDArray[np.int64]) -> bool:
    """Tell whether most frames have a second packet; a frame that is damaged here and there is no field."""
    if not len(frames):
        return False
    within = np.count_nonzero((packets >= frames[0]) & (packets <= frames[-1]))
    return 2 * int(within - len(frames)) > len(frames) - 1
