"""Which frames of a segment are measured: the plan alone decides."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from videoprocess_server.model.plan import EncoderPlan
from videoprocess_server.model.quality import SEAM_FRAMES

#: frames of a segment at most, and one more than those at its ends for so many frames
_MOST: Final = 4
_FRAMES_EACH: Final = 30
#: pixels of all of them at most, but for the ends': they are held until they are compared
_MOST_PIXELS: Final = 48_000_000
_ENDS: Final = 2 * SEAM_FRAMES
#: a key frame's own quality is not that of the others; after so many there is one that is
_AFTER_KEY: Final = 2


def sampled_numbers(frame_count: int, encoder: EncoderPlan) -> frozenset[int]:
    """Choose the frames at both ends and some spread between them, early in their GOPs.

    Before a frame can be compared with what went into the encoder, its GOP must be decoded up to it.

    Args:
        frame_count: of the segment.
        encoder: of the rendition that is measured.
    """
    pixels, gop_frames = encoder.width * encoder.height, int(encoder.options.get("g", "1"))
    if frame_count <= _ENDS:
        return frozenset(range(frame_count))
    most = min(_MOST, _ENDS + frame_count // _FRAMES_EACH, max(_ENDS, _MOST_PIXELS // max(1, pixels)))
    between = most - _ENDS
    inner = frame_count - _ENDS
    spread = {_early(SEAM_FRAMES + inner * (2 * k + 1) // (2 * between), gop_frames) for k in range(between)}
    ends = {*range(SEAM_FRAMES), *range(frame_count - SEAM_FRAMES, frame_count)}
    return frozenset(ends | spread)


def _early(number: int, gop_frames: int) -> int:
    """Give a frame near the begin of this one's GOP; the first GOP's are at the seam."""
    return number - number % gop_frames + min(_AFTER_KEY, gop_frames - 1) if number >= gop_frames else number


def judged_numbers(samples: Collection[int]) -> frozenset[int]:
    """Choose of sampled frames those whose noise and sharpness are measured too, which costs more: every second, the first too.

    Args:
        samples: as `sampled_numbers` gives them.
    """
    return frozenset(sorted(samples)[::2])
