"""What GetCapabilities tells, by tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from videoprocess.v1 import capabilities_pb2, hdi_enums_pb2, report_pb2, video_process_service_pb2
from videoprocess_server.engine.sessions import ENCODE_TYPES_OF_INTENT
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
from videoprocess_server.rpc.capability_facts import AccessFacts, CapabilityFacts, IsolationFacts
from videoprocess_server.rpc.convert import capability_limits

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
_EXTRAS: Mapping[str, str] = {STABILISE_EXTRA: "OpenCV", "postgres": "psycopg", "s3": "obstore", "ray": "Ray"}
#: those of them that the service itself needs, not its workers → the package that tells the version
_PACKAGES: Mapping[str, str] = {"postgres": "psycopg", "s3": "obstore", "ray": "ray"}


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
        limits=capability_limits.limits(facts),
        retention=capability_limits.retention(facts),
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
        call_limits=capability_limits.call_limits(facts),
        checkpointing=capability_limits.checkpointing(facts),
        isolation=_isolation(facts.isolation()),
        access=_access(facts.access),
        absent_features=_absent(build, facts.isolation()),
    )


def _isolation(isolation: IsolationFacts) -> capabilities_pb2.Isolation:
    return capabilities_pb2.Isolation(layers=isolation.layers, missing_layers=isolation.missing)


def _access(access: AccessFacts) -> capabilities_pb2.Access:
    return capabilities_pb2.Access(
        tls=access.tls,
        modes=[capabilities_pb2.AuthMode.Value(f"AUTH_MODE_{mode.name}") for mode in access.modes],
        needs_client_certificate=access.needs_client_certificate,
    )


def _absent(build: BuildInfo, isolation: IsolationFacts) -> list[capabilities_pb2.AbsentFeature]:
    """Return what the contract has and this service has not, each with its reason."""
    found = {
        **{
            name: f"This build of FFmpeg lacks it: nothing is encoded as {row.codec}."
            for name, row in _ENCODERS.items()
            if name not in build.video_encoders
        },
        **{
            name: "This build lacks the filter: what it is for is left out, or refused."
            for name in (
                *_MODE_FILTERS,
                *dict.fromkeys(sum(map(tuple, _MORE_FILTERS.values()), ())),
                TONE_MAPPING_FILTER,
            )
            if name not in build.filters
        },
        **{
            setting: f"{_extra_note(extra, build.extras)}."
            for setting, (extra, _) in _NEED_EXTRAS.items()
            if extra not in build.extras
        },
        **{
            setting: f"It needs the filter {name}, which this build lacks."
            for setting, (name, _) in _NEED_FILTERS.items()
            if name not in build.filters
        },
        **{
            mode.name: f"{_extra_note(extra, build.extras)}."
            for mode, extra in _MODES_NEED_EXTRAS.items()
            if extra not in build.extras
        },
        **{
            mode.name: "It has no enhancement in this version."
            for mode in OperationMode
            if mode not in SUPPORTED_OPERATION_MODES
        },
        **dict.fromkeys(
            isolation.missing,
            "This machine's kernel does not have it, or does not allow it; the other layers hold.",
        ),
    }
    return [capabilities_pb2.AbsentFeature(name=name, reason=reason) for name, reason in found.items()]


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
    there = {**build.extras, **_installed()}
    return [
        capabilities_pb2.Extra(name=name, present=name in there, note=_extra_note(name, there))
        for name in _EXTRAS
    ]


def _installed() -> dict[str, str]:
    """Return the versions of the service's own extras that are there."""
    found = {}
    for name, package in _PACKAGES.items():
        with suppress(PackageNotFoundError):
            found[name] = version(package)
    return found


def _extra_note(name: str, there: Mapping[str, str]) -> str:
    if name in there:
        return f"{_EXTRAS[name]} {there[name]} is there."
    return f"{_EXTRAS[name]} is missing: pip install -e '.[{name}]'"


def _versions(facts: CapabilityFacts, build: BuildInfo) -> list[report_pb2.SoftwareVersion]:
    versions = {**build.versions, **facts.versions, "protocol": PROTOCOL}
    return [
        report_pb2.SoftwareVersion(name=name, version=version) for name, version in sorted(versions.items())
    ]
