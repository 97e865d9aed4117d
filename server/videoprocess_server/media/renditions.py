"""Plans what each stream of a session becomes: its encoder, its size, its frames. One function an intent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from videoprocess_server.media.carried_units import length_size
from videoprocess_server.media.containers import choose_container, is_iso
from videoprocess_server.media.cover import choose_cover, choose_thumbnails
from videoprocess_server.media.encoder_settings import EncoderSettings, Picture, SourceCoding, plan_encoder
from videoprocess_server.media.encoders import (
    ENCODER_THREADS,
    Encoder,
    check_size,
    choose_bit_depth,
    choose_encoder,
    choose_pixel_format,
    declared_rate,
    options_for_width,
)
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.geometry import Geometry, encoded_colour, plan_geometry
from videoprocess_server.media.hdr import PictureMetadata
from videoprocess_server.media.losses import known_losses
from videoprocess_server.media.opening import Opening
from videoprocess_server.media.orientation import fit_matrix
from videoprocess_server.media.packets import PacketIndex
from videoprocess_server.media.proxies import (
    choose_proxy_depth,
    choose_proxy_encoder,
    fit_proxy,
    proxy_pixel_format,
)
from videoprocess_server.media.rate_control import Target, source_shares
from videoprocess_server.media.still_encoding import (
    THUMBNAIL_SIDE,
    check_still,
    known_colour,
    plan_jpeg,
    still_pixel_format,
)
from videoprocess_server.media.timeline import Timeline
from videoprocess_server.media.tone_mapping.stages import (
    SDR_COLOUR,
    SDR_DEPTH,
    STILL_COLOUR,
    HdrLight,
    check_mappable,
    hdr_light,
    map_still,
    map_video,
)
from videoprocess_server.media.upright import plan_upright
from videoprocess_server.media.video_usability import (
    ChromaLocation,
    VideoUsability,
    kept_usability,
    with_usability,
)
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.losses import LACKED_BY_PROXIES, Loss
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.plan import EncoderPlan, FrameScore, NotKept, Rendition, SegmentPlan
from videoprocess_server.model.settings_snapshot import Rect, StreamInfo


@dataclass(frozen=True, kw_only=True)
class Material:
    """What renditions are made of."""

    media: MediaInfo
    #: the file that sound and metadata come from: the same, unless three were given
    base: MediaInfo
    #: the part of the source's picture that is shown
    shown: Rect
    timeline: Timeline
    index: PacketIndex
    coding: SourceCoding
    segments: Sequence[SegmentPlan]
    #: frames per second, from first to last
    measured_rate: Fraction
    opening: Opening
    #: of the result; None where a player shows the picture as it is coded
    display_matrix: tuple[int, ...] | None
    #: frames at the beginning that need others the file does not have
    undecodable_count: int
    #: frames that were looked at for a cover
    scores: Sequence[FrameScore] = ()
    #: whether its pictures are mirrored
    mirrored: bool = False
    #: whether its pictures are moved against the camera's shake
    is_stabilised: bool = False
    #: quality or rate that is asked for of the enhanced video
    target: Target | None = None
    #: whether videos of HDR become SDR
    to_sdr: bool = False
    #: what they are mapped from; None where they are not
    mapped_from: HdrLight | None = None


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A rendition and what it will not have of the source."""

    rendition: Rendition
    not_kept: tuple[NotKept, ...] = ()
    #: options of the encoder of each segment; none where all are encoded alike
    segment_options: tuple[dict[str, str], ...] = ()


def plan_renditions(streams: Sequence[StreamInfo], material: Material) -> tuple[Planned, ...]:
    """Plan all streams that have pictures, in their order.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED, SIZE_NOT_SUPPORTED.
    """
    return tuple(_planned(stream, material) for stream in streams if stream.intent not in _WITHOUT_PICTURES)


def _planned(stream: StreamInfo, material: Material) -> Planned:
    plan = _PLANNERS.get(stream.intent)
    if plan is None:
        raise MediaFault(
            "STREAM_NOT_SUPPORTED", f"Stream {stream.stream_id} is {stream.intent.name}; it is not made here."
        )
    return plan(stream, material)


