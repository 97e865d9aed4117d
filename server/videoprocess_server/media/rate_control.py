"""How many bits each segment may have. An encoder keeps no state over segments, so the plan keeps it.

What a recorder asks for in encParam is followed within bounds; where it asks for nothing a quality is kept, and the segment's
share of the source's bytes bounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.packets import PacketIndex
from videoprocess_server.model.enc_param import BitrateMode, EncParam
from videoprocess_server.model.plan import SegmentPlan
from videoprocess_server.model.settings_snapshot import ModeSetting

#: bytes of a result's picture per byte of the source's at most, where nobody asks for more. The promise is 1.5: encoders
#: miss their buffers by a few hundredths, and a file has more in it than packets
MOST_BYTES_PER_SOURCE_BYTE: Final = Fraction(7, 5)
#: a bit rate that encParam asks for, as a multiple of the source's
LEAST_ASKED: Final = Fraction(1, 4)
MOST_ASKED: Final = Fraction(2)
#: of encParam's sqr_factor, a quantiser
LEAST_FACTOR: Final = 14
MOST_FACTOR: Final = 28
#: seconds of the highest rate that the decoder's buffer holds: long ones let a bound shape the whole segment and not each
#: second of it (measured: 1 to 4 dB at equal bytes), short ones are what a level allows at high rates
LONGEST_BUFFER: Final = Fraction(4)
SHORTEST_BUFFER: Final = Fraction(1)
#: where a caller asks for a rate: an encoder begins a segment with a full buffer and ends it with an emptier one, so the
#: longer that is beside the segment, the more it misses the rate (measured: 5 to 10 % with 4 s of 4 s, 2 to 6 % with half)
TARGET_BUFFER_SHARE: Final = Fraction(1, 2)
#: seconds that it is at least
TARGET_BUFFER_LEAST: Final = Fraction(1, 2)
#: bits per second below which encoders cannot even say that nothing changes
_LEAST_RATE: Final = 1_000
_BITS_PER_BYTE: Final = 8
#: of a quality, by which the bits are halved
_STEPS_OF_HALF: Final = 6


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What the encoder of one segment may spend; bits and seconds."""

    #: bits per second on average; 0 where a quality is kept
    average_rate: int = 0
    max_rate: int
    buffer_size: int

    def options(self) -> dict[str, str]:
        """Give FFmpeg's options."""
        average = {"b": str(self.average_rate)} if self.average_rate else {}
        return {**average, "maxrate": str(self.max_rate), "bufsize": str(self.buffer_size)}


@dataclass(frozen=True, kw_only=True)
class Share:
    """A segment's part of the source."""

    bits: int
    seconds: Fraction


@dataclass(frozen=True, kw_only=True)
class RateControl:
    """How bits are spent."""

    #: constant quality, as the encoder's "crf" counts; None where a rate is kept
    quality: float | None
    #: of each segment
    spending: tuple[Spending, ...]
    #: what was asked for and is not done quite so, a sentence each
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a caller asks for, whatever the recorder does: one of both."""

    #: constant quality, as the encoder's "crf" counts
    quality: float | None = None
    #: bits per second on average
    bitrate: int | None = None


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the encoder is, as far as spending depends on it."""

    #: kept where nothing else is asked for
    quality: int
    #: the part of a full buffer that it spends at most, besides what flows in
    usable_buffer: Fraction
    #: bits that the buffer of the wanted level holds
    buffer_size: int
    #: what it spends of an average rate that it may not exceed
    spent_rate: Fraction = Fraction(1)
    #: bits per second of the wanted level at most; 0 while it is being chosen
    max_rate: int = 0


