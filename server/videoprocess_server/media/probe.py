"""Says what a file is, without reading all of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from math import inf

import av.error
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoprocess_server.media.declared import Declared
from videoprocess_server.media.declared_iso import check_boxes
from videoprocess_server.media.declared_matroska import EBML, check_elements
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.source import DEMUXER_NAMES, demuxer_of, open_source, prepare_decoder
from videoprocess_server.model.enc_param import ENC_PARAM_KEY
from videoprocess_server.model.media_info import Colour, MediaInfo, TrackInfo, TrackKind, VideoTrackInfo
from videoprocess_server.model.tasks import MediaLimits, ProbeTask

#: packets tried until one frame decodes; more than any encoder's delay, and few enough to be quick
FIRST_FRAME_PACKETS = 240
#: brands of still images, which the MP4 demuxer opens as videos of one frame
STILL_IMAGE_BRANDS = frozenset({"heic", "heix", "heim", "heis", "mif1", "avif", "jpeg", "crx"})
#: ISO/IEC 23091-2: not said
UNSPECIFIED = 2

_KINDS = {
    "video": TrackKind.VIDEO,
    "audio": TrackKind.AUDIO,
    "subtitle": TrackKind.SUBTITLE,
    "data": TrackKind.DATA,
    "attachment": TrackKind.ATTACHMENT,
}
_NOT_THE_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
#: user metadata: when the camera's user would have the cover taken
_COVER_TIME_KEY = "com.openharmony.covertime"
#: user metadata: the path of a picture that the recorder would have burnt in
_WATERMARK_KEY = "com.openharmony.water_mark_info"
_MICROSECONDS = 1_000_000
#: AV_TIME_BASE, FFmpeg's unit of a container's duration
_CONTAINER_TICKS = 1_000_000
#: Matroska: the elements a file consists of, and bytes that hold the heads of both
_SEGMENT = b"\x18\x53\x80\x67"
_EBML_HEAD_BYTES = 4096


def probe(task: ProbeTask, fd: int) -> MediaInfo:
    """Describe the source; its first frame must decode.

    Raises:
        MediaFault: NOT_A_VIDEO, NO_VIDEO_TRACK, UNSUPPORTED_CODEC, NO_DECODABLE_FRAME, TRUNCATED_FILE or OVER_LIMITS.
    """
    _check_declared(fd, task.limits)
    with open_source(fd) as container:
        streams = list(container.streams)
        if len(streams) > task.limits.max_tracks:
            raise MediaFault(
                "OVER_LIMITS",
                f"The file has {len(streams)} tracks; at most {task.limits.max_tracks} are taken.",
            )
        stream = _choose_video(streams)
        brand = container.metadata.get("major_brand", "").strip()
        if brand in STILL_IMAGE_BRANDS and stream.frames <= 1:
            raise MediaFault("NOT_A_VIDEO", "The file is a still image.")
        duration_us = _duration_us(container)
        _check_limits(stream, duration_us, task.limits)
        size_bytes = os.fstat(fd).st_size
        _check_segment(fd, size_bytes)
        frame = first_frame(container, stream)
        _check_whole(streams, size_bytes)
        return MediaInfo(
            container=DEMUXER_NAMES[container.format.name],
            major_brand=brand,
            size_bytes=size_bytes,
            duration_us=duration_us,
            video=_describe_video(stream, frame),
            tracks=tuple(_describe_track(track) for track in streams),
            encoder_parameters=container.metadata.get(ENC_PARAM_KEY, ""),
            cover_time_ms=_cover_time_ms(container.metadata.get(_COVER_TIME_KEY, "")),
            names_watermark=bool(container.metadata.get(_WATERMARK_KEY, "").strip()),
        )


def _check_declared(fd: int, limits: MediaLimits) -> None:
    """Refuse what declares too much, before FFmpeg allocates anything for it."""
    size_bytes = os.fstat(fd).st_size
    check = check_elements if demuxer_of(fd) == "matroska" else check_boxes
    check(fd, size_bytes, Declared(limits))


def first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame:
    """Decode the first frame that decodes at all.

    Raises:
        MediaFault: NO_DECODABLE_FRAME where none of the first packets gives one.
    """
    prepare_decoder(stream)
    try:
        for packet in islice(container.demux(stream), FIRST_FRAME_PACKETS):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            if frames and frames[0].width and frames[0].height:
                return frames[0]
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        raise MediaFault("NO_DECODABLE_FRAME", "No frame of the video track decodes.") from error
    raise MediaFault("NO_DECODABLE_FRAME", "No frame of the video track decodes.")


def _check_whole(streams: Sequence[Stream], size_bytes: int) -> None:
    """Compare the size with the index that the file begins with; FFmpeg reads a file that was cut off without a word."""
    end = max((entry.pos + entry.size for stream in streams for entry in stream.index_entries), default=0)
    if end > size_bytes:
        raise MediaFault(
            "TRUNCATED_FILE", f"The file has {size_bytes} bytes, its index tells of {end}: it was cut off."
        )


def _check_segment(fd: int, size_bytes: int) -> None:
    """Compare the size with the one that a Matroska file's Segment declares; its index is at the end and may be gone."""
    head, at, end = os.pread(fd, _EBML_HEAD_BYTES, 0), 0, 0
    for mark in (EBML, _SEGMENT):
        length = 9 - head[at + 4].bit_length() if head.startswith(mark, at) and len(head) > at + 4 else 9
        field = head[at + 4 : at + 4 + length]
        size = int.from_bytes(field, "big") & ((1 << 7 * length) - 1)
        if (
            length > 8 or len(field) < length or size == (1 << 7 * length) - 1
        ):  # none, or a size that is not told
            return
        at = end = at + 4 + length + size
    if end > size_bytes:
        raise MediaFault(
            "TRUNCATED_FILE", f"The file has {size_bytes} bytes and declares {end}: it was cut off."
        )


