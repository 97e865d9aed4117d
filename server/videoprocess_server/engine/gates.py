"""What may hold NORMAL work back: a table of gates, each with a probe and an operator's switch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from videoprocess_server.model.gates import QuietPeriod, Threshold
from videoprocess_server.model.hdi import SessionStatus
from videoprocess_server.model.states import BlockReason

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 2.0
FOLDER_NAME = "gates"
#: what a switch says wins over the probe
_SWITCHES = {"open": "", "closed": "closed by the operator"}
_MOST_SWITCH_BYTES = 64
#: a reserve that was touched must be exceeded by so much before work goes on
_RESERVE_MARGIN = 1.1
_TEMPERATURE_MARGIN_CELSIUS = 5.0
_PRESSURE_MARGIN_PERCENT = 5.0


class Machine(Protocol):
    """What gates ask of the machine."""

    def disk_free_bytes(self) -> int:
        """Return what may still be written to the data directory's disk."""
        ...

    def temperature_celsius(self) -> float | None:
        """Return the hottest sensor's temperature; None where there is none."""
        ...

    def cpu_pressure_percent(self) -> float | None:
        """Return how much tasks wait for a core; None where the kernel does not tell."""
        ...

    def memory_pressure_percent(self) -> float | None:
        """Return how much tasks wait for memory; None where the kernel does not tell."""
        ...

    def local_time(self) -> datetime:
        """Return the time in the machine's own zone."""
        ...


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """What an operator has set. Zeros and nothing turn a gate's probe off."""

    disk_reserve_bytes: int = 0
    max_temperature_celsius: float = 0.0
    max_cpu_pressure_percent: float = 0.0
    max_memory_pressure_percent: float = 0.0
    quiet_hours: tuple[QuietPeriod, ...] = ()


#: tells why a gate is closed; "" is open
Probe = Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class GateKind:
    """One row of the table of gates."""

    name: str
    reason: BlockReason
    status: SessionStatus
    #: makes the probe, which remembers on which side of its threshold it is
    probe: Callable[[Machine, GateLimits], Probe]


def _disk_reserve(machine: Machine, limits: GateLimits) -> Probe:
    if not limits.disk_reserve_bytes:
        return _always_open
    reserve = limits.disk_reserve_bytes
    threshold = Threshold(close_at=reserve, open_at=reserve * _RESERVE_MARGIN)

    def probe() -> str:
        free = machine.disk_free_bytes()
        return f"{free} bytes are free, {reserve} are reserved" if threshold.closed_at(free) else ""

    return probe


def _temperature(machine: Machine, limits: GateLimits) -> Probe:
    limit = limits.max_temperature_celsius
    margin = min(_TEMPERATURE_MARGIN_CELSIUS, limit / 2)
    return _too_much(machine.temperature_celsius, limit, margin, "{:.0f} °C; work waits from {:.0f} °C")


def _pressure(machine: Machine, limits: GateLimits) -> Probe:
    probes = [
        _too_much(read, limit, min(_PRESSURE_MARGIN_PERCENT, limit / 2), text)
        for read, limit, text in (
            (
                machine.cpu_pressure_percent,
                limits.max_cpu_pressure_percent,
                "tasks wait for a core {:.0f} % of the time; work waits from {:.0f} %",
            ),
            (
                machine.memory_pressure_percent,
                limits.max_memory_pressure_percent,
                "tasks wait for memory {:.0f} % of the time; work waits from {:.0f} %",
            ),
        )
    ]
    return lambda: "; ".join(filter(None, [probe() for probe in probes]))


def _quiet_hours(machine: Machine, limits: GateLimits) -> Probe:
    def probe() -> str:
        now = machine.local_time().time()
        quiet = next((period for period in limits.quiet_hours if period.contains(now)), None)
        return f"quiet hours, {quiet}" if quiet else ""

    return probe


def _manual(_machine: Machine, _limits: GateLimits) -> Probe:
    return _always_open


def _too_much(read: Callable[[], float | None], limit: float, margin: float, text: str) -> Probe:
    """Closed from a limit on; a limit of 0 is none. What cannot be read does not close it."""
    if not limit:
        return _always_open
    threshold = Threshold(close_at=limit, open_at=limit - margin)

    def probe() -> str:
        value = read()
        return text.format(value, limit) if value is not None and threshold.closed_at(value) else ""

    return probe


def _always_open() -> str:
    return ""


