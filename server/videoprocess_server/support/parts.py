"""The parts of the file for support: a table of names and of what finds each."""

from __future__ import annotations

import os
import platform
import sys
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from videoprocess_server import bounds, last_start
from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.datadir import DATABASE_NAME, LOCK_NAME
from videoprocess_server.engine.gates import FOLDER_NAME, GATES, Gate
from videoprocess_server.machine.capacity import available_cores, memory_budget_bytes
from videoprocess_server.machine.local import LocalMachine
from videoprocess_server.machine.processes import process_tree
from videoprocess_server.model.clock import SystemClock
from videoprocess_server.settings import Settings
from videoprocess_server.store.filesystem import file_system_type
from videoprocess_server.store.inspection import Inspection, inspect, is_in_use
from videoprocess_server.support.dump import Parts
from videoprocess_server.support.jobs import told_jobs
from videoprocess_server.support.redaction import log_line

MOST_JOBS = 100
MOST_LOG_BYTES = 1 << 20
MOST_LOG_LINES = 2000
SCRAPE_SECONDS = 10.0
MOST_SCRAPE_BYTES = 4 << 20
_MOUNTS = Path("/proc/self/mountinfo")

README = """\
What `videoprocess-server support-dump` found. Text and JSON; no video, no credentials. Names that callers gave are replaced
by digests (name-…): the same name has the same digest everywhere, but in log lines, which cut\nlong ones.

about.json       versions, and whether the service runs
service.json     how the service started last, with its settings
settings.json    settings that this command would start it with
machine.json     cores, memory, heat, pressure, processes
disk.json        what the data directory holds, in numbers
gates.json       which gates are closed, and why
database.json    schema, rows by state, what SQLite's quick check or PostgreSQL says
jobs.json        the last jobs: waiting, running, paused, and what came of them
metrics.txt      a scrape, where the service serves metrics
log.txt          the end of the log that --log named
problems.json    what could not be found out
"""


class Finder:
    """Finds the parts.

    Args:
        settings: as `serve` would have them.
        log: a file of the service's log lines; None for none.
    """

    def __init__(self, settings: Settings, log: Path | None) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir.absolute()
        self._log = log

    def parts(self) -> Parts:
        """Return what finds each part."""
        named = {"log.txt": self._log_lines} if self._log is not None else {}
        listens = {"metrics.txt": self._scrape} if self._listens() else {}
        return {
            "README.txt": lambda: README,
            "about.json": self._about,
            "service.json": lambda: self._last_start,
            "settings.json": lambda: last_start.told_settings(self._settings.model_dump(mode="json")),
            "machine.json": self._machine,
            "disk.json": self._disk,
            "gates.json": self._gates,
            "database.json": self._database,
            "jobs.json": lambda: told_jobs(self._inspection.jobs, SystemClock().now_us()),
            **listens,
            **named,
        }

    @cached_property
    def _last_start(self) -> Mapping[str, Any]:
        return last_start.read(self._data_dir)

    @cached_property
    def _inspection(self) -> Inspection:
        if not self._settings.database_url:
            return inspect(self._data_dir / DATABASE_NAME, self._is_running, MOST_JOBS)
        from videoprocess_server.store import postgres_inspection

        return postgres_inspection.inspect(
            self._settings.database_url, self._settings.database_schema, MOST_JOBS
        )

    def _is_running(self) -> bool:
        return is_in_use(self._data_dir / LOCK_NAME)

    def _listens(self) -> bool:
        return bool(self._last_start.get("metrics")) and self._is_running()

    def _about(self) -> Mapping[str, Any]:
        return {
            "time": datetime.now(UTC).isoformat(),
            "service_runs": self._is_running(),
            "data_dir": str(self._data_dir),
            "python": sys.version,
            "system": platform.platform(),
            "packages": {
                one.metadata["Name"]: one.version
                for one in sorted(distributions(), key=lambda one: str(one.metadata["Name"]).lower())
            },
        }

    def _machine(self) -> Mapping[str, Any]:
        machine = LocalMachine(self._data_dir)
        pid = self._last_start.get("pid")
        return {
            "cores": available_cores(),
            "memory_budget_bytes": memory_budget_bytes(),
            "load": os.getloadavg(),
            "temperature_celsius": machine.temperature_celsius(),
            "cpu_pressure_percent": machine.cpu_pressure_percent(),
            "memory_pressure_percent": machine.memory_pressure_percent(),
            "processes": process_tree(int(pid)) if pid and self._is_running() else [],
        }

    def _disk(self) -> Mapping[str, Any]:
        machine = LocalMachine(self._data_dir)
        database = self._data_dir / DATABASE_NAME
        return {
            "file_system": file_system_type(self._data_dir.resolve(), _MOUNTS.read_text(errors="replace")),
            "total_bytes": machine.disk_total_bytes(),
            "free_bytes": machine.disk_free_bytes(),
            "owner": self._data_dir.stat().st_uid,
            "mode": oct(self._data_dir.stat().st_mode & 0o7777),
            "folders": {kind.value: _sizes_below(self._data_dir / kind.value) for kind in BlobKind},
            "database_bytes": {
                path.name: _size_of(path) for path in sorted(database.parent.glob(f"{database.name}*"))
            },
        }

    def _gates(self) -> Mapping[str, Any]:
        machine, folder = LocalMachine(self._data_dir), self._data_dir / FOLDER_NAME
        limits = bounds.gate_limits(self._settings, machine.disk_total_bytes())
        return {
            kind.name: {
                "switch": folder.joinpath(kind.name).exists(),
                "closed": Gate(kind, kind.probe(machine, limits), folder / kind.name).check(),
            }
            for kind in GATES
        }

    def _database(self) -> Mapping[str, Any]:
        found = self._inspection
        return {
            "schema_version": found.schema_version,
            "known_schema_version": found.known_version,
            "check": found.check,
            "rows": found.counts,
        }

    def _scrape(self) -> str:
        url = f"http://{self._last_start['metrics']}/metrics"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
        with opener.open(url, timeout=SCRAPE_SECONDS) as answer:
            text: str = answer.read(MOST_SCRAPE_BYTES).decode("utf-8", "replace")
        return text

    def _log_lines(self) -> str:
        assert self._log is not None
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MOST_LOG_BYTES))
            lines = file.read(MOST_LOG_BYTES).decode("utf-8", "replace").splitlines()
        if size > MOST_LOG_BYTES:
            lines = lines[1:]  # half of one
        return "".join(f"{log_line(line)}\n" for line in lines[-MOST_LOG_LINES:])


def _sizes_below(folder: Path) -> Mapping[str, int]:
    """Count files; those that go meanwhile, as they do beside a service at work, count or not."""
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    sizes = [size for path in paths if (size := _size_of(path)) is not None]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _size_of(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None
