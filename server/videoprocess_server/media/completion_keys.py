"""What a result says about how it was made, under the names of OpenHarmony's camera framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from videoprocess_server.media.iso.user_keys import UserValue
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.plan import Rendition

#: width of the result's picture over that of the source's; only where it was scaled
SCALING_FACTOR: Final = "com.openharmony.scaling_factor"
#: all names; the service makes up no frames and has no stages, so it never writes the other two of the framework
COMPLETION_KEYS: Final = frozenset({SCALING_FACTOR})


def completion_keys(video: VideoTrackInfo, rendition: Rendition) -> Mapping[str, UserValue]:
    """Give the entries that apply to a result.

    Args:
        video: the source's picture.
        rendition: what became of it.
    """
    if rendition.encoder.width == video.width:
        return {}
    return {SCALING_FACTOR: UserValue.float32(rendition.encoder.width / video.width)}