def colour_of(stream: VideoStream, frame: VideoFrame) -> Colour:
    """Colour of what decodes; of what the container says where the frame does not tell."""
    context = stream.codec_context
    full_range = 2
    return Colour(
        primaries=_specified(frame.color_primaries, context.color_primaries),
        transfer=_specified(frame.color_trc, context.color_trc),
        matrix=_specified(frame.colorspace, context.colorspace),
        range=full_range if "yuvj" in frame.format.name else frame.color_range or context.color_range,
    )


def plain_pixel_format(name: str) -> str:
    """FFmpeg's name without the deprecated mark of full range, which `Colour.range` tells."""
    return name.replace("yuvj", "yuv")


def _cover_time_ms(told: str) -> float | None:
    """Read the time of the cover; what is no time is as if it were not there."""
    try:
        milliseconds = float(told)
    except ValueError:
        return None
    return milliseconds if 0 <= milliseconds < inf else None


def _choose_video(streams: list[Stream]) -> VideoStream:
    """Choose as a player would: no cover pictures, the default track, the larger picture, more frames, the first."""
    declared = [stream for stream in streams if stream.type == "video"]
    videos = [
        stream
        for stream in declared
        if isinstance(stream, VideoStream) and not stream.disposition & _NOT_THE_VIDEO
    ]
    if not declared or (not videos and all(isinstance(stream, VideoStream) for stream in declared)):
        raise MediaFault("NO_VIDEO_TRACK", "The file has no video track.")
    decodable = [stream for stream in videos if _context_of(stream) is not None]
    if not decodable:
        raise MediaFault("UNSUPPORTED_CODEC", "The video track's codec is unknown here.")
    return max(decodable, key=_rank)


def _rank(stream: VideoStream) -> tuple[bool, int, int, int]:
    pixels = stream.codec_context.width * stream.codec_context.height
    return bool(stream.disposition & Disposition.default), pixels, stream.frames, -stream.index


def _context_of(stream: Stream) -> CodecContext | None:
    """Give the decoder; PyAV has none for tracks whose codec it does not know, whatever their type says."""
    context: CodecContext | None = stream.codec_context
    return context


def _check_limits(stream: VideoStream, duration_us: int | None, limits: MediaLimits) -> None:
    context = stream.codec_context
    pixels = context.width * context.height
    if pixels > limits.max_pixels:
        raise MediaFault(
            "OVER_LIMITS",
            f"A picture of {context.width}x{context.height} has more than {limits.max_pixels} pixels.",
        )
    declared = (Fraction(duration_us or 0, _MICROSECONDS), _track_seconds(stream) or Fraction(0))
    if max(declared) > limits.max_duration_seconds:
        raise MediaFault("OVER_LIMITS", f"The video is longer than {limits.max_duration_seconds} seconds.")


def _describe_video(stream: VideoStream, frame: VideoFrame) -> VideoTrackInfo:
    context = stream.codec_context
    return VideoTrackInfo(
        index=stream.index,
        codec=context.codec.canonical_name,
        profile=context.profile or "",
        width=frame.width,
        height=frame.height,
        pixel_format=plain_pixel_format(frame.format.name),
        bit_depth=max(component.bits for component in frame.format.components),
        time_base=stream.time_base or Fraction(1, _CONTAINER_TICKS),
        average_frame_rate=stream.average_rate,
        variable_frame_rate=_varies(stream),
        duration=_track_seconds(stream),
        sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(0, 1),
        rotation_degrees=-frame.rotation % 360,
        colour=colour_of(stream, frame),
    )


def _describe_track(stream: Stream) -> TrackInfo:
    context = _context_of(stream)
    return TrackInfo(
        index=stream.index,
        kind=_KINDS.get(stream.type, TrackKind.UNKNOWN),
        codec=context.codec.canonical_name if context else "",
        packet_count=max(stream.frames, 0),
        duration=_track_seconds(stream),
        language=stream.metadata.get("language", ""),
    )


def _track_seconds(stream: Stream) -> Fraction | None:
    if stream.duration is None or stream.duration < 0 or stream.time_base is None:
        return None
    return stream.duration * stream.time_base


def _duration_us(container: InputContainer) -> int | None:
    duration = container.duration
    return None if duration is None or duration < 0 else duration * _MICROSECONDS // _CONTAINER_TICKS


def _specified(frame_value: int, container_value: int) -> int:
    return container_value if frame_value == UNSPECIFIED else frame_value


def _varies(stream: VideoStream) -> bool:
    """Whether the base rate, which tells every time stamp apart, is another than the average one."""
    average, base = stream.average_rate, stream.base_rate
    return bool(average and base and abs(base - average) > average / 100)
