"""What a result says about how it was made, under the names of OpenHarmony's camera framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from videoprocess_server.media.iso.user_keys import UserValue
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.plan import Plan, Rendition, interpolated_times_text

#: width of the result's picture over that of the source's; only where it was scaled
SCALING_FACTOR: Final = "com.openharmony.scaling_factor"
#: times of the frames that are made up; only where there are any
INTERP_FRAME_PTS: Final = "com.openharmony.interp_frame_pts"
#: all names; the service has no stages with ids, so it never writes the third of the framework
COMPLETION_KEYS: Final = frozenset({SCALING_FACTOR, INTERP_FRAME_PTS})


def completion_keys(video: VideoTrackInfo, rendition: Rendition, plan: Plan) -> Mapping[str, UserValue]:
    """Give the entries that apply to a result.

    Args:
        video: the source's picture.
        rendition: what became of it.
        plan: of the result.
    """
    keys = {}
    if rendition.encoder.width != video.width:
        keys[SCALING_FACTOR] = UserValue.float32(rendition.encoder.width / video.width)
    if plan.interpolated_count:
        keys[INTERP_FRAME_PTS] = UserValue.text(interpolated_times_text(plan))
    return keys
