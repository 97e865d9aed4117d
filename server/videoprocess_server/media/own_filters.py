"""Filters that FFmpeg does not have, or only a slow one: a table from a stage's name to what makes it. Adding one is one file and one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Final, Protocol

from av.video.frame import VideoFrame


class OwnFilter(Protocol):
    """A filter that is configured. Frames it makes keep the time stamps and colours of those they are made of."""

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give it a frame, or None at the end, and take what comes out."""
        ...


#: the first frame, like which all will be; the stage's arguments by name; the frames' time base → the filter.
#: Raises MediaFault ENCODE_FAILED where it cannot do with such a picture.
OwnFilterFactory = Callable[[VideoFrame, Mapping[str, str], Fraction], OwnFilter]


def _tone_map(first: VideoFrame, arguments: Mapping[str, str], time_base: Fraction) -> OwnFilter:
    from videoprocess_server.media.tone_mapping.filter import ToneMapping

    return ToneMapping(first, arguments, time_base)


def _motion_denoise(first: VideoFrame, arguments: Mapping[str, str], time_base: Fraction) -> OwnFilter:
    from videoprocess_server.media.denoise.motion_denoise import MotionDenoise

    return MotionDenoise(first, arguments, time_base)


def _unsharp(first: VideoFrame, arguments: Mapping[str, str], time_base: Fraction) -> OwnFilter:
    from videoprocess_server.media.unsharp import Unsharp

    return Unsharp(first, arguments, time_base)


OWN_FILTERS: Final[Mapping[str, OwnFilterFactory]] = {
    "motion_denoise": _motion_denoise,
    "tone_map": _tone_map,
    "unsharp": _unsharp,
}


def arguments_of(stage: str) -> dict[str, str]:
    """Return the arguments of a stage "name=key=value:key=value"."""
    _, _, text = stage.partition("=")
    return dict(argument.split("=", 1) for argument in text.split(":") if argument)
