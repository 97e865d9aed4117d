"""Counts what a muxer wrote and names what it did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import MediaInfo
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


def report_tracks(media: MediaInfo, plan: Plan, container: str, tally: Tally) -> tuple[TrackReport, ...]:
    """Tells what became of each track.

    Args:
        media: the source.
        plan: of the result.
        container: FFmpeg's muxer of it.
        tally: what was written.
    """
    reports = []
    for track in media.tracks:
        written, kept = tally.packets[track.index], track.index in tally.kept
        is_picture = track.index == media.video.index
        note = "Made anew." if is_picture else "" if kept else f"FFmpeg's {container} muxer does not take it."
        total = plan.source_frame_count if is_picture else written if kept else track.packet_count
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


def report_losses(picture: int, tracks: Sequence[TrackReport], tally: Tally) -> Iterator[NotKept]:
    """Names what of the tracks beside the picture is not in the result."""
    for track in tracks:
        if track.index == picture:
            continue
        if not track.kept:
            yield _lost(Loss.TRACK, track.index, max(1, track.source_packet_count), track.note)
            continue
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


def _lost(what: Loss, index: int, count: int, reason: str) -> NotKept:
    return NotKept(what=what, track_index=index, count=count, reason=reason)
