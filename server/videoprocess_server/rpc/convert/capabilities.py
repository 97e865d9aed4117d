"""What GetCapabilities tells, by tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from videoprocess.v1 import capabilities_pb2, hdi_enums_pb2, report_pb2, video_process_service_pb2
from videoprocess_server.engine.sessions import ENCODE_TYPES_OF_INTENT
from videoprocess_server.engine.videos import PENDING_PAGE
from videoprocess_server.model.hdi import EncodeType, OperationMode, StreamIntent, VideoStabilisation
from videoprocess_server.model.mode_setting import (
    MAX_BITRATE_BPS,
    MAX_COORDINATE,
    MAX_CRF,
    MAX_FPS,
    MAX_ZOOM_RATIO,
    MIN_BITRATE_BPS,
    MIN_CROP_SIDE,
    ORIENTATIONS_DEGREES,
    STABILISE_EXTRA,
    SUPPORTED_OPERATION_MODES,
    TAGS,
    TONE_MAPPING_FILTER,
)
from videoprocess_server.model.tasks import BuildInfo
from videoprocess_server.rpc.capability_facts import CapabilityFacts
from videoprocess_server.rpc.convert import times
from videoprocess_server.rpc.convert.files import MAX_UPLOAD_CHUNK_BYTES

MAX_MESSAGE_BYTES = 4 << 20  # gRPC's own default on both sides
LIST_PAGE = 100
MAX_LIST_PAGE = 500
PROTOCOL = "videoprocess.v1"

#: FFmpeg's names of what Prepare takes and of what results are
INPUT_CONTAINERS = ("mov", "mp4", "3gp", "matroska", "webm")
OUTPUT_CONTAINERS = ("mp4", "mov", "3gp", "matroska")


@dataclass(frozen=True)
class _Encoder:
    codec: str
    encode_type: EncodeType
    max_bit_depth: int


#: bit depths are those that plans use, not all that the library could
_ENCODERS: Mapping[str, _Encoder] = {
    "libx264": _Encoder("h264", EncodeType.H264, 10),
    "libx265": _Encoder("hevc", EncodeType.H265, 10),
    "mjpeg": _Encoder("mjpeg", EncodeType.JPEG, 8),
}

_INTENTS: Mapping[StreamIntent, str] = {
    StreamIntent.PREVIEW: "A small proxy of the enhanced video with all its frames; its longest side is 640 unless asked.",
    StreamIntent.VIDEO: "The enhanced video; unless asked, in the source's codec and size.",
    StreamIntent.STILL_CAPTURE: "One JPEG, upright and in sRGB: the frame at the source's cover time, or else the best one.",
    StreamIntent.POST_VIEW: "Up to ten JPEGs from parts of equal length; the longest side is 320 unless asked.",
    StreamIntent.ANALYZE: "A JSON report of quality: noise, filters, encodings, tracks, what was not kept.",
    StreamIntent.CUSTOM: (
        "A track of timed metadata that tells what was done to each frame: in the enhanced video, or a file of its own."
    ),
}

_RAISES = "As NORMAL, and doubles the frame rate, or makes it the one asked for, in the same duration."
_MODES: Mapping[OperationMode, str] = {
    OperationMode.NORMAL: "Removes as much noise as was measured in the video, and sharpens a little.",
    OperationMode.VIDEO: "The same as NORMAL.",
    OperationMode.NIGHT: "Removes noise strongly, takes banding out of smooth areas, and lifts shadows with restraint.",
    OperationMode.SLOW_MOTION: _RAISES,
    OperationMode.SUPER_STAB: "As NORMAL, and holds a shaking picture still.",
    OperationMode.PROFESSIONAL_VIDEO: "Leaves the picture as it is, but for what is asked for.",
    OperationMode.HIGH_FRAME_RATE: _RAISES,
}
#: what enhancements are made of, the strengths that may be asked for included
_MODE_FILTERS = ("motion_denoise", "unsharp", "cas", "deband")
#: what a mode has besides
_MORE_FILTERS: Mapping[OperationMode, Sequence[str]] = {OperationMode.NIGHT: ("lutyuv",)}

_STRENGTH = "0.0 to 1.0"
#: field of ModeSetting → the values it takes
SETTINGS: Mapping[str, str] = {
    "operation_mode": ", ".join(mode.name for mode in sorted(SUPPORTED_OPERATION_MODES)),
    "frame_rate_range": f"1 to {MAX_FPS} frames per second; frames are made up to 240, and 8 of one, at most",
    "zoom_ratio": f"1.0 to {MAX_ZOOM_RATIO}",
    "zoom_crop_region": f"inside the picture, {MIN_CROP_SIDE} to {MAX_COORDINATE} pixels a side",
    "video_stabilization": ", ".join(strength.name for strength in VideoStabilisation),
    "mirror": "false, true",
    "orientation_degrees": ", ".join(map(str, ORIENTATIONS_DEGREES)),
    "enhancement.denoise_strength": _STRENGTH,
    "enhancement.sharpen_strength": _STRENGTH,
    "enhancement.deband_strength": _STRENGTH,
    "quality.crf": f"0.0 to {MAX_CRF}",
    "quality.bitrate_bps": f"{MIN_BITRATE_BPS} to {MAX_BITRATE_BPS} bits per second",
    "tone_mapping": "KEEP, TO_SDR",
    "watermark": "a PNG, JPEG or WebP of at most 512 KiB and 16 megapixels, turned by multiples of 90 degrees",
    "damage": "FAIL, CONCEAL",
    "moov_first": "false, true",
}
#: settings that need an extra → the extra, and the values that are taken without it
_NEED_EXTRAS: Mapping[str, tuple[str, str]] = {
    "video_stabilization": (STABILISE_EXTRA, VideoStabilisation.OFF.name),
}
#: settings that need a filter → the filter, and the values that are taken without it
_NEED_FILTERS: Mapping[str, tuple[str, str]] = {"tone_mapping": (TONE_MAPPING_FILTER, "KEEP")}
#: modes that need an extra
_MODES_NEED_EXTRAS: Mapping[OperationMode, str] = {OperationMode.SUPER_STAB: STABILISE_EXTRA}

#: extras that this version has → what they bring
_EXTRAS: Mapping[str, str] = {STABILISE_EXTRA: "OpenCV"}
#: what others have as extras, and this version does without
_ABSENT: Mapping[str, str] = {
    "postgres": "Rows are kept in SQLite.",
    "s3": "Files are kept on the local disk.",
    "ray": "Work runs on this machine.",
}


def capabilities(
    facts: CapabilityFacts, user_id: int, *, is_local: bool = False
) -> video_process_service_pb2.GetCapabilitiesResponse:
    """Return the answer to a user's GetCapabilities.

    Args:
        facts: what the service is.
        user_id: whose shared roots are listed.
        is_local: whether the caller is on this machine, and so may learn of a path on it.
    """
    build = facts.build_info()
    fd_socket = facts.fd_socket() if is_local else None
    return video_process_service_pb2.GetCapabilitiesResponse(
        limits=_limits(facts),
        retention=_retention(facts),
        decoders=build.video_decoders,
        encoders=_encoders(build),
        intents=_intents(build),
        operation_modes=_operation_modes(build),
        settings=_settings(build),
        filters=build.filters,
        input_containers=INPUT_CONTAINERS,
        output_containers=OUTPUT_CONTAINERS,
        extras=_extras(build),
        versions=_versions(facts, build),
        shared_roots=[
            capabilities_pb2.SharedRoot(name=root.name, writable=root.writable)
            for root in facts.shared_roots(user_id)
        ],
        fd_socket=str(fd_socket or ""),
    )


def _limits(facts: CapabilityFacts) -> capabilities_pb2.Limits:
    limits, media = facts.limits, facts.media_limits
    return capabilities_pb2.Limits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_upload_chunk_bytes=MAX_UPLOAD_CHUNK_BYTES,
        upload_commit_bytes=facts.upload_commit_bytes,
        max_upload_bytes=limits.max_upload_bytes,
        max_video_id_bytes=limits.max_video_id_bytes,
        max_sessions_per_user=limits.max_sessions_per_user,
        max_streams_per_session=limits.max_streams_per_session,
        max_mode_setting_bytes=limits.max_setting_bytes,
        max_queued_jobs_per_user=limits.max_active_jobs_per_user,
        max_queued_jobs=limits.max_active_jobs,
        max_running_jobs=limits.max_running_jobs,
        worker_count=facts.worker_count,
        max_subscribers_per_user=limits.max_subscribers_per_user,
        max_pending_page_size=PENDING_PAGE,
        max_list_page_size=MAX_LIST_PAGE,
        max_frame_pixels=media.max_pixels,
        max_video_duration=times.duration_of_seconds(media.max_duration_seconds),
        max_tracks=media.max_tracks,
        user_quota_bytes=limits.user_quota_bytes,
    )


def _retention(facts: CapabilityFacts) -> capabilities_pb2.Retention:
    kept = facts.limits.retention
    return capabilities_pb2.Retention(
        session_idle_timeout=times.duration_of_us(facts.limits.session_idle_timeout_us),
        results=times.duration_of_us(kept.results_us),
        trash=times.duration_of_us(kept.trash_us),
        removed_results=times.duration_of_us(kept.removed_results_us),
        checkpoints=times.duration_of_us(kept.checkpoints_us),
        events=times.duration_of_us(kept.events_us),
        unfinished_uploads=times.duration_of_us(kept.unfinished_uploads_us),
        unused_uploads=times.duration_of_us(kept.unused_uploads_us),
        fd_tokens=times.duration_of_seconds(facts.fd_token_seconds),
    )


def _encoders(build: BuildInfo) -> list[capabilities_pb2.EncoderSupport]:
    return [
        capabilities_pb2.EncoderSupport(
            name=name,
            codec=row.codec,
            encode_type=hdi_enums_pb2.EncodeType.ValueType(row.encode_type),
            max_bit_depth=row.max_bit_depth,
        )
        for name, row in _ENCODERS.items()
        if name in build.video_encoders
    ]


def _intents(build: BuildInfo) -> list[capabilities_pb2.IntentSupport]:
    there = frozenset(row.encode_type for name, row in _ENCODERS.items() if name in build.video_encoders)
    return [
        capabilities_pb2.IntentSupport(
            intent=hdi_enums_pb2.StreamIntent.ValueType(intent),
            encode_types=_encode_types(_encodable(intent, there)),
            description=_INTENTS[intent],
        )
        for intent in StreamIntent
    ]


def _encodable(intent: StreamIntent, there: frozenset[EncodeType]) -> list[EncodeType]:
    """Return the encode types of an intent that have an encoder; NULL only where it has one, or needs none."""
    possible = ENCODE_TYPES_OF_INTENT[intent] - {EncodeType.NULL}
    made = possible & there
    return sorted({EncodeType.NULL, *made}) if made or not possible else []


def _encode_types(types: Sequence[EncodeType]) -> list[hdi_enums_pb2.EncodeType.ValueType]:
    return [hdi_enums_pb2.EncodeType.ValueType(encode_type) for encode_type in types]


def _operation_modes(build: BuildInfo) -> list[capabilities_pb2.OperationModeSupport]:
    return [
        capabilities_pb2.OperationModeSupport(
            mode=hdi_enums_pb2.OperationMode.ValueType(mode),
            description=_MODES[mode],
            filters=[
                name for name in (*_MODE_FILTERS, *_MORE_FILTERS.get(mode, ())) if name in build.filters
            ],
        )
        for mode in sorted(SUPPORTED_OPERATION_MODES)
        if _MODES_NEED_EXTRAS.get(mode) in (None, *build.extras)
    ]


def _settings(build: BuildInfo) -> list[capabilities_pb2.SettingSupport]:
    tags: dict[str, int] = {}
    for tag, known in TAGS.items():
        tags.setdefault(known.field, tag)
    return [
        capabilities_pb2.SettingSupport(
            name=name, tag=tags.get(name, 0), supported=supported, accepted_values=values
        )
        for name in SETTINGS
        for supported, values in [_support(name, build)]
    ]


def _support(name: str, build: BuildInfo) -> tuple[bool, str]:
    """Tell whether a setting can be asked for, and the values that are taken."""
    for needs, present in ((_NEED_EXTRAS, build.extras), (_NEED_FILTERS, build.filters)):
        needed, without = needs.get(name, ("", ""))
        if needed and needed not in present:
            return False, without
    return True, SETTINGS[name]


def _extras(build: BuildInfo) -> list[capabilities_pb2.Extra]:
    return [
        *(
            capabilities_pb2.Extra(name=name, present=name in build.extras, note=_extra_note(name, build))
            for name in _EXTRAS
        ),
        *(capabilities_pb2.Extra(name=name, present=False, note=note) for name, note in _ABSENT.items()),
    ]


def _extra_note(name: str, build: BuildInfo) -> str:
    if name in build.extras:
        return f"{_EXTRAS[name]} {build.extras[name]} is there."
    return f"{_EXTRAS[name]} is missing: pip install 'videoprocess[{name}]'"


def _versions(facts: CapabilityFacts, build: BuildInfo) -> list[report_pb2.SoftwareVersion]:
    versions = {**build.versions, **facts.versions, "protocol": PROTOCOL}
    return [
        report_pb2.SoftwareVersion(name=name, version=version) for name, version in sorted(versions.items())
    ]
