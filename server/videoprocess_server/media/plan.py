"""Makes the plan of a result. Reads the packet index and the first frames; decides all that can change a byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from videoprocess_server.enhance.chains import Chain, build_chain
from videoprocess_server.media.containers import ISO_MUXERS, choose_container
from videoprocess_server.media.damage import Damage, damage_losses, find_damage, untimed_losses
from videoprocess_server.media.declared_end import with_declared_end
from videoprocess_server.media.encoder_settings import describe_coding
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.fields import DEINTERLACE, DEINTERLACE_ROLL_FRAMES, index_frames
from videoprocess_server.media.frame_rates import FrameRate, measured_rate, plan_frame_rate
from videoprocess_server.media.geometry import crop_filters, zoomed
from videoprocess_server.media.hdr import HDR_TRANSFERS
from videoprocess_server.media.interpolate.interpolation import can_interpolate
from videoprocess_server.media.opening import Opening, read_opening
from videoprocess_server.media.orientation import read_matrix, turned_matrix
from videoprocess_server.media.packets import PacketIndex, read_index
from videoprocess_server.media.pulse import Pulse
from videoprocess_server.media.rate_control import target_of
from videoprocess_server.media.renditions import Material, Planned, plan_renditions
from videoprocess_server.media.source import open_source, video_stream
from videoprocess_server.media.stabilise.measurement import FRAMES_BEFORE
from videoprocess_server.media.stabilise.warp import channels_of
from videoprocess_server.media.still_encoding import known_colour
from videoprocess_server.media.timeline import (
    Timeline,
    first_pts_at,
    interpolated_times,
    plan_segments,
    summarise,
)
from videoprocess_server.media.upright import mirror_filters
from videoprocess_server.media.video_usability import ChromaLocation
from videoprocess_server.media.watermark import named_losses, plan_overlay
from videoprocess_server.model.cuts import CutRules
from videoprocess_server.model.enc_param import parse_enc_param
from videoprocess_server.model.grid import grid_time_base
from videoprocess_server.model.hdi import StreamIntent, VideoStabilisation
from videoprocess_server.model.media_info import VideoTrackInfo
from videoprocess_server.model.plan import FilterPlan, Plan, Rendition, SegmentPlan, StabilisationPlan
from videoprocess_server.model.settings_snapshot import Rect, Watermark
from videoprocess_server.model.tasks import PlanTask, TaskMessage

_MOVING = frozenset({StreamIntent.VIDEO, StreamIntent.PREVIEW})

#: ticks per second that MP4 can hold
_MAX_TICKS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What was read of the file."""

    index: PacketIndex
    opening: Opening
    damage: Damage
    #: None where a player shows the picture as it is coded
    matrix: tuple[int, ...] | None


def make_plan(task: PlanTask, fd: int, emit: Callable[[TaskMessage], None] | None = None) -> Plan:
    """Plan a result.

    Args:
        task: what is asked of it.
        fd: the source, opened for reading.
        emit: is told about twice a second how far it is.

    Raises:
        MediaFault: one of the slips of errors.py, or NO_DECODABLE_FRAME, DECODE_FAILED, NOT_A_VIDEO, SOURCE_CHANGED.
    """
    video, setting = task.media.video, task.snapshot.mode_setting
    base = task.companion or task.media
    shown = zoomed(Rect(x=0, y=0, width=video.width, height=video.height), setting)
    read = _read(fd, video.index, Pulse(emit), conceal_damage=setting.conceal_damage)
    frame_rate = plan_frame_rate(setting, read.opening.pts, video.time_base, video.average_frame_rate)
    if frame_rate.interpolation is not None:
        _check_interpolable(video)
    ticks = _output_time_base(video, frame_rate, choose_container(base)[0])
    timeline = _timeline(read, video, frame_rate, ticks)
    matrix = turned_matrix(
        read.matrix,
        setting.orientation_degrees,
        (video.width, video.height),
        moves=choose_container(base)[0] in ISO_MUXERS,
    )
    crop = (*crop_filters(shown, video), *mirror_filters(setting, matrix))
    chain = build_chain(setting, task.noise, video.bit_depth, is_hdr=video.colour.transfer in HDR_TRANSFERS)
    enhance_from_pts = first_pts_at(timeline, task.enhance_from_us)
    roll = DEINTERLACE_ROLL_FRAMES if read.opening.interlaced else 0
    segments = plan_segments(
        timeline,
        _rules(task, video.time_base),
        enhance_from_pts,
        max(chain.pre_roll_frames, FRAMES_BEFORE * _is_stabilised(task)),
        roll,
    )
    material = _material(task, read, timeline, segments, shown, matrix)
    renditions = plan_renditions(task.snapshot.streams, material)
    filters = replace(_filter_plan(chain, shown, video, read.opening, setting.watermark), crop=crop)
    return _plan_of(task, read, material, renditions, filters, enhance_from_pts)


