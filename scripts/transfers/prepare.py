"""What Prepare of a shared file takes as the file grows: the same movie, followed by so much that belongs to no track.

The rest is a hole in a sparse file, so that 100 GiB need no disk; whoever read it would take minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import struct
import time
from pathlib import Path
from typing import Any

from benches.clips import DOG
from benches.figures import goal, say
from benches.service import ROOT_NAME, Service

from videoprocess_client import Client, shared

NAME = "prepare"
MEBIBYTE = 1 << 20
SIZES = {"10_mebibytes": 10 * MEBIBYTE, "1_gibibyte": 1 << 30, "100_gibibytes": 100 << 30}
GROWTH_AT_MOST = 1.25


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add what can be chosen."""
    group.add_argument("--prepares", type=int, default=15, help="of each size, in turn")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure, and return what was found."""
    media = folder / "media"
    media.mkdir()
    for name, size in SIZES.items():
        _followed_by_a_hole(media / f"{name}.mp4", size)
    with Service(folder / "service", media, "--workers", "1") as service:
        seconds = asyncio.run(_prepare(service, options.prepares))
    found = {
        name: {
            "file_bytes": SIZES[name],
            "median_ms": round(1000 * statistics.median(each), 2),
            "max_ms": round(1000 * max(each), 2),
        }
        for name, each in seconds.items()
    }
    first, *_, last = (statistics.median(each) for each in seconds.values())
    say(str(found))
    return {
        **found,
        "goals": {"growth_from_10_mebibytes_to_100_gibibytes": goal(last / first, GROWTH_AT_MOST)},
    }


def _followed_by_a_hole(path: Path, size: int) -> None:
    """Write the clip, then a `free` box that is a hole up to `size`."""
    shutil.copy(DOG, path)
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(struct.pack(">I4sQ", 1, b"free", size - file.tell()))
        file.truncate(size)


async def _prepare(service: Service, rounds: int) -> dict[str, list[float]]:
    """Prepare each file in turn, each time as another video."""
    seconds: dict[str, list[float]] = {name: [] for name in SIZES}
    async with Client(service.address) as client, client.session() as session:
        for number in range(rounds + 1):
            for name, of_size in seconds.items():
                begin = time.perf_counter()
                await session.prepare(f"{name} {number}", shared(ROOT_NAME, f"{name}.mp4"))
                if number:  # the first one starts the worker
                    of_size.append(time.perf_counter() - begin)
    return seconds
