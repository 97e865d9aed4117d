"""Chooses the frames that stand for a video.

How sharp a frame is: the variance of its Laplacian, after J. L. Pech-Pacheco, G. Cristobal, J. Chamorro-Martinez, J. Fernandez-Valdivia,
"Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000. It falls with blur and with contrast, so that
fades lose too. Frames that are mostly black or white are passed over first. All is computed with integers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.model.plan import FrameScore

#: thumbnails of a video at most
MOST_THUMBNAILS: Final = 10
#: lines looked at: every nth, and so of the columns, so that no more than twice as many are left. A large picture is judged as
#: it is seen on a small screen, and soon
_FEWEST_LINES: Final = 360
#: code values of 255 that count as nearly black and nearly white
_DARK: Final = 32
_BRIGHT: Final = 224
#: share of the pixels between them that is enough, and the share of the best frame's that is enough where none has so many
_WELL_EXPOSED: Final = 0.5
_NEARLY_BEST: Final = 0.8
_MILLISECONDS: Final = 1000


def score_frame(pts: int, luma: NDArray[Any], bits: int) -> FrameScore:
    """Judge a frame.

    Args:
        pts: of the frame.
        luma: its samples.
        bits: of a sample.
    """
    step = max(1, luma.shape[0] // _FEWEST_LINES)
    values = luma[::step, ::step].astype(np.int32)
    shift = bits - 8
    count = values.size
    dark, bright = _DARK << shift, _BRIGHT << shift
    exposed = int(np.count_nonzero((values >= dark) & (values <= bright)))
    laplacian = (
        values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * values[1:-1, 1:-1]
    )
    number = max(1, laplacian.size)
    total = int(laplacian.sum(dtype=np.int64))
    squares = int(np.square(laplacian).sum(dtype=np.int64))
    variance = Fraction(number * squares - total * total, number * number) / (1 << 2 * shift)
    return FrameScore(
        pts=pts, sharpness=round(float(variance), 2), exposure=round(exposed / count, 4) if count else 0.0
    )


def choose_cover(
    shown: Sequence[int],
    end_pts: int,
    time_base: Fraction,
    cover_time_ms: float | None,
    scores: Sequence[FrameScore],
) -> int:
    """Choose the time stamp of the cover.

    Args:
        shown: time stamps of the result's frames in the source, ascending.
        end_pts: where the last of them is shown no longer.
        time_base: of the time stamps.
        cover_time_ms: what the camera's user chose, after the first frame; ignored where it lies after the end.
        scores: of some frames.
    """
    if cover_time_ms is not None:
        at = shown[0] + Fraction(cover_time_ms) / _MILLISECONDS / time_base
        if at < end_pts:
            return shown[bisect_right(shown, at) - 1]
    best = _best([score for score in scores if _is_among(shown, score.pts)])
    return shown[len(shown) // 2] if best is None else best.pts


def choose_thumbnails(shown: Sequence[int], end_pts: int, count: int = MOST_THUMBNAILS) -> tuple[int, ...]:
    """Choose the frames shown at the middles of equal parts of the video, all different.

    Args:
        shown: as for `choose_cover`.
        end_pts: as for `choose_cover`.
        count: of the parts; fewer where the video has fewer frames.
    """
    parts = min(count, len(shown))
    length = end_pts - shown[0]
    chosen: list[int] = []
    for part in range(parts):
        middle = shown[0] + Fraction(length * (2 * part + 1), 2 * parts)
        place = bisect_right(shown, middle) - 1
        after_others = chosen[-1] + 1 if chosen else 0
        left_for_others = len(shown) - (parts - part)
        chosen.append(min(max(place, after_others), left_for_others))
    return tuple(shown[place] for place in chosen)


def _is_among(shown: Sequence[int], pts: int) -> bool:
    place = bisect_left(shown, pts)
    return place < len(shown) and shown[place] == pts


def _best(scores: Sequence[FrameScore]) -> FrameScore | None:
    """Give the sharpest of those that are well exposed; of equally sharp ones the first."""
    if not scores:
        return None
    enough = min(_WELL_EXPOSED, _NEARLY_BEST * max(score.exposure for score in scores))
    exposed = [score for score in scores if score.exposure >= enough]
    return min(exposed, key=lambda score: (-score.sharpness, score.pts))
