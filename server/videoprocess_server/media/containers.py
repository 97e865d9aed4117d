"""Which kind of file a result becomes."""

from __future__ import annotations

from videoprocess_server.model.media_info import MediaInfo, TrackKind

#: FFmpeg's demuxer of MP4, MOV and 3GP
ISO_DEMUXER_MARK = "mov"
#: a result of an ISO source keeps its brand; by the first letters of that, its name and what FFmpeg calls it
_ISO_CONTAINERS = {"3g": ("3gp", ".3gp"), "qt": ("mov", ".mov"), "": ("mp4", ".mp4")}
#: a QuickTime file from before there were brands
_WITHOUT_BRAND = "qt"
#: what FFmpeg calls containers that are ISO base media files
ISO_MUXERS = frozenset({"mp4", "mov", "3gp"})
#: what of a Matroska file fits into an MP4 that players play; Vorbis and PCM have numbers there, and no players
_MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_MP4_TEXT = frozenset({"mov_text"})


def is_iso(media: MediaInfo) -> bool:
    """Whether a file is MP4, MOV or 3GP."""
    return ISO_DEMUXER_MARK in media.container.split(",")


def choose_container(media: MediaInfo) -> tuple[str, str]:
    """Choose what FFmpeg calls the result's container, and the file's extension.

    A file of boxes stays what it is; a Matroska file becomes an MP4 where all it has fits into one.
    """
    if not is_iso(media):
        return ("mp4", ".mp4") if _fits_mp4(media) else ("matroska", ".mkv")
    brand = media.major_brand or _WITHOUT_BRAND
    return next(made for letters, made in _ISO_CONTAINERS.items() if brand.startswith(letters))


def _fits_mp4(media: MediaInfo) -> bool:
    for track in media.tracks:
        if track.index == media.video.index:
            continue
        if track.kind is TrackKind.AUDIO and track.codec in _MP4_SOUND:
            continue
        if track.kind is TrackKind.SUBTITLE and track.codec in _MP4_TEXT:
            continue
        return False
    return True
