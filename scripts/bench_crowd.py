"""Measures the service under a crowd: idle sessions with subscribers, slow uploads and garbage connections at once.

    python scripts/bench_crowd.py [--sessions 1000] [--uploads 200] [--garbage 50] [--seconds 60] [--out FILE.json]

A real server, and real processes of clients. A control call (GetVideo and GetCapabilities in turn, of a user of its own) is
measured without the crowd, with it, and after it, in the same run. At the end each session's job has to be heard of by its
subscriber, and each upload has to finish with its digest: whoever behaved must not have been dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psutil
from benches.clips import DOG
from benches.figures import say, spread
from benches.service import ROOT_NAME, Service

from videoprocess.v1 import (
    types_pb2,
    video_catalog_pb2,
    video_catalog_pb2_grpc,
    video_process_service_pb2,
    video_process_service_pb2_grpc,
    video_process_session_pb2,
    video_process_session_pb2_grpc,
)

FOLDER = Path(__file__).parent
CONTROL_USER, FIRST_USER = 1, 1000
SESSIONS_PER_USER = 50
CALLS_PER_SECOND = 20
MEMBERS_PER_PROCESS = 250
ALONE_SECONDS = 15.0
LEAVE_SECONDS = 15.0
ANSWER_SECONDS = 180.0
MEBIBYTE = 1 << 20


class Member:
    """A process of the crowd."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, module: str, *arguments: object) -> Member:
        """Start it."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", f"crowds.{module}", *map(str, arguments))
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=FOLDER))

    async def told(self) -> Any:  # noqa: ANN401 - JSON
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_SECONDS)
        return json.loads(line) if line else {"met": {"died": 1}}

    async def end(self) -> Any:  # noqa: ANN401 - JSON
        """Let it come to its end; return what it met."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        met = await self.told()
        await asyncio.wait_for(self._process.wait(), ANSWER_SECONDS)
        return met

    def kill(self) -> None:
        """End it, if it has not ended."""
        with suppress(ProcessLookupError):
            self._process.kill()


class Watch:
    """Looks at the server's own process once a second."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.samples: list[dict[str, float]] = []

    def look(self) -> dict[str, float]:
        """Return what the process takes now."""
        with self._process.oneshot():
            times = self._process.cpu_times()
            sample = {
                "rss_mib": round(self._process.memory_info().rss / MEBIBYTE, 1),
                "open_files": self._process.num_fds(),
                "threads": self._process.num_threads(),
                "cpu_seconds": round(times.user + times.system, 2),
            }
        self.samples.append(sample)
        return sample

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(1.0)

    def most(self, since: int) -> dict[str, float]:
        """Return the most of each since a sample."""
        found = self.samples[since:]
        return {name: max(sample[name] for sample in found) for name in ("rss_mib", "open_files", "threads")}


class Control:
    """Calls that a person waits for."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._catalog = video_catalog_pb2_grpc.VideoCatalogServiceStub(channel)
        self._service = video_process_service_pb2_grpc.VideoProcessServiceStub(channel)
        self._session = video_process_session_pb2_grpc.VideoProcessSessionServiceStub(channel)

    async def prepare(self) -> None:
        """Make the video that GetVideo asks for."""
        opened = await self._service.CreateVideoProcessSession(
            video_process_service_pb2.CreateVideoProcessSessionRequest(user_id=CONTROL_USER)
        )
        path = types_pb2.SharedPath(root=ROOT_NAME, path=DOG.name)
        await self._session.Prepare(
            video_process_session_pb2.PrepareRequest(
                session_id=opened.session_id,
                video_id="control",
                fds=[types_pb2.FileDescriptor(shared_path=path)],
            )
        )

    async def measure(self, seconds: float) -> dict[str, Any]:
        """Call for so long; return how long the calls took, in milliseconds."""
        get_video = video_catalog_pb2.GetVideoRequest(user_id=CONTROL_USER, video_id="control")
        capabilities = video_process_service_pb2.GetCapabilitiesRequest(user_id=CONTROL_USER)
        taken: dict[str, list[float]] = {"GetVideo": [], "GetCapabilities": []}
        failed = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, call in (
                ("GetVideo", partial(self._catalog.GetVideo, get_video)),
                ("GetCapabilities", partial(self._service.GetCapabilities, capabilities)),
            ):
                begin = time.perf_counter()
                try:
                    await call()
                except grpc.aio.AioRpcError as error:
                    say(f"{name}: {error.code().name} {error.details()}")
                    failed += 1
                taken[name].append(time.perf_counter() - begin)
                await asyncio.sleep(1 / CALLS_PER_SECOND)
        return {**{name: spread(values) for name, values in taken.items()}, "failed": failed}


