"""Counts what went into a result and names what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import MediaInfo, TrackKind
from videoprocess_server.model.plan import NotKept, Plan
from videoprocess_server.model.tasks import TrackReport


@dataclass
class Tally:
    """What was written, by the source's track."""

    packets: Counter[int] = field(default_factory=Counter)
    #: tracks that are in the result
    kept: set[int] = field(default_factory=set)
    #: packets whose decode time did not increase and was moved by a tick
    moved: Counter[int] = field(default_factory=Counter)
    #: packets whose time lies between two ticks of the result
    rounded: Counter[int] = field(default_factory=Counter)
    #: cover pictures that the muxer writes as tracks like others
    unmarked_covers: set[int] = field(default_factory=set)
    #: samples at a track's begin that the source's edit list hides and the result's cannot
    unhidden: Counter[int] = field(default_factory=Counter)
    #: tracks that hold chapters or a time code, which the muxer writes anew
    rewritten: dict[int, str] = field(default_factory=dict)


def report_tracks(
    media: MediaInfo, plan: Plan, container: str, totals: Mapping[int, int], tally: Tally
) -> tuple[TrackReport, ...]:
    """Tells what became of each track.

    Args:
        media: the source.
        plan: of the result.
        container: FFmpeg's muxer of it.
        totals: packets by track with edit lists ignored, where the container has them.
        tally: what was written.
    """
    reports = []
    for track in media.tracks:
        written = tally.packets[track.index]
        kept = track.index in tally.kept
        if track.index == plan.video_track_index:
            total = totals.get(track.index) or plan.source_frame_count
            note = "Made anew."
        else:
            total = totals.get(track.index, written if kept else track.packet_count)
            note = (
                ""
                if kept
                else tally.rewritten.get(track.index, f"FFmpeg's {container} muxer does not take it.")
            )
        reports.append(
            TrackReport(
                index=track.index,
                kind=track.kind.value,
                codec=track.codec,
                source_packet_count=total,
                packet_count=written,
                kept=kept,
                note=note,
            )
        )
    return tuple(reports)


def report_losses(plan: Plan, tracks: Sequence[TrackReport], tally: Tally) -> Iterator[NotKept]:
    """Names what of the tracks is not in the result."""
    for track in tracks:
        if track.index == plan.video_track_index or track.index in tally.rewritten:
            continue
        if not track.kept:
            yield _lost(Loss.TRACK, track.index, track.source_packet_count, track.note)
            continue
        outside = track.source_packet_count - track.packet_count
        if outside > 0:
            audio = track.kind == TrackKind.AUDIO.value
            what = Loss.AUDIO_PACKETS_OUTSIDE_EDIT if audio else Loss.PACKETS_OUTSIDE_EDIT
            yield _lost(what, track.index, outside, "The source's edit list hides them from players.")
        if tally.unhidden[track.index]:
            yield _lost(
                Loss.EDIT_LIST,
                track.index,
                tally.unhidden[track.index],
                "Samples of the encoder's start that the source hides are shown, at the time they always had.",
            )
        if tally.moved[track.index]:
            yield _lost(
                Loss.TIME_STAMPS,
                track.index,
                tally.moved[track.index],
                "Packets with the time of the one before are a tick later.",
            )
        if tally.rounded[track.index]:
            yield _lost(
                Loss.TIME_STAMPS,
                track.index,
                tally.rounded[track.index],
                "Times that lie between two ticks of the result are rounded to a tick.",
            )
        if track.index in tally.unmarked_covers:
            reason = "FFmpeg's Matroska muxer writes the cover picture as a track without that mark."
            yield _lost(Loss.METADATA, track.index, 1, reason)


def _lost(what: Loss, index: int, count: int, reason: str) -> NotKept:
    return NotKept(what=what, track_index=index, count=count, reason=reason)
