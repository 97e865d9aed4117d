from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from videoprocess_server.engine.gates import GATES, GateKind, GateLimits, Gates
from videoprocess_server.model.gates import QuietPeriod, Threshold
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.states import BlockReason

MINUTES_PER_DAY = 24 * 60
LIMITS = GateLimits(
    disk_reserve_bytes=1000,
    max_temperature_celsius=90,
    max_cpu_pressure_percent=60,
    max_memory_pressure_percent=40,
    quiet_hours=(QuietPeriod.parse("22:00-07:00"), QuietPeriod.parse("12:00-13:00")),
)
#: long enough that the thread never looks by itself
NEVER_SECONDS = 3600.0
WAIT_SECONDS = 10.0


class MachineUnderTest:
    """A machine whose readings the test sets."""

    def __init__(self) -> None:
        self.free_bytes = 1 << 40
        self.celsius: float | None = 40.0
        self.cpu: float | None = 0.0
        self.memory: float | None = 0.0
        self.clock = time(10, 0)
        self.broken = False

    def disk_free_bytes(self) -> int:
        if self.broken:
            raise OSError("the disk does not answer")
        return self.free_bytes

    def temperature_celsius(self) -> float | None:
        return self.celsius

    def cpu_pressure_percent(self) -> float | None:
        return self.cpu

    def memory_pressure_percent(self) -> float | None:
        return self.memory

    def local_time(self) -> datetime:
        return datetime.combine(datetime(2026, 1, 1, tzinfo=UTC).date(), self.clock, tzinfo=UTC)


@pytest.fixture(name="machine")
def _machine() -> MachineUnderTest:
    return MachineUnderTest()


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


@pytest.fixture(name="gates")
def _gates(machine: MachineUnderTest, folder: Path) -> Gates:
    return Gates(machine, LIMITS, folder, lambda: None)


def _closed(gates: Gates) -> dict[str, str]:
    return {entry.gate.name: entry.why for entry in gates.poll()}


# thresholds


def test_a_threshold_opens_at_another_value_than_it_closes() -> None:
    threshold = Threshold(close_at=90, open_at=85)
    values = [89.9, 90, 86, 85.1, 85, 89.9, 95]
    assert [threshold.closed_at(value) for value in values] == [False, True, True, True, False, False, True]


def test_a_threshold_may_close_below() -> None:
    threshold = Threshold(close_at=100, open_at=110)
    values = [101, 100, 109, 110, 101, 0]
    assert [threshold.closed_at(value) for value in values] == [False, True, True, False, False, True]


def test_a_threshold_that_would_flap_is_refused() -> None:
    with pytest.raises(ValueError, match="flap"):
        Threshold(close_at=90, open_at=90)


@given(st.lists(st.floats(85.1, 89.9), max_size=20))
def test_a_threshold_does_not_change_between_its_values(values: list[float]) -> None:
    for first in (0.0, 100.0):
        threshold = Threshold(close_at=90, open_at=85)
        side = threshold.closed_at(first)
        assert {threshold.closed_at(value) for value in values} <= {side}


# quiet hours


@pytest.mark.parametrize(
    ("text", "quiet", "loud"),
    [
        ("22:00-07:00", ("22:00", "23:59", "00:00", "06:59"), ("07:00", "21:59", "12:00")),
        ("12:00-13:30", ("12:00", "13:29"), ("11:59", "13:30", "00:00")),
        ("00:00-24:00", ("00:00", "23:59"), ()),
        ("22:00-24:00", ("22:00", "23:59"), ("00:00", "21:59")),
        ("23:00-00:00", ("23:00", "23:59"), ("00:00",)),
        (" 7:05-8:00 ", ("07:05",), ("07:04", "08:00")),
    ],
)
def test_a_quiet_period_holds_its_minutes(text: str, quiet: tuple[str, ...], loud: tuple[str, ...]) -> None:
    period = QuietPeriod.parse(text)
    assert all(period.contains(time.fromisoformat(moment)) for moment in quiet)
    assert not any(period.contains(time.fromisoformat(moment)) for moment in loud)


@given(st.integers(0, MINUTES_PER_DAY - 1), st.integers(0, MINUTES_PER_DAY))
def test_a_quiet_period_is_as_long_as_it_says_and_reads_what_it_writes(start: int, end: int) -> None:
    if start == end:
        return
    period = QuietPeriod(start, end)
    minutes = sum(period.contains(time(*divmod(minute, 60))) for minute in range(MINUTES_PER_DAY))
    assert minutes == (end - start if end > start else end - start + MINUTES_PER_DAY)
    assert QuietPeriod.parse(str(period)) == period


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22:00",
        "22-07",
        "22:00-7",
        "24:00-01:00",
        "22:60-23:00",
        "22:00-24:01",
        "١٢:00-13:00",
        "a:bb-c:dd",
        "5:00-5:00",
    ],
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HH:MM|no such time|empty"):
        QuietPeriod.parse(text)


