"""Decodes single pictures out of a segment's file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.own_files import open_own
from videoprocess_server.media.source import prepare_decoder


def picture_sizes(path: str, track: int) -> dict[Fraction, int]:
    """Tell when each picture of a track is shown, in seconds, and its bytes."""
    with open_own(path) as container:
        return {(packet.pts or 0) * packet.time_base: packet.size for packet in _packets(container, track)}


def decode_pictures(
    path: str,
    track: int,
    times: Collection[Fraction],
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Give the pictures that are shown at some times, with these, in order.

    Of each GOP the decoder gets what comes before the last of them, and passes over pictures that no other needs: of most files
    that leaves a third.

    Args:
        path: of the file, whose GOPs are closed.
        track: of its tracks of pictures.
        times: seconds.

    Raises:
        MediaFault: ENCODE_FAILED, what was encoded does not decode.
    """
    wanted = frozenset(times)
    try:
        with open_own(path) as container:
            stream = container.streams.video[track]
            prepare_decoder(stream)
            for gop in _gops(_packets(container, track)):
                last = 0
                for number, packet in enumerate(gop, 1):
                    last = number if _is_shown_at(packet, wanted) else last
                if not last:
                    continue
                for packet in gop[:last]:
                    is_wanted = _is_shown_at(packet, wanted)
                    stream.codec_context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
                    yield from _shown_at(packet.decode(), stream, wanted)
                yield from _shown_at(stream.decode(None), stream, wanted)
                stream.codec_context.flush_buffers()
    except av.error.FFmpegError as error:
        raise MediaFault("ENCODE_FAILED", "What was encoded does not decode.") from error


def _packets(container: InputContainer, track: int) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in container.demux(container.streams.video[track]) if packet.size)


def _gops(packets: Iterable[Packet[VideoStream]]) -> Iterator[list[Packet[VideoStream]]]:
    gop: list[Packet[VideoStream]] = []
    for packet in packets:
        if packet.is_keyframe and gop:
            yield gop
            gop = []
        gop.append(packet)
    if gop:
        yield gop


def _is_shown_at(packet: Packet[VideoStream], times: Collection[Fraction]) -> bool:
    return (packet.pts or 0) * packet.time_base in times


def _shown_at(
    frames: Iterable[VideoFrame], stream: VideoStream, wanted: Collection[Fraction]
) -> Iterator[tuple[Fraction, VideoFrame]]:
    for frame in frames:
        frame.time_base = stream.time_base or Fraction(1)  # those that were left in the decoder have none
        shown_at = (frame.pts or 0) * frame.time_base
        if shown_at in wanted:
            yield shown_at, frame
