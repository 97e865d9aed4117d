"""The contract as a buf module: which buf there is, and what its README says to type."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "proto" / "README.md"
TOOLS = ROOT / "build" / "tools"
INSTALL_SECONDS = 600.0
_NPM_INSTALL = re.compile(r"npm install .*(@bufbuild/buf@\S+)")
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def find_buf() -> str:
    """A buf: that of the PATH or of CI, or one that npm fetches, of CI's version; empty when there is none."""
    if found := shutil.which("buf"):
        return found
    of_ci = ROOT / ".ci" / "buf" / "node_modules" / ".bin" / "buf"
    if of_ci.exists():
        return str(of_ci)
    module = _NPM_INSTALL.search((ROOT / ".ci" / "run").read_text())
    assert module is not None
    made = TOOLS / "buf" / "node_modules" / ".bin" / "buf"
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / "buf.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() and shutil.which("npm") is not None:
            command = ("npm", "install", "--no-audit", "--no-fund", "--prefix", str(TOOLS / "buf"), module[1])
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            assert done.returncode == 0, done.stderr
    return str(made) if made.exists() else ""


def readme_blocks() -> list[str]:
    """What the README says to type, block by block."""
    return [str(block) for block in _BLOCK.findall(README.read_text())]
