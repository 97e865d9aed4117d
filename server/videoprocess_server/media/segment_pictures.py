"""Decodes single pictures out of a segment's file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction

import av.error
from av.video.frame import VideoFrame

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.own_files import open_own
from videoprocess_server.media.source import prepare_decoder


def picture_sizes(path: str, track: int) -> dict[Fraction, int]:
    """Tell when each picture of a track is shown, in seconds, and its bytes."""
    with open_own(path) as container:
        packets = (packet for packet in container.demux(container.streams.video[track]) if packet.size)
        return {(packet.pts or 0) * packet.time_base: packet.size for packet in packets}


def decode_pictures(
    path: str, track: int, times: Collection[Fraction]
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Give the pictures that are shown at some times, with these, in order.

    Of the others the decoder passes over those that no picture needs, which are most.

    Args:
        path: of the file.
        track: of its tracks of pictures.
        times: seconds; may lose those that were given.

    Raises:
        MediaFault: ENCODE_FAILED, what was encoded does not decode.
    """
    try:
        with open_own(path) as container:
            stream = container.streams.video[track]
            prepare_decoder(stream)
            for packet in container.demux(stream):
                is_wanted = packet.pts is None or packet.pts * packet.time_base in times
                stream.codec_context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
                for frame in packet.decode():
                    if frame.pts is not None and frame.time_base is not None:
                        shown_at = frame.pts * frame.time_base
                        if shown_at in times:
                            yield shown_at, frame
    except av.error.FFmpegError as error:
        raise MediaFault("ENCODE_FAILED", "What was encoded does not decode.") from error
