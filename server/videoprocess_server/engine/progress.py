"""How far a job is: phases weighted, frames counted, speed over the last seconds."""

from __future__ import annotations

import threading
from collections import deque

from videoprocess_server.model.records import JobProgress, Phase

#: where each phase ends, in percent; enhancing is nearly all of the work
PHASE_ENDS = {
    Phase.NONE: 0.0,
    Phase.ANALYZE: 3.0,
    Phase.PLAN: 4.0,
    Phase.ENHANCE: 92.0,
    Phase.JOIN: 94.0,
    Phase.VERIFY: 99.5,
    Phase.PUBLISH: 100.0,
}
_ORDER = list(PHASE_ENDS)
SPEED_WINDOW_SECONDS = 5.0


class ProgressMeter:
    """Counts what a driver's tasks report. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.NONE
        #: the highest told; it does not fall when a crash costs an open segment
        self._percent = 0.0
        self._frames_total = 0
        self._segments_total = 0
        self._segments_done = 0
        self._frames_of_done = 0
        self._frames_of_open: dict[object, int] = {}
        self._recent: deque[tuple[float, int]] = deque(maxlen=256)

    def enter(self, phase: Phase, frames_total: int = 0, frames_done: int = 0) -> None:
        """Begin a phase of so many frames, of which so many were done before."""
        with self._lock:
            self._phase = phase
            self._frames_total = frames_total
            self._frames_of_done = frames_done
            self._frames_of_open.clear()
            self._recent.clear()

    def segments(self, done: int, total: int, frames_of_done: int, task: object = None) -> None:
        """Say which segments are finished; the open frames of the task that finished one are among theirs now."""
        with self._lock:
            self._frames_of_open.pop(task, None)
            self._segments_done, self._segments_total = done, total
            self._frames_of_done = frames_of_done

    def open_frames(self, task: object, frames: int, now: float) -> None:
        """Say how many frames of its open segment a task has done."""
        with self._lock:
            self._frames_of_open[task] = frames
            self._recent.append((now, self._frames_done()))

    def close_task(self, task: object) -> None:
        """Forget a task; what it finished is among the finished segments."""
        with self._lock:
            self._frames_of_open.pop(task, None)

    def read(self, now: float) -> JobProgress:
        """Return the progress of this moment; `now` is monotonic seconds."""
        with self._lock:
            done = min(self._frames_done(), self._frames_total)
            begin = PHASE_ENDS[_ORDER[max(_ORDER.index(self._phase) - 1, 0)]]
            share = done / self._frames_total if self._frames_total else 0.0
            fps = self._speed(now)
            self._percent = max(self._percent, begin + (PHASE_ENDS[self._phase] - begin) * share)
            return JobProgress(
                phase=self._phase,
                percent=self._percent,
                frames_done=done,
                frames_total=self._frames_total,
                segments_done=self._segments_done,
                segments_total=self._segments_total,
                fps=fps,
                eta_seconds=(self._frames_total - done) / fps if self._frames_total and fps > 0 else None,
            )

    def _frames_done(self) -> int:
        return self._frames_of_done + sum(self._frames_of_open.values())

    def _speed(self, now: float) -> float:
        while self._recent and now - self._recent[0][0] > SPEED_WINDOW_SECONDS:
            self._recent.popleft()
        if len(self._recent) < 2:
            return 0.0
        (first_time, first_frames), (last_time, last_frames) = self._recent[0], self._recent[-1]
        return (
            max(0.0, (last_frames - first_frames) / (last_time - first_time))
            if last_time > first_time
            else 0.0
        )
