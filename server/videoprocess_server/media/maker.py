"""What was done to each frame, as a track of timed metadata: one small JSON object a frame of the result.

    {"enhanced": true, "segment": 12}

One that is made up between two of the source's also has "interpolated": true.
The first one also has what holds for all of them: the schema, the source's noise and the filters. See docs/streams.md.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.iso.added import NewTrack
from videoprocess_server.media.iso.boxes import build, joined
from videoprocess_server.media.timeline import frame_flags
from videoprocess_server.model.plan import Plan

#: a new number for every change that a reader could stumble over
SCHEMA: Final = "videoprocess.maker/1"
#: of OpenHarmony's own maker track
MIME_TYPE: Final = "com.openharmony.timed_metadata.vid_maker_info"
_HANDLER: Final = "meta"
_NAME: Final = "VideoMakerInfo"
#: of the noise
_DECIMALS: Final = 4


@dataclass(frozen=True)
class Run:
    """Neighbouring frames of the result that are told the same of."""

    frame_count: int
    enhanced: bool
    #: None where no video is made
    segment_index: int | None
    #: of each frame whether it is made up, a byte each
    interpolated: bytes


def maker_track(
    plan: Plan, times: NDArray[np.int64], runs: Sequence[Run], picture_track_id: int | None
) -> NewTrack:
    """Make the track.

    Args:
        plan: of the result.
        times: when each frame is shown, ascending, in ticks of plan.output_time_base; what is shown before time 0, which a
            file may have and a new track cannot, is told at 0.
        runs: of all frames.
        picture_track_id: of the video it describes; None where the file has none.

    Raises:
        MediaFault: JOIN_FAILED where the times are not those of the runs.
    """
    payloads = Payloads(plan, runs)
    if len(times) != len(payloads):
        raise MediaFault("JOIN_FAILED", f"{len(times)} times are told for {len(payloads)} frames.")
    ticks, times = plan.output_time_base, np.maximum(times, 0)
    end = int(Fraction(plan.end_pts) * plan.time_base / ticks)
    following = np.append(times[1:], max(end, int(times[-1]) + 1))
    return NewTrack(
        handler=_HANDLER,
        name=_NAME,
        timescale=ticks.denominator,
        sample_entry=_sample_entry(),
        times=times,
        durations=following - times,
        payloads=payloads,
        reference=None if picture_track_id is None else (b"cdsc", picture_track_id),
    )


def runs_of_segments(plan: Plan) -> list[Run]:
    """Tell the frames of a plan that makes a video, by segments."""
    return [
        Run(segment.frame_count, segment.enhanced, segment.index, frame_flags(segment))
        for segment in plan.segments
    ]


class Payloads(Sequence[bytes]):
    """The samples' bytes, made when they are asked for: there may be millions."""

    def __init__(self, plan: Plan, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._ends = list(accumulate(run.frame_count for run in runs))
        self._common = _common(plan)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        place = bisect_right(self._ends, at)
        run = self._runs[place]
        told: dict[str, Any] = {"enhanced": run.enhanced}
        if run.interpolated[at - self._ends[place]]:
            told["interpolated"] = True
        if run.segment_index is not None:
            told["segment"] = run.segment_index
        if at == 0:
            told |= self._common
        return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _common(plan: Plan) -> dict[str, Any]:
    """What holds for all frames; the noise is a standard deviation in code values of 255."""
    noise = plan.noise
    return {
        "schema": SCHEMA,
        "noise": {
            "sigma_y": round(noise.sigma_y, _DECIMALS),
            "sigma_u": round(noise.sigma_u, _DECIMALS),
            "sigma_v": round(noise.sigma_v, _DECIMALS),
        },
        "filters": [*plan.filters.prepare, *plan.filters.enhancement],
    }


def _sample_entry() -> bytes:
    """ISO/IEC 14496-12 §12.3.3.2: no content encoding, then the mime format."""
    reserved_and_data_reference = bytes(6) + b"\0\1"
    return joined(build(b"mett", reserved_and_data_reference, b"\0", MIME_TYPE.encode() + b"\0"))
