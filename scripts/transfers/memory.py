"""The service's memory while one large sparse file is uploaded: it must not grow with the file."""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from benches.figures import goal, say
from benches.service import Service

from transfers import rates
from transfers.rates import MEBIBYTE

NAME = "memory"
GIBIBYTE = 1 << 30
#: so much of the disk stays free
RESERVE_BYTES = 8 * GIBIBYTE
SAMPLE_SECONDS = 0.05
#: beside a first upload of 64 MiB, which starts threads and fills what the allocator keeps
GROWTH_AT_MOST_MEBIBYTES = 32
FIRST_BYTES = 64 * MEBIBYTE


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add what can be chosen."""
    group.add_argument("--sparse-gibibytes", type=int, default=10, help="size of the file")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure, and return what was found."""
    size = options.sparse_gibibytes * GIBIBYTE
    free = shutil.disk_usage(folder).free
    if free < size + RESERVE_BYTES:
        raise SystemExit(f"{free} bytes of disk are free: choose less than {options.sparse_gibibytes} GiB")
    with Service(folder / "service", folder, "--workers", "1", "--disk-reserve-bytes", "0") as service:
        resting = service.resident_bytes()
        first = _peak(service, folder, FIRST_BYTES)
        began = time.monotonic()
        large = _peak(service, folder, size)
        seconds = time.monotonic() - began
        after = service.resident_bytes()
    told = {"resting": resting, "first_64_mebibytes_peak": first, "peak": large, "after": after}
    found: dict[str, Any] = {
        "file_bytes": size,
        "seconds": round(seconds, 1),
        "resident_mebibytes": {name: round(each / MEBIBYTE, 1) for name, each in told.items()},
        "goals": {"growth_mebibytes": goal((large - first) / MEBIBYTE, GROWTH_AT_MOST_MEBIBYTES)},
    }
    say(str(found))
    return found


def _peak(service: Service, folder: Path, size: int) -> int:
    """Upload a hole of this size; return the most memory that the service had meanwhile."""
    source = folder / "hole"
    with source.open("wb") as file:
        file.truncate(size)
    samples, done = [service.resident_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            samples.append(service.resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        rates.upload_once(service.address, source)
    finally:
        done.set()
        watcher.join()
    return max(samples)