def source_shares(
    index: PacketIndex,
    segments: Sequence[SegmentPlan],
    time_base: Fraction,
    frame_rate: Fraction,
    enlarged: Fraction = Fraction(1),
) -> tuple[Share, ...]:
    """Share the source's bits out to segments.

    The bits of a GOP are spread evenly over its frames: a segment that begins inside a GOP of the source begins with a key
    frame all the same. A frame that is shown for longer than the longest buffer fills counts as shown for so long: what
    flows in after that is lost, and a rate over minutes without a frame would leave none for those there are.

    Args:
        index: of the source.
        segments: of the plan.
        time_base: of the source.
        frame_rate: that the encoder is told: x265 counts its frames by it, x264 their time.
        enlarged: pixels of the result per pixel of the source, where there are more.
    """
    pts = np.asarray(index.pts, dtype=np.int64)
    sizes = np.asarray(index.sizes, dtype=np.float64)
    starts = np.searchsorted(pts, np.asarray(index.keys, dtype=np.int64))
    starts = np.union1d([0], starts[starts < len(pts)])
    counts = np.diff(np.append(starts, len(pts)))
    spread = np.repeat(np.add.reduceat(sizes, starts) / counts, counts)
    total = np.append(0.0, np.cumsum(spread))
    at = [np.searchsorted(pts, [segment.start_pts, segment.end_pts]) for segment in segments]
    longest = int(LONGEST_BUFFER / time_base)
    return tuple(
        Share(
            bits=int(int(total[end] - total[start]) * _BITS_PER_BYTE * enlarged),
            seconds=max(
                _filling_ticks(pts[start:end], segment, longest) * time_base,
                segment.frame_count / frame_rate,
            ),
        )
        for segment, (start, end) in zip(segments, at, strict=True)
    )


def _filling_ticks(pts: NDArray[np.int64], segment: SegmentPlan, longest: int) -> int:
    """Give the ticks during which a buffer fills, at most so many for each frame."""
    lengths = np.diff(pts, prepend=segment.start_pts, append=segment.end_pts)
    return int(np.minimum(lengths, longest).sum())


def target_of(setting: ModeSetting) -> Target | None:
    """Give what a caller asks for; None where it is nothing."""
    if setting.crf is None and setting.bitrate_bps is None:
        return None
    return Target(quality=setting.crf, bitrate=setting.bitrate_bps)


def plan_rates(
    asked: EncParam, shares: Sequence[Share], bounds: Bounds, target: Target | None = None
) -> RateControl:
    """Plan what each segment's encoder spends.

    Args:
        asked: by the recorder.
        shares: of the segments.
        bounds: of encoder and level.
        target: of the caller, who is followed instead; what the recorder asked for is then not lost, but overruled.
    """
    seconds = sum((share.seconds for share in shares), Fraction(0))
    average = sum(share.bits for share in shares) / seconds
    if target is not None and target.quality is not None:
        return _target_quality(target.quality, shares, bounds)
    if target is not None and target.bitrate is not None:
        return _target_rate(target.bitrate / average, shares, bounds)
    rate = Fraction(asked.bitrate) if asked.bitrate else average
    kept = min(max(rate, average * LEAST_ASKED), average * MOST_ASKED)
    mode = asked.bitrate_mode or BitrateMode.SQR
    control = _MODES.get(mode, _quality)(asked, shares, kept / average, bounds)
    if kept == rate:
        return control
    remark = f"{asked.bitrate} bit/s became {int(kept)}: the source has {int(average)}."
    return replace(control, remarks=(remark, *control.remarks))


def _target_rate(ratio: Fraction, shares: Sequence[Share], bounds: Bounds) -> RateControl:
    """Keep a rate over the whole: segments get it by their shares of the source's bytes."""
    rates = [
        max(int(share.bits * ratio / share.seconds / bounds.spent_rate), _LEAST_RATE) for share in shares
    ]
    buffers = [max(share.seconds * TARGET_BUFFER_SHARE, TARGET_BUFFER_LEAST) for share in shares]
    spending = tuple(
        Spending(
            average_rate=rate,
            max_rate=rate,
            buffer_size=_fitting(rate * min(seconds, LONGEST_BUFFER), bounds),
        )
        for rate, seconds in zip(rates, buffers, strict=True)
    )
    return RateControl(quality=None, spending=spending)