def _video(stream: StreamInfo, material: Material) -> Planned:
    """The enhanced video: the source's codec, size and depth unless something else is asked for."""
    material = _as_shown(material)
    video, opening = material.media.video, material.opening
    bit_depth = choose_bit_depth(video, stream)
    encoder = choose_encoder(video, stream, bit_depth)
    pixel_format = choose_pixel_format(video, bit_depth)
    usability = kept_usability(material.coding.usability, video.pixel_format, pixel_format)
    geometry = plan_geometry(
        video,
        material.shown,
        stream.width,
        stream.height,
        pixel_format,
        chroma_location=usability.chroma_location,
    )
    geometry = _mapped(geometry, pixel_format, usability.chroma_location, material)
    check_size(encoder, geometry.width, geometry.height)
    settings = _settings(encoder, geometry, pixel_format, material, usability)
    carried = _carried_length_size(encoder, geometry, material)
    coded = _encoder_plan(encoder, settings, geometry, pixel_format, material)
    rendition = replace(_moving(stream, coded, geometry, material), carried_length_size=carried)
    not_kept = known_losses(
        video,
        stream,
        encoder,
        geometry,
        pixel_format,
        opening,
        material.undecodable_count,
        boxes=is_iso(material.base),
        carried=carried > 0,
    )
    remarks = (_remark(video.index, sentence) for sentence in settings.remarks)
    return Planned(
        rendition=rendition, not_kept=(*not_kept, *remarks), segment_options=settings.segment_options
    )


def _moving(stream: StreamInfo, coded: EncoderPlan, geometry: Geometry, material: Material) -> Rendition:
    """A video: all frames, in the source's container, turned as the source is."""
    video, matrix = material.media.video, material.display_matrix
    container, extension = choose_container(material.base)
    return Rendition(
        stream_id=stream.stream_id,
        intent=stream.intent,
        encoder=coded,
        geometry=geometry.fit,
        container=container,
        file_extension=extension,
        display_matrix=matrix
        and fit_matrix(matrix, (video.width, video.height), (geometry.width, geometry.height)),
        note=material.mapped_from.note if material.mapped_from else "",
    )


def _as_shown(material: Material) -> Material:
    """Give the material as a video's encoder is to take it: of HDR that becomes SDR, SDR.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED.
    """
    media, opening = material.media, material.opening
    light = hdr_light(media.video, opening.hdr_static)
    if light is None or not material.to_sdr:
        return material
    check_mappable(light)
    video = replace(media.video, colour=SDR_COLOUR, bit_depth=SDR_DEPTH)
    kept = tuple(kind for kind in opening.picture_metadata if kind is PictureMetadata.TIME_CODE)
    return replace(
        material,
        media=replace(media, video=video),
        opening=replace(opening, hdr_static="", picture_metadata=kept),
        mapped_from=light,
    )


def _mapped(
    geometry: Geometry, pixel_format: str, chroma_location: ChromaLocation | None, material: Material
) -> Geometry:
    """Give the geometry that maps what it scales to SDR, where that is asked for."""
    if material.mapped_from is None:
        return geometry
    size = geometry.width, geometry.height
    source = material.media.video.pixel_format
    return replace(geometry, fit=map_video(material.mapped_from, source, size, pixel_format, chroma_location))


#: these streams tell of the others' frames
_WITHOUT_PICTURES = frozenset({StreamIntent.ANALYZE, StreamIntent.CUSTOM})


#: what a proxy is said to lack: it is small and of few bits on purpose, but has all frames
_LOST_BY_PROXIES = frozenset({Loss.INTERLACED, Loss.UNDECODABLE_FRAMES})


def _preview(stream: StreamInfo, material: Material) -> Planned:
    """A small proxy with all frames and time stamps of the enhanced video; of HDR it is HDR, unless SDR is asked for."""
    material = _as_shown(material)
    video = material.media.video
    bit_depth = choose_proxy_depth(video, stream)
    encoder = choose_proxy_encoder(stream, bit_depth, material.opening.hdr_static)
    size = fit_proxy((video.width, video.height), stream, encoder.min_side)
    pixel_format = proxy_pixel_format(bit_depth)
    chroma_location = kept_usability(
        material.coding.usability, video.pixel_format, pixel_format
    ).chroma_location
    geometry = plan_geometry(video, material.shown, *size, pixel_format, chroma_location=chroma_location)
    geometry = _mapped(geometry, pixel_format, chroma_location, material)
    check_size(encoder, geometry.width, geometry.height)
    if not stream.width or not stream.height:
        # What was rounded to even sides is no other shape.
        geometry = replace(geometry, sample_aspect_ratio=video.sample_aspect_ratio)
    options = with_usability(encoder.codec, encoder.options, VideoUsability(chroma_location=chroma_location))
    settings = EncoderSettings(options=options, segment_options=(), remarks=())
    coded = _encoder_plan(encoder, settings, geometry, pixel_format, material)
    rendition = _moving(stream, coded, geometry, material)
    lacked = tuple(
        known_losses(
            video,
            stream,
            encoder,
            geometry,
            pixel_format,
            material.opening,
            material.undecodable_count,
            boxes=is_iso(material.base),
            carried=False,
        )
    )
    return Planned(
        rendition=replace(
            rendition,
            note=" ".join(
                (
                    *([rendition.note] if rendition.note else []),
                    *(lost.reason for lost in lacked if lost.what in LACKED_BY_PROXIES),
                )
            ),
        ),
        not_kept=tuple(lost for lost in lacked if lost.what in _LOST_BY_PROXIES),
    )


