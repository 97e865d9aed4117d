"""How noisy a video is, by the frames that were measured: medians, so that single frames do not count for much."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from videoprocess_server.model.plan import FrameScore, NoiseEstimate, PlaceNoise


@dataclass(frozen=True, kw_only=True)
class FrameNoise:
    """What one frame measures: standard deviations in code values of 255, of luma and both colour differences."""

    #: frames of one are neighbours in the video; None: it has no neighbour
    place: int | None
    pts: int | None
    sigmas: tuple[float, float, float]
    #: of what is another than in the frame before; None for the first of a place
    changes: tuple[float, float, float] | None = None
    #: of luma at code values 0 and 255; None: not known
    levels: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class AnalyzeResult:
    """What a part of the places measures."""

    frames: tuple[FrameNoise, ...]
    #: of the same frames
    scores: tuple[FrameScore, ...]
    cpu_seconds: float


def noise_of(parts: Iterable[AnalyzeResult]) -> NoiseEstimate:
    """Put together what the parts of a video's places measured, in order; a frame counts once.

    Raises:
        ValueError: there is no frame.
    """
    frames: list[FrameNoise] = []
    scores: list[FrameScore] = []
    last: int | None = None
    for frame, score in ((frame, score) for part in parts for frame, score in _pairs(part)):
        if last is None or score.pts > last:
            last = score.pts
            frames.append(frame)
            scores.append(score)
    return replace(estimate_of(frames), frames=tuple(scores))


def _pairs(part: AnalyzeResult) -> Iterator[tuple[FrameNoise, FrameScore]]:
    return zip(part.frames, part.scores, strict=True)


def estimate_of(frames: Sequence[FrameNoise]) -> NoiseEstimate:
    """The medians over the frames, rounded to hundredths: a plan holds them.

    Raises:
        ValueError: there is no frame.
    """
    if not frames:
        raise ValueError("No frame was measured.")
    y, u, v = _medians([frame.sigmas for frame in frames])
    temporal = _medians([frame.changes for frame in frames if frame.changes])
    levels = _medians([frame.levels for frame in frames if frame.levels])
    return NoiseEstimate(
        sigma_y=y,
        sigma_u=u,
        sigma_v=v,
        frame_count=len(frames),
        temporal_sigma_y=temporal[0] if temporal else None,
        temporal_sigma_u=temporal[1] if temporal else None,
        temporal_sigma_v=temporal[2] if temporal else None,
        sigma_y_at_black=levels[0] if levels else None,
        sigma_y_at_white=levels[1] if levels else None,
        places=tuple(_places(frames)),
    )


def _places(frames: Sequence[FrameNoise]) -> Iterator[PlaceNoise]:
    for place, group in itertools.groupby(frames, key=lambda frame: frame.place):
        here = list(group)
        if place is None or here[0].pts is None:
            continue
        temporal = _medians([frame.changes for frame in here if frame.changes])
        yield PlaceNoise(
            pts=here[0].pts,
            sigma_y=_medians([frame.sigmas for frame in here])[0],
            temporal_sigma_y=temporal[0] if temporal else None,
        )


def _medians(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The median of each column; () of no rows."""
    return tuple(round(median(column), 2) for column in zip(*rows, strict=True))