# probes


def test_gates_are_open_on_an_idle_machine(gates: Gates) -> None:
    assert _closed(gates) == {}


@pytest.mark.parametrize(
    ("readings", "name", "reason", "status", "said"),
    [
        (
            {"free_bytes": 1000},
            "disk_reserve",
            "SPACE_LIMIT",
            "READY_SPACE_LIMIT_REACHED",
            "1000 bytes are free",
        ),
        ({"celsius": 90.0}, "temperature", "OVERHEAT", "NOT_READY_OVERHEAT", "90 °C"),
        ({"cpu": 60.0}, "pressure", "OVERHEAT", "NOT_READY_OVERHEAT", "a core 60 %"),
        ({"memory": 40.0}, "pressure", "OVERHEAT", "NOT_READY_OVERHEAT", "memory 40 %"),
        ({"clock": time(23, 0)}, "quiet_hours", "QUIET_HOURS", "NOT_READY_TEMPORARILY", "22:00-07:00"),
        ({"clock": time(12, 0)}, "quiet_hours", "QUIET_HOURS", "NOT_READY_TEMPORARILY", "12:00-13:00"),
    ],
)
def test_a_gate_closes_by_its_reading_and_says_why(
    gates: Gates,
    machine: MachineUnderTest,
    readings: dict[str, Any],
    name: str,
    reason: str,
    status: str,
    said: str,
) -> None:
    vars(machine).update(readings)
    (entry,) = gates.poll()
    assert entry.gate.name == name
    assert entry.gate.reason is BlockReason[reason]
    assert entry.gate.status is SessionStatus[status]
    assert said in entry.why


@pytest.mark.parametrize(
    ("reading", "closing", "hovering", "opening"),
    [
        ("free_bytes", 999, 1099, 1100),
        ("celsius", 91.0, 85.5, 85.0),
        ("cpu", 61.0, 55.5, 55.0),
        ("memory", 41.0, 35.5, 35.0),
    ],
)
def test_a_gate_opens_well_after_where_it_closed(
    gates: Gates, machine: MachineUnderTest, reading: str, closing: float, hovering: float, opening: float
) -> None:
    states = []
    for value in (hovering, closing, hovering, opening, hovering):
        setattr(machine, reading, value)
        states.append(bool(gates.poll()))
    assert states == [False, True, True, False, False]


@pytest.mark.parametrize("limit", [1.0, 5.0, 100.0])
def test_a_low_limit_opens_again_too(folder: Path, machine: MachineUnderTest, limit: float) -> None:
    limits = GateLimits(max_cpu_pressure_percent=limit, max_temperature_celsius=limit)
    gates = Gates(machine, limits, folder, lambda: None)
    machine.celsius = machine.cpu = limit
    assert set(_closed(gates)) == {"temperature", "pressure"}
    machine.celsius = machine.cpu = limit / 2
    assert _closed(gates) == {}


def test_probes_that_are_off_or_cannot_read_leave_gates_open(folder: Path, machine: MachineUnderTest) -> None:
    vars(machine).update(free_bytes=0, celsius=149.0, cpu=100.0, memory=100.0, clock=time(23, 0))
    assert _closed(Gates(machine, GateLimits(), folder, lambda: None)) == {}
    machine.celsius = machine.cpu = machine.memory = None
    limits = replace(LIMITS, disk_reserve_bytes=0, quiet_hours=())
    assert _closed(Gates(machine, limits, folder, lambda: None)) == {}


def test_several_closed_gates_are_told_in_the_tables_order(gates: Gates, machine: MachineUnderTest) -> None:
    vars(machine).update(free_bytes=0, celsius=99.0, clock=time(23, 0))
    names = [entry.gate.name for entry in gates.poll()]
    assert names == ["disk_reserve", "temperature", "quiet_hours"]


def test_a_probe_that_raises_is_logged_once_and_counts_as_open(
    gates: Gates, machine: MachineUnderTest
) -> None:
    machine.free_bytes, machine.broken = 0, True
    with capture_logs() as logs:
        assert _closed(gates) == _closed(gates) == {}
    assert [(entry["event"], entry["gate"]) for entry in logs] == [("gate_failed", "disk_reserve")]
    machine.broken = False
    assert set(_closed(gates)) == {"disk_reserve"}
    machine.broken = True
    with capture_logs() as logs:
        gates.poll()
    assert len(logs) == 1, "it is news again"


# switches