#: adding a gate is one row; of several closed ones the first is told
GATES: tuple[GateKind, ...] = (
    GateKind(
        name="disk_reserve",
        reason=BlockReason.SPACE_LIMIT,
        status=SessionStatus.READY_SPACE_LIMIT_REACHED,
        probe=_disk_reserve,
    ),
    GateKind(
        name="temperature",
        reason=BlockReason.OVERHEAT,
        status=SessionStatus.NOT_READY_OVERHEAT,
        probe=_temperature,
    ),
    GateKind(
        name="pressure",
        reason=BlockReason.OVERHEAT,
        status=SessionStatus.NOT_READY_OVERHEAT,
        probe=_pressure,
    ),
    GateKind(
        name="quiet_hours",
        reason=BlockReason.QUIET_HOURS,
        status=SessionStatus.NOT_READY_TEMPORARILY,
        probe=_quiet_hours,
    ),
    GateKind(
        name="manual",
        reason=BlockReason.MANUAL,
        status=SessionStatus.NOT_READY_TEMPORARILY,
        probe=_manual,
    ),
)


class Gate:
    """A gate of this machine.

    Args:
        kind: its row of the table.
        probe: of this machine.
        switch: file that holds `open` or `closed`, which wins over the probe; absent or empty, the probe decides.
    """

    def __init__(self, kind: GateKind, probe: Probe, switch: Path) -> None:
        self.name = kind.name
        self.reason = kind.reason
        self.status = kind.status
        self._probe = probe
        self._switch = switch
        #: what was complained of last, each once
        self._fault = ""

    def check(self) -> str:
        """Return why it is closed; "" where it is open. A probe that fails leaves it open: nothing is known against work."""
        try:
            switch = self._switched()
            why = self._probe() if switch not in _SWITCHES else _SWITCHES[switch]
        except Exception as error:
            if self._is_news(repr(error)):
                log.exception("gate_failed", gate=self.name)
            return ""
        if self._is_news(switch if switch not in _SWITCHES else ""):
            log.warning("gate_switch_ignored", gate=self.name, switch=switch, known=tuple(_SWITCHES))
        return why

    def _is_news(self, fault: str) -> bool:
        before, self._fault = self._fault, fault
        return bool(fault) and fault != before

    def _switched(self) -> str:
        try:
            if not self._switch.is_file():  # a pipe would wait for its writer
                return ""
            with self._switch.open("rb") as file:
                return file.read(_MOST_SWITCH_BYTES).decode(errors="replace").strip()
        except OSError as error:
            return str(error.strerror)


@dataclass(frozen=True)
class ClosedGate:
    """A gate that is closed now."""

    gate: Gate
    #: for a person
    why: str


class Gates:
    """All gates of this machine, looked at by a thread.

    Args:
        machine: what the probes ask.
        limits: of the operator.
        folder: where the operator's switches are, each with its gate's name; made if missing.
        changed: called, by the thread that looked, when others are closed than before.
        kinds: the table.
        interval_seconds: between two looks.
    """

    def __init__(
        self,
        machine: Machine,
        limits: GateLimits,
        folder: Path,
        changed: Callable[[], None],
        *,
        kinds: tuple[GateKind, ...] = GATES,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._gates = tuple(Gate(kind, kind.probe(machine, limits), folder / kind.name) for kind in kinds)
        self._folder = folder
        self._changed = changed
        self._interval_seconds = interval_seconds
        self._closed: tuple[ClosedGate, ...] = ()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gates", daemon=True)

    @property
    def closed(self) -> tuple[ClosedGate, ...]:
        """The gates that were closed at the last look, in the table's order."""
        return self._closed

    @property
    def reason(self) -> BlockReason:
        """Why NORMAL work must not run now; NONE where it may."""
        closed = self._closed
        return closed[0].gate.reason if closed else BlockReason.NONE

    def poll(self) -> tuple[ClosedGate, ...]:
        """Look at all gates now."""
        looks = ((gate, gate.check()) for gate in self._gates)
        return tuple(ClosedGate(gate, why) for gate, why in looks if why)

    def start(self) -> None:
        """Look once, so that `closed` is true from here on, then now and then."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:  # on a full or read-only disk there is just no switch
            log.warning("gate_folder_missing", error=str(error))
        self._look()
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_seconds):
            try:
                self._look()
            except Exception:
                log.exception("gates_failed")

    def _look(self) -> None:
        before, self._closed = _by_name(self._closed), self.poll()
        now = _by_name(self._closed)
        if before.keys() == now.keys():
            return
        for name in before.keys() - now.keys():
            log.info("gate_opened", gate=name)
        for name in now.keys() - before.keys():
            log.warning("gate_closed", gate=name, why=now[name])
        self._changed()


def _by_name(closed: tuple[ClosedGate, ...]) -> Mapping[str, str]:
    return {entry.gate.name: entry.why for entry in closed}