def read_timeline(plan: Plan, video: VideoTrackInfo, fd: int, pulse: Pulse) -> Timeline:
    """Read anew what becomes of which frame.

    Raises:
        MediaFault: SOURCE_CHANGED where that is not what was planned.
    """
    read = _read(fd, video.index, pulse, conceal_damage=bool(plan.damaged_pts))
    frame_rate = FrameRate(grid=plan.grid, interpolation=plan.interpolation)
    timeline = _timeline(read, video, frame_rate, plan.output_time_base)
    if summarise(timeline) != (plan.frame_count, plan.pts_sha256):
        raise MediaFault("SOURCE_CHANGED", "The file has other frames than were planned.")
    return timeline


def _material(
    task: PlanTask,
    read: _Source,
    timeline: Timeline,
    segments: Sequence[SegmentPlan],
    shown: Rect,
    matrix: tuple[int, ...] | None,
) -> Material:
    video, setting, base = task.media.video, task.snapshot.mode_setting, task.companion or task.media
    asked = parse_enc_param(base.encoder_parameters)
    return Material(
        media=task.media,
        base=base,
        index=read.index,
        coding=describe_coding(video.codec, read.opening.configuration, read.index, asked),
        segments=segments,
        shown=shown,
        timeline=timeline,
        measured_rate=measured_rate(read.opening.pts, video.time_base, video.average_frame_rate),
        opening=read.opening,
        display_matrix=matrix,
        mirrored=setting.mirror,
        target=target_of(setting),
        undecodable_count=len(read.index.pts) - len(read.opening.pts),
        scores=task.noise.frames,
        to_sdr=setting.to_sdr,
        is_stabilised=_is_stabilised(task),
    )


def _plan_of(
    task: PlanTask,
    read: _Source,
    material: Material,
    renditions: Sequence[Planned],
    filters: FilterPlan,
    enhance_from_pts: int,
) -> Plan:
    video, setting, timeline = task.media.video, task.snapshot.mode_setting, material.timeline
    frame_count, pts_sha256 = summarise(timeline)
    interpolated_count, interpolated_us = interpolated_times(timeline)
    return Plan(
        video_track_index=video.index,
        time_base=video.time_base,
        first_pts=timeline.pts[0],
        last_pts=timeline.pts[-1],
        end_pts=timeline.end_pts,
        source_frame_count=len(timeline.pts),
        frame_count=frame_count,
        pts_sha256=pts_sha256,
        segments=only_needed(
            with_options(material.segments, renditions), [made.rendition for made in renditions]
        ),
        renditions=tuple(made.rendition for made in renditions),
        filters=filters,
        stabilisation=_draft_stabilisation(task, material.coding.usability.chroma_location),
        grid=timeline.grid,
        interpolation=timeline.interpolation,
        interpolated_count=interpolated_count,
        interpolated_us=interpolated_us,
        output_time_base=timeline.output_time_base,
        noise=replace(task.noise, frames=()),
        report_stream_ids=_ids_of(StreamIntent.ANALYZE, task),
        maker_stream_ids=_ids_of(StreamIntent.CUSTOM, task),
        enhance_from_pts=enhance_from_pts,
        orientation_degrees=setting.orientation_degrees,
        moov_first=setting.moov_first,
        damaged_pts=tuple(read.damage.damaged),
        not_kept=tuple(
            dict.fromkeys(
                (
                    *(lost for made in renditions for lost in made.not_kept),
                    *damage_losses(read.damage, video.time_base, video.index),
                    *untimed_losses(read.index.untimed_count, video.index),
                    *named_losses(material.base),
                )
            )
        ),
    )


def _is_stabilised(task: PlanTask) -> bool:
    """Tell whether frames are moved: single pictures have nothing to be held still beside."""
    asked = task.snapshot.mode_setting.stabilisation is not VideoStabilisation.OFF
    return asked and any(stream.intent in _MOVING for stream in task.snapshot.streams)


def _draft_stabilisation(task: PlanTask, chroma_location: ChromaLocation | None) -> StabilisationPlan | None:
    """Give what is known before the motion is measured.

    Raises:
        MediaFault: STREAM_NOT_SUPPORTED where the source's pixels cannot be moved.
    """
    if not _is_stabilised(task):
        return None
    pixel_format = task.media.video.pixel_format
    if not channels_of(pixel_format):
        raise MediaFault(
            "STREAM_NOT_SUPPORTED",
            f"The source's pixels are {pixel_format}; only whole planes of 8 to 16 bits are stabilised.",
        )
    return StabilisationPlan(
        strength=task.snapshot.mode_setting.stabilisation,
        chroma_location=None if chroma_location is None else int(chroma_location),
    )


def _ids_of(intent: StreamIntent, task: PlanTask) -> tuple[int, ...]:
    return tuple(stream.stream_id for stream in task.snapshot.streams if stream.intent is intent)