@pytest.mark.parametrize("kind", GATES, ids=lambda kind: kind.name)
def test_every_gate_has_a_switch_that_wins_over_its_probe(
    gates: Gates, machine: MachineUnderTest, folder: Path, kind: GateKind
) -> None:
    switch = folder / kind.name
    switch.write_text("closed\n")
    assert _closed(gates) == {kind.name: "closed by the operator"}
    vars(machine).update(free_bytes=0, celsius=99.0, cpu=99.0, clock=time(23, 0))
    switch.write_text("open\n")
    by_probe = set(_closed(gates))
    assert by_probe == {other.name for other in GATES} - {kind.name, "manual"}
    switch.write_text("")
    assert set(_closed(gates)) == {other.name for other in GATES} - {"manual"}
    switch.unlink()
    assert set(_closed(gates)) == {other.name for other in GATES} - {"manual"}


def _bytes(switch: Path) -> None:
    switch.write_bytes(b"\xff" * 10_000)


def _text(switch: Path) -> None:
    switch.write_text("shut")


@pytest.mark.parametrize("write", [_bytes, _text], ids=["bytes", "text"])
def test_a_switch_that_says_anything_else_is_logged_once_and_ignored(
    gates: Gates, machine: MachineUnderTest, folder: Path, write: Callable[[Path], None]
) -> None:
    write(folder / "temperature")
    with capture_logs() as logs:
        assert _closed(gates) == _closed(gates) == {}
    assert [(entry["event"], entry["gate"]) for entry in logs] == [("gate_switch_ignored", "temperature")]
    machine.celsius = 99.0
    assert set(_closed(gates)) == {"temperature"}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_switch_that_is_no_file_is_none(gates: Gates, folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "manual")
    assert _closed(gates) == {}


# the thread


@pytest.fixture(name="started")
def _started(
    machine: MachineUnderTest, tmp_path: Path
) -> Iterator[Callable[[float, Callable[[], None]], Gates]]:
    running: list[Gates] = []

    def start(interval_seconds: float, changed: Callable[[], None]) -> Gates:
        gates = Gates(machine, LIMITS, tmp_path / "made", changed, interval_seconds=interval_seconds)
        gates.start()
        running.append(gates)
        return gates

    yield start
    for gates in running:
        gates.close()


def test_what_is_closed_is_known_when_start_returns(
    started: Callable[[float, Callable[[], None]], Gates], machine: MachineUnderTest, tmp_path: Path
) -> None:
    changes: list[str] = []
    machine.celsius = 95.0
    gates = started(NEVER_SECONDS, lambda: changes.append("changed"))
    assert [entry.gate.name for entry in gates.closed] == ["temperature"]
    assert gates.reason is BlockReason.OVERHEAT
    assert changes == ["changed"]
    assert (tmp_path / "made").is_dir()


def test_nothing_is_called_while_nothing_closes(
    started: Callable[[float, Callable[[], None]], Gates],
) -> None:
    changes: list[str] = []
    gates = started(NEVER_SECONDS, lambda: changes.append("changed"))
    assert gates.closed == ()
    assert gates.reason is BlockReason.NONE
    assert changes == []


def test_the_thread_tells_each_change_once(
    started: Callable[[float, Callable[[], None]], Gates], machine: MachineUnderTest
) -> None:
    told = threading.Semaphore(0)
    looks = threading.Semaphore(0)
    read = machine.local_time

    def local_time() -> datetime:
        looks.release()
        return read()

    machine.local_time = local_time  # type: ignore[method-assign]
    gates = started(0.01, told.release)

    def look_again() -> None:
        while looks.acquire(blocking=False):
            pass
        for _ in range(3):
            assert looks.acquire(timeout=WAIT_SECONDS)

    machine.celsius = 95.0
    assert told.acquire(timeout=WAIT_SECONDS)
    assert gates.reason is BlockReason.OVERHEAT
    machine.celsius = 96.0  # another text, the same gate
    look_again()
    assert not told.acquire(blocking=False)
    machine.celsius = 40.0
    assert told.acquire(timeout=WAIT_SECONDS)
    assert gates.closed == ()


def test_a_callback_that_raises_does_not_end_the_thread(
    started: Callable[[float, Callable[[], None]], Gates], machine: MachineUnderTest
) -> None:
    calls = threading.Semaphore(0)

    def changed() -> None:
        calls.release()
        raise RuntimeError("a mistake of the caller's")

    started(0.01, changed)
    for celsius in (95.0, 40.0):
        machine.celsius = celsius
        assert calls.acquire(timeout=WAIT_SECONDS)


def test_closing_ends_the_thread_at_once_and_may_come_before_the_start(
    started: Callable[[float, Callable[[], None]], Gates], machine: MachineUnderTest, folder: Path
) -> None:
    gates = started(NEVER_SECONDS, lambda: None)
    thread = gates._thread
    gates.close()
    gates.close()
    assert not thread.is_alive()
    Gates(machine, LIMITS, folder, lambda: None).close()
