"""The track of what was done to each frame, for the file of a video."""

from __future__ import annotations

import numpy as np

from videoprocess_server.media.iso.added import NewTrack
from videoprocess_server.media.maker import maker_track, runs_of_segments
from videoprocess_server.media.segment_files import Pictures
from videoprocess_server.model.tasks import JoinTask


def maker_tracks(task: JoinTask, pictures: Pictures, picture_track_id: int) -> list[NewTrack]:
    """Give the track, in a list that is empty where none is asked for.

    Raises:
        MediaFault: JOIN_FAILED where the plan tells of other frames.
    """
    if not task.maker:
        return []
    return [maker_track(task.plan, np.sort(pictures.pts), runs_of_segments(task.plan), picture_track_id)]
