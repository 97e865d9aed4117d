"""What each phase of a plan has cost so far."""

from __future__ import annotations

import time
from collections.abc import Sequence

from videoprocess_server.engine.recording import SILENT, Recorder
from videoprocess_server.model.records import Phase, StageCost


class Costs:
    """Adds up the phases' time; what a job stood frozen is nobody's.

    Args:
        recorder: told what is charged.
    """

    def __init__(self, recorder: Recorder = SILENT) -> None:
        self._recorder = recorder
        self._stages: dict[Phase, StageCost] = {}
        self._frozen_seconds = 0.0

    @property
    def stages(self) -> tuple[StageCost, ...]:
        """All phases, in the order of their first task."""
        return tuple(self._stages.values())

    def take_up(self, stages: Sequence[StageCost]) -> None:
        """Go on from what a stored plan has cost."""
        self._stages = {stage.phase: stage for stage in stages}

    def froze(self, seconds: float) -> None:
        """All that runs was frozen for so long."""
        self._frozen_seconds += seconds

    def now(self) -> float:
        """Return seconds of running time since some moment in the past."""
        return time.monotonic() - self._frozen_seconds

    def charge(self, phase: Phase, since: float, cpu_seconds: float) -> None:
        """Charge a phase what ran from `since`, as `now` told it, until this moment."""
        before = self._stages.get(phase, StageCost(phase=phase, wall_seconds=0.0, cpu_seconds=0.0))
        wall_seconds = self.now() - since
        self._stages[phase] = StageCost(
            phase=phase,
            wall_seconds=before.wall_seconds + wall_seconds,
            cpu_seconds=before.cpu_seconds + cpu_seconds,
        )
        self._recorder.stage_ended(phase, wall_seconds, cpu_seconds)
