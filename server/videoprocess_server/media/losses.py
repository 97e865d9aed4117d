"""Names what a result will not have, as far as it is known before a frame is made."""

from __future__ import annotations

from collections.abc import Iterator

from av.video.format import VideoFormat

from videoprocess_server.media.encoders import Encoder
from videoprocess_server.media.geometry import Geometry
from videoprocess_server.media.hdr import PictureMetadata
from videoprocess_server.media.opening import Opening
from videoprocess_server.model.hdi import EncodeType
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.plan import NotKept
from videoprocess_server.model.settings_snapshot import StreamInfo


def known_losses(
    video: VideoTrackInfo,
    wish: StreamInfo,
    encoder: Encoder,
    geometry: Geometry,
    pixel_format: str,
    opening: Opening,
    undecodable: int,
    *,
    boxes: bool,
    carried: bool,
) -> Iterator[NotKept]:
    """Tell each loss that follows from the plan; what was asked for is none.

    Args:
        video: the source.
        wish: what is asked for.
        encoder: of the result.
        geometry: of the result.
        pixel_format: of the result.
        opening: of the source.
        undecodable: frames that are left out at the beginning.
        boxes: whether the result keeps boxes of the source.
        carried: whether packets carry over what the source's say of each picture.
    """

    def lost(what: Loss, reason: str, count: int = 1) -> NotKept:
        return NotKept(what=what, track_index=video.index, count=count, reason=reason)

    source, made = VideoFormat(video.pixel_format), VideoFormat(pixel_format)
    made_bits = made.components[0].bits
    if wish.encode_type is EncodeType.NULL and encoder.codec != video.codec:
        yield lost(
            Loss.CODEC, f"{video.codec or 'The codec'} is not encoded here; the picture is {encoder.codec}."
        )
    if geometry.made_even:
        yield lost(
            Loss.ODD_SIZE,
            f"{video.width}x{video.height} became {geometry.width}x{geometry.height}: encoders take even sizes.",
        )
    if video.bit_depth > made_bits and not wish.format:
        yield lost(Loss.BIT_DEPTH, f"{video.bit_depth} bits a sample became {made_bits}.")
    if source.is_rgb:
        yield lost(Loss.PIXEL_FORMAT, f"RGB ({video.pixel_format}) became {pixel_format}.")
    if opening.hidden_alpha or any(component.is_alpha for component in source.components):
        yield lost(Loss.ALPHA, "Video encoders here have no transparency.")
    if opening.interlaced:
        yield lost(
            Loss.INTERLACED,
            "The source has two fields a frame; the result has whole pictures at the same times.",
        )
    if opening.hdr_static and encoder.codec != "hevc":
        yield lost(Loss.HDR_METADATA, "HDR10 metadata of the mastering display is written to H.265 only.")
    for kind in opening.picture_metadata:
        if not _is_kept(kind, boxes=boxes, carried=carried):
            what = _LOSS_OF.get(kind, Loss.HDR_METADATA)
            yield lost(what, f"{kind.value} metadata of single pictures is not written.")
    if undecodable:
        yield lost(
            Loss.UNDECODABLE_FRAMES,
            "Frames at the beginning need others that the file does not have.",
            undecodable,
        )


#: kinds of metadata of pictures that do not tell of HDR
_LOSS_OF = {PictureMetadata.TIME_CODE: Loss.TIME_CODE}


def _is_kept(kind: PictureMetadata, *, boxes: bool, carried: bool) -> bool:
    """Tell whether packets carry it or a box tells it; Dolby Vision, which players know by its box, needs both."""
    if kind is PictureMetadata.DOLBY_VISION:
        return carried and boxes
    return carried or (kind is PictureMetadata.AMBIENT_VIEWING and boxes)