async def crowd(options: argparse.Namespace, service: Service) -> dict[str, Any]:
    """Measure; return the figures."""
    watch = Watch(service.pid)
    async with grpc.aio.insecure_channel(service.address) as channel, AsyncExitStack() as stack:
        control = Control(channel)
        await control.prepare()
        watching = asyncio.create_task(watch.run())
        say("alone")
        before = {"control_ms": await control.measure(options.alone_seconds), "server": watch.look()}
        members = await _gather(options, service.address)
        for one in (one for found in members.values() for one in found):
            stack.callback(one.kill)
        ready = {kind: sum([(await one.told())["ready"] for one in found]) for kind, found in members.items()}
        say(f"there: {ready}")
        begin, since, first = time.monotonic(), len(watch.samples), watch.look()
        control_ms = await control.measure(options.seconds)
        seconds = time.monotonic() - begin
        last = watch.look()
        during = {
            "control_ms": control_ms,
            "server": {
                "at_its_beginning": first,
                "at_its_end": last,
                "most": watch.most(since),
                "cpu_share": round((last["cpu_seconds"] - first["cpu_seconds"]) / seconds, 3),
            },
        }
        say("the end: each session gets an event, each upload finishes")
        met = {
            kind: list(await asyncio.gather(*(one.end() for one in found))) for kind, found in members.items()
        }
        await asyncio.sleep(options.alone_seconds and LEAVE_SECONDS)
        after = {"control_ms": await control.measure(options.alone_seconds), "server": watch.look()}
        watching.cancel()
    return {
        "ready": ready,
        "before": before,
        "during": during,
        "after": after,
        "met": met,
        **_verdict(options, ready, met, (before, during, after)),
    }


async def _gather(options: argparse.Namespace, address: str) -> dict[str, list[Member]]:
    users = max(1, -(-options.sessions // SESSIONS_PER_USER))
    kinds = {"subscribers": options.sessions, "uploads": options.uploads}
    members: dict[str, list[Member]] = {}
    for kind, count in kinds.items():
        shares = [min(MEMBERS_PER_PROCESS, count - done) for done in range(0, count, MEMBERS_PER_PROCESS)]
        members[kind] = [
            await Member.start("members", kind, address, share, FIRST_USER, users) for share in shares
        ]
    members["garbage"] = [await Member.start("garbage", address, options.garbage)]
    return members


def _verdict(
    options: argparse.Namespace,
    ready: dict[str, int],
    met: dict[str, list[Any]],
    phases: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Say whether whoever behaved was served to the end."""
    heard = sum(one["met"].get("heard", 0) for one in met["subscribers"])
    finished = sum(one["met"].get("finished", 0) for one in met["uploads"])
    asked_again = sum(one.get("asked_again", 0) for kind in ("subscribers", "uploads") for one in met[kind])
    gone_early = sum(one.get("gone_early", 0) for kind in ("subscribers", "uploads") for one in met[kind])
    failed = sum(phase["control_ms"]["failed"] for phase in phases)
    told = {
        "subscribers_that_heard_their_event": heard,
        "uploads_that_finished": finished,
        "gone_early": gone_early,
        "calls_that_were_asked_to_come_again": asked_again,
        "control_calls_that_failed": failed,
    }
    whole = (heard, finished, gone_early, failed) == (options.sessions, options.uploads, 0, 0)
    there = (ready["subscribers"], ready["uploads"]) == (options.sessions, options.uploads)
    return {**told, "nobody_who_behaved_was_dropped": whole and there}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--garbage", type=int, default=50, help="connections")
    parser.add_argument("--seconds", type=float, default=60.0, help="that the crowd stays")
    parser.add_argument(
        "--alone-seconds", type=float, default=ALONE_SECONDS, help="before it comes, and after"
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-crowd-") as folder,
        Service(Path(folder), DOG.parent, "--workers", "1") as service,
    ):
        figures = asyncio.run(crowd(options, service))
        faults = service.count_logged("rpc_broke")
        exit_code = service.stop().exit_code
    result = {
        "command": shlex.join(["python", "scripts/bench_crowd.py", *sys.argv[1:]]),
        "machine": {
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "load_at_end": [round(load, 2) for load in os.getloadavg()],
            "python": platform.python_version(),
            "arch": platform.machine(),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        },
        "crowd": {"sessions": options.sessions, "uploads": options.uploads, "garbage": options.garbage},
        **figures,
        "faults_logged": faults,
        "exit_code": exit_code,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")
    if not result["nobody_who_behaved_was_dropped"] or faults or exit_code:
        raise SystemExit("whoever behaved was not served to the end")


if __name__ == "__main__":
    main()