def _cover(stream: StreamInfo, material: Material) -> Planned:
    """One picture: the one that the camera's user chose, or the best."""
    timeline = material.timeline
    enhanced_from = next((part.start_pts for part in material.segments if part.enhanced), timeline.end_pts)
    pts = choose_cover(
        timeline.presentable(),
        timeline.end_pts,
        timeline.time_base,
        material.base.cover_time_ms,
        [score for score in material.scores if score.pts >= enhanced_from] or material.scores,
    )
    return _stills(stream, material, (pts,), None)


def _thumbnails(stream: StreamInfo, material: Material) -> Planned:
    """Small pictures, evenly spread over the video."""
    timeline = material.timeline
    chosen = choose_thumbnails(timeline.presentable(), timeline.end_pts)
    return _stills(stream, material, chosen, THUMBNAIL_SIDE)


def _stills(
    stream: StreamInfo, material: Material, pts: tuple[int, ...], longest_side: int | None
) -> Planned:
    video = material.media.video
    check_still(video, stream)
    pixel_format = still_pixel_format(video)
    geometry = plan_upright(
        video,
        material.shown,
        material.display_matrix,
        (stream.width, stream.height),
        longest_side,
        pixel_format,
    )
    light = hdr_light(video, material.opening.hdr_static)
    rendition = Rendition(
        stream_id=stream.stream_id,
        intent=stream.intent,
        encoder=plan_jpeg(geometry, _frame_rate(material)),
        geometry=(*geometry.fit, *map_still(light, pixel_format)) if light else geometry.fit,
        still_pts=pts,
        file_extension=".jpg",
        mapped_from=STILL_COLOUR if light else known_colour(video),
        note=light.note if light else "",
    )
    return Planned(rendition=rendition)


#: how each intent is planned: adding one is one function and one line
_PLANNERS: Mapping[StreamIntent, Callable[[StreamInfo, Material], Planned]] = {
    StreamIntent.VIDEO: _video,
    StreamIntent.PREVIEW: _preview,
    StreamIntent.STILL_CAPTURE: _cover,
    StreamIntent.POST_VIEW: _thumbnails,
}


def _carried_length_size(encoder: Encoder, geometry: Geometry, material: Material) -> int:
    """Give what `Rendition.carried_length_size` tells: what packets say of pictures holds for the same pictures only."""
    video, shown, opening = material.media.video, material.shown, material.opening
    same_size = (
        (shown.width, shown.height) == (video.width, video.height) == (geometry.width, geometry.height)
    )
    same_pictures = same_size and material.timeline.keeps_frames and not opening.interlaced
    same_pictures = same_pictures and material.mapped_from is None
    same_pictures = same_pictures and not material.mirrored and not material.is_stabilised
    if not same_pictures or opening.two_layers or not video.codec == encoder.codec == "hevc":
        return 0
    return length_size(opening.configuration)


def _settings(
    encoder: Encoder, geometry: Geometry, pixel_format: str, material: Material, usability: VideoUsability
) -> EncoderSettings:
    video, rate = material.media.video, _frame_rate(material)
    frames = Fraction(sum(segment.frame_count for segment in material.segments), len(material.timeline.pts))
    shares = source_shares(
        material.index,
        material.segments,
        material.media.video.time_base,
        rate,
        # a larger picture was asked for, or more of them
        enlarged=max(Fraction(1), Fraction(geometry.width * geometry.height, video.width * video.height))
        * max(Fraction(1), frames),
    )
    picture = Picture(
        width=geometry.width,
        height=geometry.height,
        pixel_format=pixel_format,
        frame_rate=rate,
        frames_kept=frames,
        hdr_static=material.opening.hdr_static,
        usability=usability,
    )
    return plan_encoder(encoder, picture, material.coding, shares, material.target)


def _frame_rate(material: Material) -> Fraction:
    grid, made = material.timeline.grid, material.timeline.interpolation
    if made is not None:
        return made.rate
    return grid.rate if grid else declared_rate(material.measured_rate)


def _remark(track_index: int, sentence: str) -> NotKept:
    return NotKept(what=Loss.ENCODER_PARAMETERS, track_index=track_index, count=1, reason=sentence)


def _encoder_plan(
    encoder: Encoder, settings: EncoderSettings, geometry: Geometry, pixel_format: str, material: Material
) -> EncoderPlan:
    return EncoderPlan(
        encoder=encoder.name,
        codec=encoder.codec,
        options=options_for_width(settings.options, geometry.width),
        pixel_format=pixel_format,
        width=geometry.width,
        height=geometry.height,
        frame_rate=_frame_rate(material),
        sample_aspect_ratio=geometry.sample_aspect_ratio,
        colour=encoded_colour(material.media.video),
        codec_tag=encoder.codec_tag,
        thread_count=ENCODER_THREADS,
    )
