"""The index of a video track: when its frames are shown, from where they decode and how many bytes they have."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from videoprocess_server.media.containers import ISO_DEMUXER_MARK
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.pulse import Pulse


@dataclass(frozen=True, kw_only=True)
class PacketIndex:
    """Time stamps in ticks of the track's time base, ascending."""

    #: of all packets that are shown
    pts: Sequence[int]
    #: of all key frames, of those too that an edit list hides
    keys: Sequence[int]
    #: where the last frame's display ends
    end_pts: int
    #: bytes of each of `pts`, and of the packets right before it that are not shown but needed to decode
    sizes: Sequence[int]
    #: packets come in another order than frames are shown in: there are B frames
    reordered: bool
    #: of packets that are shown and come before any key frame: it is missing or damaged
    headless: Sequence[int] = ()
    #: packets at the beginning that have no time: players show nothing of them
    untimed_count: int = 0


def read_index(container: InputContainer, stream: VideoStream, pulse: Pulse) -> PacketIndex:
    """Read all packets of a freshly opened source once; 16 bytes a frame are kept.

    Raises:
        MediaFault: DECODE_FAILED where packets have no or no unique time stamps, NO_DECODABLE_FRAME where there are none.
    """
    shown, keys, sizes, headless = array("q"), array("q"), array("q"), array("q")
    last_pts, last_duration, count, hidden_size, reordered = None, 0, 0, 0, False
    untimed_count, key_seen = 0, False
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.is_corrupt:
                raise MediaFault(
                    "DECODE_FAILED", "The file ends in the middle of a packet of the video track."
                )
            count += 1
            pulse.beat(frames=count, size=packet.size)
            key_seen |= packet.is_keyframe
            if packet.pts is None:
                _check_beginning(shown, stream)
                untimed_count += 1
                hidden_size += packet.size
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)
            if packet.is_discard:
                hidden_size += packet.size
                continue
            shown.append(packet.pts)
            if not key_seen:
                headless.append(packet.pts)
            sizes.append(hidden_size + packet.size)
            hidden_size = 0
            reordered |= last_pts is not None and packet.pts < last_pts
            if last_pts is None or packet.pts > last_pts:
                last_pts, last_duration = packet.pts, packet.duration or 0
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        raise MediaFault("DECODE_FAILED", "The file's packets cannot be read to the end.") from error
    _check_whole(container, stream, count)
    if last_pts is None:
        raise _nothing_shown(untimed_count)
    if reordered:
        _sort(shown, sizes)
    _sort(keys)
    _check_unique(shown, stream)
    return PacketIndex(
        pts=shown,
        keys=keys or shown[:1],
        end_pts=last_pts + (last_duration or _last_step(shown)),
        sizes=sizes,
        reordered=reordered,
        headless=headless,
        untimed_count=untimed_count,
    )


def _nothing_shown(untimed_count: int) -> MediaFault:
    if untimed_count:
        return MediaFault("DECODE_FAILED", "No packet of the video track says when its frame is shown.")
    return MediaFault("NO_DECODABLE_FRAME", "The video track has no frame that is shown.")


def _check_beginning(shown: array[int], stream: VideoStream) -> None:
    """Matroska cannot tell times before 0: a copy that begins within a GOP has packets without any around its key frame."""
    if len(shown) > 1:
        seconds = float(shown[-1] * (stream.time_base or 0))
        raise MediaFault("DECODE_FAILED", f"A packet after {seconds:.3f} s has no time stamp.")


def _check_whole(container: InputContainer, stream: VideoStream, count: int) -> None:
    """Compare with the sample table, which MP4 and MOV have; FFmpeg reads a file that was cut off without a word."""
    if ISO_DEMUXER_MARK not in container.format.name.split(","):
        return
    entries = stream.index_entries
    declared = len(entries) if count == len(entries) else sum(1 for entry in entries if entry.size)
    if count < declared:
        raise MediaFault(
            "DECODE_FAILED",
            f"The file is cut off: {count} of the {declared} packets of its video track are there.",
        )


def _sort(ticks: array[int], sizes: array[int] | None = None) -> None:
    """Sort in place, sizes along with their ticks; an array is an eighth of a list."""
    if not ticks:
        return
    values = np.frombuffer(ticks, dtype=np.int64)
    if sizes is not None:
        beside = np.frombuffer(sizes, dtype=np.int64)
        beside[:] = beside[np.argsort(values, kind="stable")]
    values.sort()


def _check_unique(shown: array[int], stream: VideoStream) -> None:
    steps = np.diff(np.frombuffer(shown, dtype=np.int64))
    twice = np.flatnonzero(steps == 0)
    if twice.size:
        seconds = float(shown[int(twice[0])] * (stream.time_base or 0))
        raise MediaFault("DECODE_FAILED", f"Two frames have the same time stamp, {seconds:.3f} s.")


def _last_step(shown: array[int]) -> int:
    """Ticks the last frame is taken to be shown where its packet does not say: as long as the one before it."""
    return shown[-1] - shown[-2] if len(shown) > 1 else 1
