"""What this build of FFmpeg can do, and which one it is."""

from __future__ import annotations

import platform
from collections.abc import Callable, Container, Mapping
from typing import Final

import av
import av.codec
import av.filter

from videoprocess_server.media.own_filters import OWN_FILTERS
from videoprocess_server.model.mode_setting import STABILISE_EXTRA
from videoprocess_server.model.tasks import BuildInfo, DescribeTask

#: what sources may be coded in; asked of the build, not assumed
SOURCE_CODECS = ("h264", "hevc", "h263", "mpeg4", "mpeg2video", "mjpeg", "vp8", "vp9", "av1", "vvc", "prores")
#: what plans encode with
ENCODERS = ("libx264", "libx265", "mjpeg")
#: what chains are made of, FFmpeg's and our own
FILTERS = (
    *("motion_denoise", "unsharp", "cas", "deband", "lutyuv", "tone_map"),
    *("crop", "hflip", "vflip", "transpose", "scale", "format"),
)
#: filters of our own → those of FFmpeg that they are made of
_MADE_OF: Final[Mapping[str, tuple[str, ...]]] = {"tone_map": ("haldclut",)}


def _opencv() -> str:
    """Return OpenCV's version; "" where it is missing, or is there and cannot be loaded."""
    try:
        import cv2
    except ImportError:
        return ""
    return cv2.__version__


#: the package's extra that the workers need → what tells its version, "" where it is not there
EXTRAS: Final[Mapping[str, Callable[[], str]]] = {STABILISE_EXTRA: _opencv}


def describe(task: DescribeTask, fd: int) -> BuildInfo:  # noqa: ARG001 - every task has this shape
    """Return versions, decoders, encoders, filters and extras of this build."""
    versions = {name: ".".join(map(str, version)) for name, version in sorted(av.library_versions.items())}
    return BuildInfo(
        versions=versions | {"pyav": av.__version__, "machine": platform.machine()},
        video_decoders=tuple(name for name in SOURCE_CODECS if _has_codec(name, "r")),
        video_encoders=tuple(name for name in ENCODERS if _has_codec(name, "w")),
        filters=tuple(name for name in FILTERS if has_filter(name, av.filter.filters_available)),
        extras={name: version for name, tell in EXTRAS.items() if (version := tell())},
    )


def has_filter(name: str, available: Container[str]) -> bool:
    """Tell whether chains can have a filter.

    Args:
        name: FFmpeg's or one of our own.
        available: FFmpeg's of this build.
    """
    if name in OWN_FILTERS:
        return all(part in available for part in _MADE_OF.get(name, ()))
    return name in available


def _has_codec(name: str, mode: str) -> bool:
    try:
        av.codec.Codec(name, "r" if mode == "r" else "w")
    except ValueError:
        return False
    return True
