"""The caller's names for videos."""

from __future__ import annotations

from videoprocess_server.engine.limits import Limits
from videoprocess_server.errors import VideoProcessError


def check_video_id(video_id: str, limits: Limits) -> None:
    """Return if the id may name a video.

    Raises:
        VideoProcessError: INVALID_VIDEO_ID.
    """
    if not 1 <= len(video_id.encode()) <= limits.max_video_id_bytes:
        raise VideoProcessError(
            "INVALID_VIDEO_ID",
            f"a video id has 1 to {limits.max_video_id_bytes} bytes of UTF-8",
            {"video_id": "is empty" if not video_id else "is too long"},
        )
