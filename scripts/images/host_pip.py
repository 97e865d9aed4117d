"""How pip reaches its package index here, handed to a build as secrets: no layer keeps it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

#: of this machine's configuration, what holds inside a build, too
_TAKEN = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
#: where the build has the authorities' certificates
_CERTIFICATES = "/run/secrets/ca-certificates"


def secrets(folder: Path) -> list[str]:
    """Return arguments of `buildah build`; the files are written to `folder`."""
    configured = _configured()
    lines = ["[global]", *(f"{name} = {configured[name]}" for name in _TAKEN if name in configured)]
    arguments = []
    if "cert" in configured:
        lines.append(f"cert = {_CERTIFICATES}")
        arguments += ["--secret", f"id=ca-certificates,src={configured['cert']}"]
    file = folder / "pip.conf"
    file.write_text("\n".join([*lines, ""]))
    return [*arguments, "--secret", f"id=pip.conf,src={file}"]


def _configured() -> dict[str, str]:
    """What pip's files and environment variables say, the later over the earlier."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    pairs = [line.partition("=") for line in told.splitlines()]
    pairs.sort(key=lambda pair: pair[0].startswith(":env:"))
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in pairs if value}
