"""Throughput of uploads and downloads beside bare loops of grpcio, in turn, each client a process of its own.

Every file is random bytes and ends with an fsync: where the service stores it, or where the client does. Checksums are on in
ours (CRC32C of each message, SHA-256 of the whole, on both sides) and there are none in the loops.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from benches.figures import say
from benches.service import Service

from videoprocess_server.blobs.blob_store import BlobKind
from videoprocess_server.datadir import DATABASE_NAME
from videoprocess_server.model.records import Artifact, ArtifactKind
from videoprocess_server.store.sqlite import SqliteRepository

NAME = "rates"
HERE = Path(__file__).parent
USER_ID = 100
KINDS = ("ours", "sync", "aio")
DIRECTIONS = ("upload", "download")
LEAST_RATIO = 0.8
MEBIBYTE = 1 << 20
#: it is fetched under this id
ARTIFACT_ID = "0" * 32


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add what can be chosen."""
    group.add_argument("--rounds", type=int, default=12, help="of each kind, in turn; divisible by 3")
    group.add_argument("--mebibytes", type=int, default=512, help="in all, shared by the clients")
    group.add_argument("--clients", type=int, nargs="+", default=[1, 8], help="at once")


@dataclass(frozen=True)
class Place:
    """A service of one kind."""

    kind: str
    address: str
    process: psutil.Process
    #: where its files are
    folder: Path
    #: what it calls the file to fetch
    name: str

    def cpu_seconds(self) -> float:
        """Return what it has used; workers of ours have nothing to do."""
        return float(sum(self.process.cpu_times()[:2]))

    def forget_uploads(self) -> None:
        """Free the disk that uploads took."""
        for path in self.folder.iterdir():
            if path.name != self.name:
                path.unlink()


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure, and return what was found."""
    found: dict[str, Any] = {}
    for count in options.clients:
        size = options.mebibytes * MEBIBYTE // count
        with _services(folder / str(count), size) as (places, source):
            for direction in DIRECTIONS:
                said = f"{direction}_{count}_clients"
                say(f"{said}: {options.rounds} rounds of {size} bytes a client")
                # Each goes first, second and last as often: on a virtual machine, memory that another has just freed is
                # written to in half the time. The first round warms caches.
                rounds = [
                    {
                        place.kind: _round(place, direction, count, source)
                        for place in _rotated(places, number)
                    }
                    for number in range(options.rounds + 1)
                ][1:]
                found[said] = _told(rounds, size * count)
                say(json.dumps({name: value for name, value in found[said].items() if name != "rounds"}))
    found["goals"] = {name: _goal(told["ratio_median"]) for name, told in found.items()}
    return found


def _rotated(places: Sequence[Place], number: int) -> Iterator[Place]:
    return (places[(number + k) % len(places)] for k in range(len(places)))


def upload_once(address: str, source: Path) -> None:
    """Have a client in a process of its own upload a file."""
    command = [sys.executable, str(HERE / "client.py"), "ours", "upload", address, "", str(source)]
    subprocess.run(command, input="go\n", stdout=subprocess.DEVNULL, text=True, check=True)


def _goal(ratio: float) -> dict[str, Any]:
    return {"measured": round(ratio, 3), "at_least": LEAST_RATIO, "met": ratio >= LEAST_RATIO}


@contextmanager
def _services(folder: Path, size: int) -> Iterator[tuple[Sequence[Place], Path]]:
    """Start one of each kind, which all have the same file to fetch."""
    folder.mkdir(parents=True)
    source = folder / "source"
    source.write_bytes(os.urandom(size))
    with ExitStack() as stack:
        places = [stack.enter_context(_bare(kind, folder / kind, source)) for kind in ("sync", "aio")]
        places.insert(0, stack.enter_context(_ours(folder / "ours", source)))
        yield places, source


@contextmanager
def _bare(kind: str, folder: Path, source: Path) -> Iterator[Place]:
    folder.mkdir()
    os.link(source, folder / "fetched")
    command = [sys.executable, str(HERE / "bare.py"), kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            yield Place(kind, address, psutil.Process(server.pid), folder, "fetched")
        finally:
            server.kill()


@contextmanager
def _ours(folder: Path, source: Path) -> Iterator[Place]:
    with Service(folder, source.parent, "--workers", "1") as service:
        data_dir = service.data_dir
    _seed_artifact(data_dir, source)
    with Service(folder, source.parent, "--workers", "1") as service:
        yield Place(
            "ours",
            service.address,
            psutil.Process(service.pid),
            data_dir / BlobKind.UPLOAD.value,
            ARTIFACT_ID,
        )


def _seed_artifact(data_dir: Path, source: Path) -> None:
    """Make the file a result, by the store's own code: a job would take hours to make one of this size."""
    os.link(source, data_dir / BlobKind.RESULT.value / ARTIFACT_ID)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    artifact = Artifact(
        artifact_id=ARTIFACT_ID,
        user_id=USER_ID,
        video_id="bench",
        job_id="bench",
        stream_id=0,
        kind=ArtifactKind.VIDEO,
        media_type="video/mp4",
        file_name="bench.mp4",
        size_bytes=source.stat().st_size,
        sha256=digest,
        create_time_us=time.time_ns() // 1000,
        detached=True,
    )
    repository = SqliteRepository(data_dir / DATABASE_NAME)
    try:
        with repository.transaction() as tx:
            tx.put_artifact(artifact)
    finally:
        repository.close()


