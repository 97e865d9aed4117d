"""What the engine tells of its work, for whoever adds it up; see `telemetry.metrics`."""

from __future__ import annotations

from typing import Protocol

from videoprocess_server.engine.faults import Cause
from videoprocess_server.model.records import Job, Phase


class Recorder(Protocol):
    """Hears of what happened, from any thread. It never raises, never waits, and keeps no names of users or videos."""

    def job_ended(self, job: Job) -> None:
        """A job has its terminal event, durably."""
        ...

    def stage_ended(self, phase: Phase, wall_seconds: float, cpu_seconds: float) -> None:
        """A job has spent time on a stage; what stood frozen is not in it."""
        ...

    def segment_finished(self, phase: Phase, size_bytes: int, frame_count: int) -> None:
        """A segment's row says DONE."""
        ...

    def segments_reused(self, phase: Phase, count: int) -> None:
        """So many segments of a plan were found finished, and whole, when a driver took it up."""
        ...

    def segments_redone(self, phase: Phase, count: int) -> None:
        """So many segments were begun that an earlier attempt had begun already."""
        ...

    def attempt_failed(self, phase: Phase, cause: Cause) -> None:
        """A try of a task failed."""
        ...

    def work_parked(self) -> None:
        """A job's workers were frozen to be gone on with."""
        ...

    def work_resumed(self) -> None:
        """A job went on with frozen workers."""
        ...

    def work_given_up(self) -> None:
        """Frozen workers were given up; their open segments are lost."""
        ...

    def bytes_received(self, count: int) -> None:
        """So many bytes of uploads and passed files were stored."""
        ...


class Silent:
    """A Recorder for which nobody waits."""

    def job_ended(self, job: Job) -> None:
        """See `Recorder`."""

    def stage_ended(self, phase: Phase, wall_seconds: float, cpu_seconds: float) -> None:
        """See `Recorder`."""

    def segment_finished(self, phase: Phase, size_bytes: int, frame_count: int) -> None:
        """See `Recorder`."""

    def segments_reused(self, phase: Phase, count: int) -> None:
        """See `Recorder`."""

    def segments_redone(self, phase: Phase, count: int) -> None:
        """See `Recorder`."""

    def attempt_failed(self, phase: Phase, cause: Cause) -> None:
        """See `Recorder`."""

    def work_parked(self) -> None:
        """See `Recorder`."""

    def work_resumed(self) -> None:
        """See `Recorder`."""

    def work_given_up(self) -> None:
        """See `Recorder`."""

    def bytes_received(self, count: int) -> None:
        """See `Recorder`."""


#: who is told where nobody listens
SILENT: Recorder = Silent()