def with_options(segments: Sequence[SegmentPlan], renditions: Sequence[Planned]) -> list[SegmentPlan]:
    """Give the segments with the options of their encoders."""
    return [
        replace(
            segment,
            encoder_options={
                made.rendition.stream_id: made.segment_options[segment.index]
                for made in renditions
                if made.segment_options
            },
        )
        for segment in segments
    ]


def only_needed(segments: Sequence[SegmentPlan], renditions: Sequence[Rendition]) -> tuple[SegmentPlan, ...]:
    """Give the segments that have frames of a rendition: all of them, unless there are stills only."""
    needed = [segment for segment in segments if any(_shows(segment, rendition) for rendition in renditions)]
    return tuple(replace(segment, index=index) for index, segment in enumerate(needed))


def _shows(segment: SegmentPlan, rendition: Rendition) -> bool:
    stills = rendition.still_pts
    return stills is None or any(segment.start_pts <= pts < segment.end_pts for pts in stills)


def _read(fd: int, track_index: int, pulse: Pulse, *, conceal_damage: bool) -> _Source:
    with open_source(fd) as container:
        stream = video_stream(container, track_index)
        index = with_declared_end(read_index(container, stream, pulse), fd, container, stream.id)
    with open_source(fd) as container:
        stream = video_stream(container, track_index)
        opening = read_opening(container, stream, index, conceal_damage=conceal_damage)
    if opening.interlaced:
        frames = index_frames(fd, track_index, index, pulse, conceal_damage=conceal_damage)
        index, opening = frames, opening if frames is index else replace(opening, pts=frames.pts)
    damage = Damage()
    if conceal_damage:
        with open_source(fd) as container:
            stream = video_stream(container, track_index)
            damage = find_damage(container, stream, opening.pts, opening.picture, pulse)
    with open_source(fd) as container:
        matrix = read_matrix(container, video_stream(container, track_index))
    return _Source(index=index, opening=opening, damage=damage, matrix=matrix)


def _check_interpolable(video: VideoTrackInfo) -> None:
    if not can_interpolate(video.pixel_format):
        raise MediaFault(
            "FRAME_RATE_RAISE_NOT_SUPPORTED",
            f"The source's pixels are {video.pixel_format}; frames are made up of planes of 8 to 16 bits only.",
        )


def _output_time_base(video: VideoTrackInfo, frame_rate: FrameRate, container: str) -> Fraction:
    """Choose the result's ticks; they hold all its times exactly, but those of made-up frames where the container cannot."""
    made, exact = frame_rate.interpolation, Fraction(1, video.time_base.denominator)
    if frame_rate.grid is not None:
        exact = grid_time_base(frame_rate.grid, video.time_base)
    elif made is not None and made.factor and container in ISO_MUXERS:
        finer = exact / made.factor
        exact = finer if finer.denominator <= _MAX_TICKS else exact
    if exact.denominator > _MAX_TICKS:
        raise MediaFault(
            "STREAM_NOT_SUPPORTED", "The source's time stamps and that frame rate have no common time base."
        )
    return exact


def _timeline(
    read: _Source, video: VideoTrackInfo, frame_rate: FrameRate, output_time_base: Fraction
) -> Timeline:
    damaged = read.damage.damaged
    return Timeline(
        pts=read.opening.pts,
        keys=_without(read.index.keys, damaged),
        damaged=frozenset(damaged),
        end_pts=read.index.end_pts,
        time_base=video.time_base,
        output_time_base=output_time_base,
        grid=frame_rate.grid,
        interpolation=frame_rate.interpolation,
    )


def _without(keys: Sequence[int], damaged: Sequence[int]) -> Sequence[int]:
    """Give the key frames that decode; the first frame's time where none does."""
    if not damaged:
        return keys
    gone = frozenset(damaged)
    return [pts for pts in keys if pts not in gone] or keys[:1]


def _rules(task: PlanTask, time_base: Fraction) -> CutRules:
    return CutRules(
        segment_ticks=task.settings.segment_seconds / time_base,
        longest_gop_ticks=task.settings.longest_gop_seconds / time_base,
    )


def _filter_plan(
    chain: Chain, shown: Rect, video: VideoTrackInfo, opening: Opening, watermark: Watermark | None
) -> FilterPlan:
    return FilterPlan(
        source_picture=opening.picture,
        enhancement=chain.filters,
        pixel_format=video.pixel_format,
        prepare=DEINTERLACE if opening.interlaced else (),
        prepare_roll_frames=DEINTERLACE_ROLL_FRAMES if opening.interlaced else 0,
        pre_roll_frames=chain.pre_roll_frames,
        post_roll_frames=chain.post_roll_frames,
        overlay=plan_overlay(watermark, shown, video, known_colour(video)),
    )
