"""Measures the service beside the ffmpeg program: same clip, same filters, same encoder; prints one JSON object.

`make bench` runs it. Both run in turn, A B A B …, so that a machine whose speed drifts changes both; what counts is the
median of the ratios of neighbouring runs. CPU seconds stand beside wall seconds, since machines are shared. The service's
time is from ProcessVideo to OnProcessDone: it measures the noise, checks every segment, and decodes the result once more,
which the program does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import psutil

from videoprocess.v1.report_pb2 import ProcessReport
from videoprocess_client import Client, shared, stream

BIN = Path(sys.executable).parent
CLIP = Path(__file__).parent.parent / "tests" / "clips" / "dog_720p30_10s.mp4"


def _tree_cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def _start(data_dir: Path, root: Path) -> tuple[subprocess.Popen[bytes], str]:
    address_file = data_dir / "address"
    server = subprocess.Popen(
        [
            str(BIN / "videoprocess-server"),
            *("serve", "--listen", "127.0.0.1:0", "--address-file", str(address_file)),
            *("--data-dir", str(data_dir / "data"), "--shared-root", f"media={root}", "--log-level", "error"),
        ]
    )
    while not address_file.exists():
        if server.poll() is not None:
            raise SystemExit("the server did not start")
        time.sleep(0.01)
    return server, address_file.read_text().strip()


async def _ours(address: str, pid: int, clip: Path, number: int) -> tuple[dict[str, float], ProcessReport]:
    async with Client(address) as client, client.session() as session:
        await session.prepare(f"run-{number}", shared("media", clip.name))
        await session.create_streams([stream(1)])
        await session.commit_streams()
        cpu, begin = _tree_cpu_seconds(pid), time.monotonic()
        done = await (await session.process(f"run-{number}")).wait()
        cost = {"wall_seconds": time.monotonic() - begin, "cpu_seconds": _tree_cpu_seconds(pid) - cpu}
        await session.remove(f"run-{number}")
        return cost, done.report


def _program(clip: Path, report: ProcessReport, output: Path) -> dict[str, float]:
    """Run the ffmpeg program with the filters and the encoder that the service chose."""
    encoding = report.encodings[0]
    settings = dict(part.split("=", 1) for part in encoding.settings.split(" "))
    options = [text for name, value in settings.items() for text in (f"-{name}", value)]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-i", str(clip), "-map", "0:v:0", "-map", "0:a?", "-c:a", "copy"),
            *("-vf", ",".join(report.filters), "-c:v", encoding.encoder, *options, str(output)),
        ],
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": time.monotonic() - begin, "cpu_seconds": cpu}


async def _measure(clip: Path, runs: int) -> dict[str, Any]:
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        server, address = _start(Path(folder), clip.parent)
        try:
            for number in range(runs):
                cost, report = await _ours(address, server.pid, clip, number)
                ours.append(cost)
                theirs.append(_program(clip, report, Path(folder) / "program.mp4"))
        finally:
            server.terminate()
            server.wait()
    ratios = {
        name: statistics.median(a[name] / b[name] for a, b in zip(ours, theirs, strict=True))
        for name in ours[0]
    }
    return {
        "clip": clip.name,
        "frames": report.frames.encoded,
        "segments": report.segment_count,
        "filters": list(report.filters),
        "wall_ratio_median": round(ratios["wall_seconds"], 3),
        "cpu_ratio_median": round(ratios["cpu_seconds"], 3),
        "service": ours,
        "ffmpeg_program": theirs,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "arch": platform.machine()},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main() -> None:
    """Print the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(_measure(arguments.clip.resolve(), arguments.runs)), indent=1))


if __name__ == "__main__":
    main()
