"""The installed server as a process whose CPU time is known, its dead workers' included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

START_SECONDS = 60.0
STOP_SECONDS = 60.0
ROOT_NAME = "media"
_SERVER = Path(sys.executable).parent / "videoprocess-server"


@dataclass(frozen=True, kw_only=True)
class Life:
    """What a service and all its workers have used from their start to their end."""

    cpu_seconds: float
    exit_code: int


class Service:
    """A `videoprocess-server serve`; a context manager.

    Args:
        folder: for its data directory, address and log; made if missing.
        media: the shared root `media`.
        flags: further ones of `serve`.
    """

    def __init__(self, folder: Path, media: Path, *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = folder / "data"
        self._folder = folder
        self._media = media
        self._flags = flags
        self.address = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        address_file = self._folder / "address"
        address_file.unlink(missing_ok=True)
        command = [
            str(_SERVER),
            *("serve", "--listen", "127.0.0.1:0", "--address-file", str(address_file)),
            *("--data-dir", str(self.data_dir), "--shared-root", f"{ROOT_NAME}={self._media}"),
            # a bench asks as fast as it can, as one user from one address
            *("--max-calls-per-second-per-user", "0", "--max-calls-per-second-per-peer", "0"),
            *("--log-format", "json", *self._flags),
        ]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not address_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise SystemExit(f"the server did not start: {self._log_path.read_text()}")
            time.sleep(0.01)
        self.address = address_file.read_text().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return what it, its workers and those of them that have ended have used by now."""
        service = psutil.Process(self.pid)
        while True:
            workers = service.children(recursive=True)
            try:
                # Own and ended children's: a worker that ends while this looks must be counted once.
                total = sum(sum(worker.cpu_times()[:4]) for worker in workers) + sum(service.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
            if service.children(recursive=True) == workers:
                return float(total)

    def resident_bytes(self) -> int:
        """Return the memory of the service's own process."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def count_logged(self, event: str) -> int:
        """Return how often it has logged an event."""
        lines = self._log_path.read_text().splitlines()
        return sum(json.loads(line).get("event") == event for line in lines if line.startswith("{"))

    def stop(self) -> Life:
        """End it by SIGTERM; it waits for its workers, so their CPU time is in its own."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Life(cpu_seconds=usage.ru_utime + usage.ru_stime, exit_code=process.returncode)

    @property
    def _log_path(self) -> Path:
        return self._folder / "log"
