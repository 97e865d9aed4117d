"""What CommitStreams asks for, in either form."""

from __future__ import annotations

from collections.abc import Container
from typing import TypeVar

from google.protobuf.message import Message

from videoprocess.v1 import mode_setting_pb2, video_process_session_pb2
from videoprocess_server.engine.source_files import FileReference
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.mode_setting import (
    SettingError,
    TypedSettings,
    from_metadata,
    from_typed,
    require_extras,
    require_filters,
)
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect, Watermark
from videoprocess_server.rpc.convert.fields import missing
from videoprocess_server.rpc.convert.files import file_reference

T = TypeVar("T")

REASONS = {
    "malformed": "METADATA_MALFORMED",
    "too_large": "METADATA_TOO_LARGE",
    "invalid": "INVALID_SETTING",
    "unsupported": "SETTING_NOT_SUPPORTED",
}


def mode_setting(
    request: video_process_session_pb2.CommitStreamsRequest,
    extras: Container[str],
    filters: Container[str],
) -> ModeSetting:
    """Return the settings in canonical form; absent or empty are the defaults.

    Args:
        request: either form.
        extras: names of those that the workers have.
        filters: likewise.

    Raises:
        VideoProcessError: METADATA_MALFORMED, METADATA_TOO_LARGE, INVALID_SETTING, SETTING_NOT_SUPPORTED.
    """
    try:
        setting = _canonical(request)
        require_extras(setting, extras)
        require_filters(setting, filters)
    except SettingError as error:
        raise VideoProcessError(
            REASONS[error.kind], f"{error.field}: {error.message}", {error.field: error.message}
        ) from error
    return setting


def _canonical(request: video_process_session_pb2.CommitStreamsRequest) -> ModeSetting:
    if request.WhichOneof("mode_setting") == "typed":
        return from_typed(typed_settings(request.typed))
    return from_metadata(request.serialized)


def watermark_image(request: video_process_session_pb2.CommitStreamsRequest) -> FileReference | None:
    """Return the picture of the watermark; None where none is asked for.

    Raises:
        VideoProcessError: MISSING_FIELD.
    """
    if not request.typed.HasField("watermark"):
        return None
    if not request.typed.watermark.HasField("image"):
        raise missing("typed.watermark.image")
    return file_reference(request.typed.watermark.image, "typed.watermark.image")


def typed_settings(message: mode_setting_pb2.ModeSetting) -> TypedSettings:
    """Return the typed form as it was given."""
    rate, region = message.frame_rate_range, message.zoom_crop_region
    strengths, quality = message.enhancement, message.quality
    return TypedSettings(
        operation_mode=_given(message, "operation_mode", int(message.operation_mode)),
        frame_rate_range=_given(
            message, "frame_rate_range", FrameRateRange(min_fps=rate.min_fps, max_fps=rate.max_fps)
        ),
        zoom_ratio=_given(message, "zoom_ratio", message.zoom_ratio),
        zoom_crop_region=_given(
            message,
            "zoom_crop_region",
            Rect(x=region.x, y=region.y, width=region.width, height=region.height),
        ),
        video_stabilization=_given(message, "video_stabilization", int(message.video_stabilization)),
        mirror=_given(message, "mirror", message.mirror),
        orientation_degrees=_given(message, "orientation_degrees", message.orientation_degrees),
        denoise_strength=_given(strengths, "denoise_strength", strengths.denoise_strength),
        sharpen_strength=_given(strengths, "sharpen_strength", strengths.sharpen_strength),
        deband_strength=_given(strengths, "deband_strength", strengths.deband_strength),
        crf=_given(quality, "crf", quality.crf),
        bitrate_bps=_given(quality, "bitrate_bps", quality.bitrate_bps),
        tone_mapping=message.tone_mapping or None,
        watermark=_given(message, "watermark", _watermark(message.watermark)),
        damage=message.damage or None,
        moov_first=_given(message, "moov_first", message.moov_first),
    )


def _watermark(message: mode_setting_pb2.Watermark) -> Watermark:
    """Return it without its picture."""
    return Watermark(
        image=b"",
        scale_factor=message.scale_factor,
        rotation_degrees=message.rotation_degrees,
        x=message.x,
        y=message.y,
        width=message.width,
        height=message.height,
    )


def _given(message: Message, name: str, value: T) -> T | None:
    return value if message.HasField(name) else None
