"""The first frames of a source: which of them decode, and what they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.carried_units import has_second_layer, length_size
from videoprocess_server.media.decode import decode_tolerantly
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import picture_of
from videoprocess_server.media.hdr import PictureMetadata, picture_metadata, static_metadata
from videoprocess_server.media.packets import PacketIndex

#: frames decoded at most; leading pictures of a key frame are a handful
_MOST_FRAMES = 64


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What the beginning of a track tells."""

    #: time stamps of the frames that are shown and decode
    pts: Sequence[int]
    #: x265's parameters of HDR10's static metadata, "" without
    hdr_static: str
    #: kinds of metadata of each picture that no encoder here writes
    picture_metadata: tuple[PictureMetadata, ...]
    interlaced: bool
    #: transparency is beside the picture, where the decoder does not read it
    hidden_alpha: bool
    #: parameter sets as the container has them; b"" where they are among the packets
    configuration: bytes
    #: Dolby Vision in two layers, of which one is decoded
    two_layers: bool
    #: size and pixel format, as `picture_of` tells them
    picture: str


def read_opening(
    container: InputContainer, stream: VideoStream, index: PacketIndex, *, conceal_damage: bool = False
) -> Opening:
    """Decode the first frames of a freshly opened source.

    A track may begin with frames that need others from before its beginning. Decoders leave them out, players show
    nothing of them, and neither does a plan.

    Args:
        container: of the source.
        stream: its video track.
        index: of the track.
        conceal_damage: whether frames that are damaged count as shown.

    Raises:
        MediaFault: NO_DECODABLE_FRAME where nothing decodes.
    """
    configuration = stream.codec_context.extradata or b""
    two_layers = interlaced = False
    first: VideoFrame | None = None
    decoded: list[int] = []
    try:
        packets = container.demux(stream)
        beginning = next(packets, None)
        two_layers = beginning is not None and has_second_layer(bytes(beginning), length_size(configuration))
        packets = chain([] if beginning is None else [beginning], packets)
        for frame in islice(
            (frame for packet in packets for frame in decode_tolerantly(packet)), _MOST_FRAMES
        ):
            if frame.pts is None:
                continue
            first = frame if first is None or (first.is_corrupt and not frame.is_corrupt) else first
            interlaced |= frame.interlaced_frame
            decoded.append(frame.pts)
            if frame.pts >= index.keys[0]:
                break
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        raise MediaFault(
            "NO_DECODABLE_FRAME", "The first frame of the video track does not decode."
        ) from error
    if first is None:
        raise MediaFault("NO_DECODABLE_FRAME", "No frame of the video track decodes.")
    return Opening(
        pts=_without_undecodable(index, decoded, conceal_damage=conceal_damage),
        hdr_static=static_metadata(first),
        picture_metadata=picture_metadata(first),
        interlaced=interlaced,
        configuration=configuration,
        two_layers=two_layers,
        hidden_alpha=stream.metadata.get("alpha_mode") == "1",
        picture=picture_of(first),
    )


def _without_undecodable(index: PacketIndex, decoded: list[int], *, conceal_damage: bool) -> Sequence[int]:
    """Leave out what is shown before the first key frame and was coded after it, unless it decodes."""
    if index.pts[0] >= min(decoded[0], index.keys[0]):
        return index.pts
    begins_at = index.keys[0] if conceal_damage else max(decoded[0], index.keys[0])
    leading = frozenset(decoded).union(index.headless if conceal_damage else ())
    return [pts for pts in index.pts if pts in leading or pts >= begins_at]
