"""How hot and how pressed the machine is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from videoprocess_server.machine.cgroups import ROOT, read_text

#: degrees Celsius that a sensor of a running machine can mean; drivers tell others for sensors that are not there
_PLAUSIBLE_CELSIUS = (1.0, 150.0)


class Sensor(Protocol):
    """One of psutil's sensors."""

    @property
    def current(self) -> float | None:
        """Degrees Celsius."""
        ...


def temperature_celsius(read: Callable[[], Mapping[str, Sequence[Sensor]]] | None = None) -> float | None:
    """Return the hottest sensor's temperature; None where there is no sensor.

    Args:
        read: gives sensors by chip; psutil's if not given, which not every system has.
    """
    sensors_by_chip = read() if read else getattr(psutil, "sensors_temperatures", dict)()
    low, high = _PLAUSIBLE_CELSIUS
    readings = (sensor.current for sensors in sensors_by_chip.values() for sensor in sensors)
    return max((value for value in readings if value is not None and low <= value <= high), default=None)


def pressure_percent(resource: str, root: Path = ROOT) -> float | None:
    """Return the share of the last 10 seconds in which some task waited for a resource; None where the kernel does not tell.

    Args:
        resource: "cpu" or "memory".
        root: of the file system.
    """
    for line in read_text(root / "proc/pressure" / resource).splitlines():
        kind, *values = line.split()
        numbers = dict(value.split("=", 1) for value in values if "=" in value)
        if kind == "some" and "avg10" in numbers:
            return float(numbers["avg10"])
    return None
