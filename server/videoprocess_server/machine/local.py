"""The machine that the service runs on, as its gates see it."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from videoprocess_server.machine.sensors import pressure_percent, temperature_celsius

#: what is kept free if nobody says otherwise: this much, or this share of a small disk
_RESERVE_BYTES = 1 << 30
_RESERVE_SHARE = 0.05


def default_disk_reserve_bytes(total_bytes: int) -> int:
    """Return what to keep free of a disk of that size."""
    return min(_RESERVE_BYTES, int(_RESERVE_SHARE * total_bytes))


class LocalMachine:
    """Asks the operating system each time. Implements the gates' `Machine`.

    Args:
        data_dir: on the disk that counts.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def disk_total_bytes(self) -> int:
        """Return the size of the data directory's disk."""
        return shutil.disk_usage(self._data_dir).total

    def disk_free_bytes(self) -> int:
        """Return what the service may still write there."""
        return shutil.disk_usage(self._data_dir).free

    def temperature_celsius(self) -> float | None:
        """Return the hottest sensor's temperature; None where there is no sensor."""
        return temperature_celsius()

    def cpu_pressure_percent(self) -> float | None:
        """Return how much tasks wait for a core; None where the kernel does not tell."""
        return pressure_percent("cpu")

    def memory_pressure_percent(self) -> float | None:
        """Return how much tasks wait for memory; None where the kernel does not tell."""
        return pressure_percent("memory")

    def local_time(self) -> datetime:
        """Return the time in the machine's own zone."""
        return datetime.now().astimezone()
