"""The main job on this machine: start a server, send a clip through the whole session with the client, stop the server.

`make run` calls it. What it leaves: the enhanced video, and what the client says of it on the terminal.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
START_SECONDS = 30.0


def main(video: str, output: str) -> int:
    """Enhance `video` into `output`; return the client's exit code."""
    if not Path(video).is_file():
        sys.stderr.write(f"there is no file {video}\n")
        return 2
    work = Path(tempfile.mkdtemp(prefix="videoprocess-run-"))
    log_path = work / "server.log"
    address_file = work / "address"
    command = [
        str(BIN / "videoprocess-server"),
        *("serve", "--listen", "127.0.0.1:0", "--address-file", str(address_file)),
        *("--data-dir", str(work / "data"), "--log-format", "json"),
    ]
    with log_path.open("w") as log, subprocess.Popen(command, stderr=log) as server:
        try:
            address = _wait_for(address_file, server)
            if address is None:
                sys.stderr.write(f"the server did not start:\n{log_path.read_text()}\n")
                return 3
            client = [
                str(BIN / "videoprocess"),
                "enhance",
                video,
                "-o",
                output,
                "--overwrite",
                "--target",
                address,
            ]
            return subprocess.run(client, check=False).returncode
        finally:
            server.terminate()
            server.wait()
            shutil.rmtree(work, ignore_errors=True)


def _wait_for(address_file: Path, server: subprocess.Popen[bytes]) -> str | None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if address_file.exists():
            return address_file.read_text().strip()
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