def _round(place: Place, direction: str, count: int, source: Path) -> dict[str, float]:
    """Have all clients move a file at once; return wall seconds and CPU seconds of both sides."""
    targets = [place.folder.parent / f"{place.kind}-target-{number}" for number in range(count)]
    names = [f"upload-{number}" for number in range(count)] if direction == "upload" else [place.name] * count
    paths = [source] * count if direction == "upload" else targets
    os.sync()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(_client(place, direction, name, path))
            for name, path in zip(names, paths, strict=True)
        ]
        for client in clients:
            _line(client)
        _warm(2 * count * source.stat().st_size)
        cpu, began = place.cpu_seconds(), time.perf_counter()
        for client in clients:
            assert client.stdin is not None
            client.stdin.write("go\n")
            client.stdin.flush()
        spent = [json.loads(_line(client))["cpu_seconds"] for client in clients]
        seconds = time.perf_counter() - began
        server_cpu = place.cpu_seconds() - cpu
    for target in targets:
        target.unlink(missing_ok=True)
    if direction == "upload":
        place.forget_uploads()
    return {"seconds": seconds, "server_cpu_seconds": server_cpu, "clients_cpu_seconds": sum(spent)}


def _warm(size: int) -> None:
    """Have free memory that was used just now: on a virtual machine, the first touch after a while takes several times as long."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


def _client(place: Place, direction: str, name: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "client.py"), place.kind, direction, place.address, name, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    line = client.stdout.readline()
    if not line:
        raise SystemExit(f"a client ended with {client.wait()}")
    return line


def _told(rounds: Sequence[Mapping[str, Mapping[str, float]]], size: int) -> dict[str, Any]:
    """Return medians, and the median of the ratios of each round to the faster bare loop."""
    told: dict[str, Any] = {}
    for kind in KINDS:
        of_kind = [each[kind] for each in rounds]
        told[kind] = {
            "mebibytes_per_second": round(
                statistics.median(size / MEBIBYTE / each["seconds"] for each in of_kind), 1
            ),
            **{
                name: round(statistics.median(each[name] for each in of_kind), 3)
                for name in ("seconds", "server_cpu_seconds", "clients_cpu_seconds")
            },
        }
    peer = min(KINDS[1:], key=lambda kind: float(told[kind]["seconds"]))
    ratios = [each[peer]["seconds"] / each["ours"]["seconds"] for each in rounds]
    cpu = {kind: told[kind]["server_cpu_seconds"] + told[kind]["clients_cpu_seconds"] for kind in KINDS}
    return {
        **told,
        "peer": peer,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "cpu_ratio": round(cpu["ours"] / cpu[peer], 2),
        "rounds": rounds,
    }
