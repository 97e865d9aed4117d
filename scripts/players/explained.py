"""Differences in players that were looked into by hand and are none of the result's faults, each with what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_COLR = "It takes a limited range from a box colr that says full, as the pictures do; of a file by ffmpeg -c copy, too."
_SHAPES = "The source's container says square pixels, its pictures another shape; as FFmpeg does, the result takes the container's."
_OPUS = (
    "It begins Opus in WebM after the coder's delay of 6.5 ms, in MP4 after the edit list's 7 ms, which FFmpeg reads in the "
    "WebM; of a last packet of 6.5 ms in MP4 it plays nothing, in a file that ffmpeg encodes neither."
)
_TRACKS = "It tells tracks of MP4 and not of Matroska."


@dataclass(frozen=True)
class Explanation:
    """What a player tells otherwise, and why; a difference of anything else is not explained."""

    names: frozenset[str]
    why: str


#: clip and player → what is known of it
EXPLAINED: Mapping[tuple[str, str], Explanation] = {
    place: Explanation(frozenset(names), why)
    for place, names, why in (
        (("android_4k60_fullrange_rot90.mp4", "GStreamer"), {"shown as"}, _COLR),
        (("android_slowmotion_240.mp4", "GStreamer"), {"shown as"}, _COLR),
        (("samsung_sef_slowmotion.mp4", "GStreamer"), {"shown as"}, _SHAPES),
        (("phone.3gp", "GStreamer"), {"shown as"}, _SHAPES),
        (("av1_hdr10_pq_portrait.mp4", "VLC"), {"pictures"}, "AV1 became H.265, as the report names; its decoder gives another layout."),
        (
            ("av1_hdr10_pq_portrait.mp4", "Chromium"),
            {"width", "height"},
            "AV1 became H.265, as the report names; Debian's Chromium has no decoder for it.",
        ),
        (("h264_fullrange_webcam.mkv", "VLC"), {"tracks"}, _TRACKS),
        (("vp9_opus.webm", "VLC"), {"tracks"}, _TRACKS),
        (
            ("h264_fullrange_webcam.mkv", "Chromium"),
            {"duration", "end"},
            "The first picture is shown at 0.033 s; it does not count what an MP4's edit list leaves empty before.",
        ),
        (
            ("interlaced.mp4", "GStreamer"),
            {"times of pictures", "pictures from the middle"},
            "It makes two pictures of the source's two fields; the result has whole pictures, as the report names.",
        ),
        (
            ("iphone14pro_dv84_rot90.MOV", "GStreamer"),
            {"times of pictures", "pictures from the middle"},
            "It shows three of the source's four pictures, and all four of the result.",
        ),
        (
            ("sowt_pcm_1080p50.mov", "GStreamer"),
            {"times of sound"},
            "It takes uncompressed sound in portions as they lie in the file; they begin at one time and have the same bytes.",
        ),
        (
            ("vp9_opus.webm", "GStreamer"),
            {"times of sound"},
            _OPUS,
        ),
    )
}  # fmt: skip
