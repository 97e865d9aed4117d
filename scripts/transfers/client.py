"""One client in a process of its own, so that neither it nor another waits for the other's interpreter.

    python scripts/transfers/client.py ours|sync|aio upload|download ADDRESS NAME PATH

It says "ready", waits for a line, moves the file, and prints the CPU seconds that took as JSON. NAME is what the service calls
the file: a file name of a bare one, an artifact_id of ours.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import bare

from videoprocess_client import Client


async def _upload(address: str, _name: str, path: Path) -> None:
    async with Client(address) as client:
        await client.upload(path)


async def _download(address: str, name: str, path: Path) -> None:
    async with Client(address) as client:
        await client.download(name, path)


#: a plain function returns None, an asynchronous one what is to be awaited
WAYS = {
    ("ours", "upload"): _upload,
    ("ours", "download"): _download,
    ("aio", "upload"): lambda address, name, path: bare.upload_aio(address, path, name),
    ("aio", "download"): bare.download_aio,
    ("sync", "upload"): lambda address, name, path: bare.upload_sync(address, path, name),
    ("sync", "download"): bare.download_sync,
}


def main() -> None:
    """Move one file."""
    kind, direction, address, name, path = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.process_time()
    moving = WAYS[kind, direction](address, name, Path(path))
    if moving is not None:
        asyncio.run(moving)
    print(json.dumps({"cpu_seconds": time.process_time() - began}), flush=True)


if __name__ == "__main__":
    main()
