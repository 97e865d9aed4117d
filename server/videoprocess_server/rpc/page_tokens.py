"""Page tokens: opaque to callers, and good for the list they were made for only."""

from __future__ import annotations

import base64
import hashlib
import struct

from videoprocess_server.errors import VideoProcessError

#: digest of the filters, then create_time_us; the video id follows
_HEAD = struct.Struct(">8sq")
_MAX_TOKEN_CHARACTERS = 1024  # a video id has at most 256 bytes


def page_token(position: tuple[int, str], filters: tuple[object, ...]) -> str:
    """Return the token of the page after the video with this (create_time_us, video_id)."""
    create_time_us, video_id = position
    head = _HEAD.pack(_digest(filters), create_time_us)
    return base64.urlsafe_b64encode(head + video_id.encode()).decode()


def position_of(token: str, filters: tuple[object, ...]) -> tuple[int, str] | None:
    """Return where the page begins: after (create_time_us, video_id); None for the first page.

    Raises:
        VideoProcessError: INVALID_PAGE_TOKEN.
    """
    if not token:
        return None
    parts = _read(token)
    if parts is None or parts[0] != _digest(filters):
        problem = {"page_token": "is not one of this list"}
        raise VideoProcessError("INVALID_PAGE_TOKEN", "the page token is not one of this list", problem)
    return parts[1], parts[2]


def _read(token: str) -> tuple[bytes, int, str] | None:
    if len(token) > _MAX_TOKEN_CHARACTERS:
        return None
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
        digest, create_time_us = _HEAD.unpack_from(data)
        return digest, create_time_us, data[_HEAD.size :].decode()
    except (ValueError, struct.error):
        return None


def _digest(filters: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(filters).encode()).digest()[:8]
