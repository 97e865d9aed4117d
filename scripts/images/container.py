"""A container of the image, as strict as Kubernetes' restricted profile: no root, no capability, nothing to write but its data."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from images.store import Store

USER_ID = 65532
MEMORY = "4g"
#: of --shutdown-grace-seconds' default twice, and some
STOP_SECONDS = 30
START_SECONDS = 60.0
#: where credentials are mounted
SECRETS = "/run/secrets/videoprocess"
DATA = "/var/lib/videoprocess"


class Container:
    """Runs from `with` to its end; then it is removed, its data is kept."""

    def __init__(self, store: Store, image: str, name: str, data: Path, secrets: Path) -> None:
        self._store = store
        self._image = image
        self._name = name
        self._data = data
        self._secrets = secrets

    def start(self, environment: Mapping[str, str], flags: Sequence[str]) -> None:
        """Run `serve`, its environment over the image's."""
        data, secrets = f"{self._data}:{DATA}", f"{self._secrets}:{SECRETS}:ro"
        self._store.podman(
            *("run", "--detach", "--name", self._name, "--pull", "never", "--network", "host"),
            "--no-healthcheck",  # podman has systemd do it, which not every machine runs; the command is tried by itself
            *(f"--env={name}={value}" for name, value in environment.items()),
            *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:rw,noexec,nosuid,nodev,size=64m"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", MEMORY),
            *("--volume", data, "--volume", secrets, *_limits()),
            *(self._image, "serve", *flags),
        )

    def run_inside(self, *command: str) -> tuple[int, str]:
        """Run a command in the container; returns its exit code and what it prints."""
        done = self._store.try_podman("exec", self._name, *command)
        return done.returncode, done.stdout.strip()

    def log_lines(self) -> Iterator[dict[str, Any]]:
        """What the service has logged."""
        for line in self._store.try_podman("logs", self._name).stdout.splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def log_text(self) -> str:
        """The same as it stands."""
        return self._store.try_podman("logs", self._name).stdout

    def stop(self) -> tuple[int, float]:
        """Ask it to stop, as a node that is drained does; returns its exit code and how many seconds it took."""
        begin = time.monotonic()
        self._store.podman("stop", "--time", str(STOP_SECONDS), self._name)
        seconds = time.monotonic() - begin
        return int(self._store.podman("inspect", "--format", "{{.State.ExitCode}}", self._name)), seconds

    def wait(self) -> int:
        """Wait for its own end; returns its exit code."""
        return int(self._store.podman("wait", self._name))

    def remove(self) -> None:
        """Take it away, whatever it does."""
        self._store.try_podman("rm", "--force", "--time", "0", self._name)

    def __enter__(self) -> Self:
        self.remove()  # of a run that was interrupted
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.log_text())
        self.remove()


def _limits() -> Iterator[str]:
    """Limits that a root without CAP_SYS_RESOURCE may give: podman asks for more by itself."""
    for name, number, most in (
        ("nofile", resource.RLIMIT_NOFILE, 1 << 16),
        ("nproc", resource.RLIMIT_NPROC, 1 << 12),
    ):
        limit = min(resource.getrlimit(number)[1], most)
        yield from ("--ulimit", f"{name}={limit}:{limit}")


def owned_folder(path: Path) -> Path:
    """Make a folder that the container's user has, as a volume would be."""
    path.mkdir(parents=True)
    os.chown(path, USER_ID, USER_ID)
    return path
