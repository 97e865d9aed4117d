"""Which kind of file a result becomes."""

from __future__ import annotations

from videoprocess_server.model.media_info import MediaInfo, TrackKind

#: FFmpeg's demuxer of MP4, MOV and 3GP
ISO_DEMUXER_MARK = "mov"
#: what FFmpeg's 3GP muxer takes as picture
_3GP_VIDEO = frozenset({"h263", "h264", "mpeg4"})
_AMR = frozenset({"amrnb", "amr_nb", "amrwb", "amr_wb"})
#: what of a Matroska file fits into an MP4 that players play; Vorbis and PCM have numbers there, and no players
_MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_MP4_TEXT = frozenset({"mov_text"})


def choose_container(media: MediaInfo, codec: str) -> tuple[str, str]:
    """Choose FFmpeg's muxer and the file's extension for a result whose picture is coded as `codec`."""
    if ISO_DEMUXER_MARK not in media.container.split(","):
        return ("mp4", ".mp4") if _fits_mp4(media) else ("matroska", ".mkv")
    if media.major_brand == "qt":
        return "mov", ".mov"
    if any(track.codec in _AMR for track in media.tracks):
        # MP4 does not hold AMR; MOV does, whatever the picture.
        return ("3gp", ".3gp") if codec in _3GP_VIDEO else ("mov", ".mov")
    return "mp4", ".mp4"


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
