"""Whatever the machine's sensors say, gates are open or closed, and normal readings open them again."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.engine.gates import GateLimits, Gates

INT32 = st.integers(-(2**31), 2**31 - 1)
READINGS = st.one_of(st.none(), INT32, st.floats())
LIMITS = GateLimits(
    disk_reserve_bytes=1000,
    max_temperature_celsius=90,
    max_cpu_pressure_percent=60,
    max_memory_pressure_percent=40,
)
NORMAL = (1 << 40, 40.0, 0.0, 0.0)


class AnyMachine:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.free_bytes: int = NORMAL[0]
        self.celsius: float | None = None
        self.cpu: float | None = None
        self.memory: float | None = None

    def say(self, free_bytes: int, celsius: float | None, cpu: float | None, memory: float | None) -> None:
        self.free_bytes, self.celsius, self.cpu, self.memory = free_bytes, celsius, cpu, memory

    def disk_free_bytes(self) -> int:
        return self.free_bytes

    def temperature_celsius(self) -> float | None:
        return self.celsius

    def cpu_pressure_percent(self) -> float | None:
        return self.cpu

    def memory_pressure_percent(self) -> float | None:
        return self.memory

    def local_time(self) -> datetime:
        return datetime(2026, 1, 1, 10, tzinfo=UTC)


@given(st.lists(st.tuples(INT32, READINGS, READINGS, READINGS), min_size=1, max_size=8))
def test_case_112_any_readings_leave_gates_that_work(
    readings: list[tuple[int, float | None, float | None, float | None]],
) -> None:
    machine = AnyMachine()
    with tempfile.TemporaryDirectory() as folder:
        gates = Gates(machine, LIMITS, Path(folder), lambda: None)
        for reading in readings:
            machine.say(*reading)
            closed = {entry.gate.name for entry in gates.poll()}
            assert closed <= {"disk_reserve", "temperature", "pressure"}
            assert ("disk_reserve" in closed) or reading[0] > LIMITS.disk_reserve_bytes
        machine.say(*NORMAL)
        assert not gates.poll()
