"""What Prepare answers: the streams a caller can create for a file."""

from __future__ import annotations

from dataclasses import dataclass

from videoprocess_server.model.dataspace import pack_dataspace
from videoprocess_server.model.hdi import MediaStreamType, PixelFormat
from videoprocess_server.model.media_info import MediaInfo, TrackKind

#: sample entries of tracks that time something else than metadata
_NO_METADATA = frozenset({"tmcd"})


@dataclass(frozen=True, kw_only=True)
class StreamDescription:
    """The HDI's StreamDescription."""

    stream_id: int
    type: MediaStreamType
    pixel_format: int = 0
    width: int = 0
    height: int = 0
    dataspace: int = 0


def describe_streams(media: MediaInfo, companion: MediaInfo | None = None) -> tuple[StreamDescription, ...]:
    """Return one VIDEO description, one METADATA for each timed-metadata track, one MAKER; ids count from 0.

    Args:
        media: of the file that pictures come from.
        companion: of the one that metadata comes from, where that is another.
    """
    video, tracks = media.video, (companion or media).tracks
    metadata = [track for track in tracks if track.kind is TrackKind.DATA and track.codec not in _NO_METADATA]
    return (
        StreamDescription(
            stream_id=0,
            type=MediaStreamType.VIDEO,
            pixel_format=PixelFormat.YCBCR_P010 if video.bit_depth > 8 else PixelFormat.YCBCR_420_SP,
            width=video.width,
            height=video.height,
            dataspace=pack_dataspace(video.colour),
        ),
        *(
            StreamDescription(stream_id=position, type=MediaStreamType.METADATA)
            for position, _ in enumerate(metadata, start=1)
        ),
        StreamDescription(stream_id=1 + len(metadata), type=MediaStreamType.MAKER),
    )
