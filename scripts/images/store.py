"""Images and containers in a folder of our own: what else the machine keeps of them is not touched."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Debian's packages of it; runc rather than crun, which knows no machine that has cgroups of both versions
PACKAGES = ("buildah", "podman", "runc", "debootstrap")
RUNTIME = ("--runtime", "runc")
BUILD_SECONDS = 900.0
CALL_SECONDS = 120.0


@dataclass(frozen=True)
class Store:
    """Where buildah and podman keep what they make."""

    folder: Path

    def buildah(self, *arguments: str, seconds: float = CALL_SECONDS) -> str:
        """Run buildah; returns what it prints.

        Raises:
            subprocess.CalledProcessError: it failed; the terminal has its reasons.
        """
        return _run([*self._command("buildah"), *arguments], seconds)

    def podman(self, *arguments: str, seconds: float = CALL_SECONDS) -> str:
        """Run podman; the same."""
        return _run([*self._command("podman", *RUNTIME), *arguments], seconds)

    def try_podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run podman where a failure is an answer, too."""
        command = [*self._command("podman", *RUNTIME), *arguments]
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )

    def has(self, image: str) -> bool:
        """Tell whether an image is there."""
        return self.try_podman("image", "exists", image).returncode == 0

    def describe(self, image: str) -> dict[str, Any]:
        """Return what an image's configuration says."""
        described: list[dict[str, Any]] = json.loads(self.podman("image", "inspect", image))
        return described[0]

    def build_command(self, *arguments: str) -> list[str]:
        """Return the command that builds an image."""
        return [*self._command("buildah"), "build", *arguments]

    def _command(self, program: str, *options: str) -> list[str]:
        places = ("--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run"))
        return [program, *options, *places]


def _run(command: Sequence[str], seconds: float) -> str:
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds
    ).stdout.strip()