def _target_quality(quality: float, shares: Sequence[Share], bounds: Bounds) -> RateControl:
    """Keep a quality that nothing bounds but the level, which is one that holds about what the quality needs.

    A step of 6 is half of the bits, or twice.
    """
    steps = Fraction(bounds.quality) - Fraction(quality)
    ratio = MOST_BYTES_PER_SOURCE_BYTE * Fraction(2) ** max(ceil(steps / _STEPS_OF_HALF), 0)
    if bounds.max_rate:
        most = Spending(max_rate=bounds.max_rate, buffer_size=bounds.buffer_size)
        return RateControl(quality=quality, spending=(most,) * len(shares))
    spending = tuple(_bounded(share, share.bits * ratio, bounds) for share in shares)
    return RateControl(quality=quality, spending=spending)


def _quality(asked: EncParam, shares: Sequence[Share], ratio: Fraction, bounds: Bounds) -> RateControl:
    """Keep a quality; a bit rate that is asked for bounds it."""
    ratio = ratio if asked.bitrate else MOST_BYTES_PER_SOURCE_BYTE
    remarks = []
    quality: float = bounds.quality
    if asked.sqr_factor:
        quality = min(max(asked.sqr_factor, LEAST_FACTOR), MOST_FACTOR)
        if quality != asked.sqr_factor:
            remarks.append(f"The quality {asked.sqr_factor} became {quality}.")
    spending = tuple(_bounded(share, share.bits * ratio, bounds) for share in shares)
    return RateControl(quality=quality, spending=spending, remarks=tuple(remarks))


def _variable(_asked: EncParam, shares: Sequence[Share], ratio: Fraction, bounds: Bounds) -> RateControl:
    """Keep a rate in each segment, and over the whole by the segments' shares of the source."""
    rates = [max(int(share.bits * ratio / share.seconds), _LEAST_RATE) for share in shares]
    # Told of a higher peak, x265 spends half of what it may (measured).
    spending = tuple(
        Spending(average_rate=rate, max_rate=rate, buffer_size=_fitting(rate * LONGEST_BUFFER, bounds))
        for rate in rates
    )
    remark = "A variable rate is kept by each segment for itself, in proportion to the source's bytes."
    return RateControl(quality=None, spending=spending, remarks=(remark,) if len(shares) > 1 else ())


def _constant(_asked: EncParam, shares: Sequence[Share], ratio: Fraction, bounds: Bounds) -> RateControl:
    """Keep one rate in all segments."""
    seconds = sum((share.seconds for share in shares), Fraction(0))
    rate = max(int(sum(share.bits for share in shares) * ratio / seconds), _LEAST_RATE)
    one = Spending(average_rate=rate, max_rate=rate, buffer_size=_fitting(rate * SHORTEST_BUFFER, bounds))
    remark = "A constant rate is kept by each segment for itself: the decoder's buffer begins anew with it."
    return RateControl(
        quality=None, spending=(one,) * len(shares), remarks=(remark,) if len(shares) > 1 else ()
    )


#: modes that do not keep a quality
_MODES: Final[Mapping[BitrateMode, Callable[[EncParam, Sequence[Share], Fraction, Bounds], RateControl]]] = {
    BitrateMode.VBR: _variable,
    BitrateMode.CBR: _constant,
    BitrateMode.CBR_VIDEOCALL: _constant,
}


def _bounded(share: Share, bits: Fraction, bounds: Bounds) -> Spending:
    """Give the highest rate, and the longest buffer at it, with which the segment has about so many bits at most."""
    seconds = LONGEST_BUFFER
    if bits > bounds.usable_buffer * bounds.buffer_size:
        # the length at which the buffer holds just what the level allows
        fitting = bounds.buffer_size * share.seconds / (bits - bounds.usable_buffer * bounds.buffer_size)
        seconds = min(max(fitting, SHORTEST_BUFFER), LONGEST_BUFFER)
    rate = max(int(bits / (share.seconds + bounds.usable_buffer * seconds)), _LEAST_RATE)
    return Spending(max_rate=rate, buffer_size=int(rate * seconds))


def _fitting(bits: Fraction, bounds: Bounds) -> int:
    """Give a buffer of so many bits, or what the level allows."""
    return min(int(bits), bounds.buffer_size)
