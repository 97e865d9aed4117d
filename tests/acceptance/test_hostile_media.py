"""Hostile files, one after the other, on one service: each is answered in time, and the service goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from hostile_files import BOMBS, REFERENCES
from media_factory import make_clip
from mutations import mutated
from service_harness import SERVER, USER, Api, Server, connect, refusal_of
from soaking import SOAKING
from syscall_trace import wait_for_the_end
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session

pytestmark = pytest.mark.slow

MUTATIONS = 20_000 if SOAKING else 500
#: of the first mutation; the next has the next number, and the same number breaks the same file in the same way
SEED = random.SystemRandom().getrandbits(32) if SOAKING else 6_000_000
#: a Prepare and a whole job of a small file take seconds on a quiet machine; ten times that is a bound, no goal
ANSWER_SECONDS = 180.0
AT_ONCE = 8
#: of any worker while it has small files in hand; the largest index that is taken needs 600 MiB of it
MOST_RESIDENT_BYTES = 900 << 20
GOOD = "good.mp4"
FLAGS = (
    "--segment-seconds",
    "0.5",
    "--longest-gop-seconds",
    "1",
    "--workers",
    "2",
    "--max-running-jobs",
    "4",
)
#: mutations that are answered under strace
TRACED_MUTATIONS = 40
#: where workers may open files for reading: Python's modules, shared libraries, what describes the machine
READ_ONLY = re.compile(
    r"/(usr/)?(local/)?lib(64)?/|/etc/(ld\.so|localtime)|/dev/(null|urandom)|/proc/(self|cpuinfo|\d+/(status|task|oom))|/sys/"
)
#: answers that a caller can do something about, and none that means a fault of ours
UNEXPECTED = frozenset(
    {"INTERNAL", "STORE_UNAVAILABLE", "STORAGE_FULL", "NO_WORKER", "RETRIES_USED_UP", "STALLED"}
)
#: answers whose files are kept beside the test's data, to be looked at
KEPT = UNEXPECTED | {"WORKER_CRASHED", "PROBE_FAILED", "VERIFY_FAILED"}


@dataclass
class Answers:
    """What became of the files."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    slowest: str = ""
    unexpected: list[str] = field(default_factory=list)
    #: of the largest worker
    most_resident_bytes: int = 0

    def note(self, name: str, reason: str, seconds: float) -> None:
        self.counts[reason] += 1
        if reason in UNEXPECTED:
            self.unexpected.append(f"{name}: {reason}")
        if seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = seconds, name


class Watch:
    """How much memory workers hold, at most."""

    def __init__(self, service_pid: int) -> None:
        self.most_bytes = 0
        self._service = psutil.Process(service_pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for worker in self._service.children():
                with suppress(psutil.Error):
                    self.most_bytes = max(self.most_bytes, worker.memory_info().rss)

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self.most_bytes


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    make_clip(root / GOOD, frames=12, gop=6, width=96, height=64, audio="aac")
    return root


@pytest.fixture(name="canary")
def _canary(root: Path) -> Path:
    """Beside the files, in the same root."""
    path = root / "canary.mp4"
    shutil.copy(root / GOOD, path)
    return path


async def _answer(api: Api, name: str, video_id: str) -> tuple[str, str]:
    """Prepare a file and, if it is taken, make a whole job of it.

    Returns:
        The reason it is refused for, or "COMPLETED" and the SHA-256 of the result.
    """
    session_id = await api.open_session()
    try:
        await api.prepare_path(session_id, video_id, name)
        await api.commit_video(session_id)
        end = await _terminal(api, await api.process(session_id, video_id))
        if not end.HasField("on_process_done"):
            return end.on_error.reason, ""
        made = await api.download(end.on_process_done.report.artifacts[0].artifact_id)
        return "COMPLETED", hashlib.sha256(made).hexdigest()
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason, ""
    finally:
        with suppress(grpc.aio.AioRpcError):
            await api.session.RemoveVideo(
                session.RemoveVideoRequest(session_id=session_id, video_id=video_id, restorable=False)
            )
        await api.service.CloseVideoProcessSession(
            service.CloseVideoProcessSessionRequest(session_id=session_id)
        )


async def _terminal(api: Api, accepted: Any) -> Any:
    """The job's terminal event; the subscription is given back at once, of which a user has no more than so many."""
    call = api.callback.Subscribe(
        callback.SubscribeRequest(user_id=USER, after_sequence=accepted.event_sequence)
    )
    try:
        async for response in call:
            if response.event.job_id == accepted.job_id and response.event.sequence:
                return response.event
    finally:
        call.cancel()
    raise AssertionError("the subscription ended without the job's terminal event")


async def _answer_all(api: Api, files: Iterator[tuple[str, Path]]) -> Answers:
    """Have each file answered, some at once; each is deleted then."""
    answers = Answers()

    async def go_on() -> None:
        for name, path in files:
            began = time.monotonic()
            async with asyncio.timeout(ANSWER_SECONDS):
                reason, _ = await _answer(api, path.name, name)
            answers.note(name, reason, time.monotonic() - began)
            if reason in KEPT:
                shutil.copy(path, path.parent.parent / f"{reason}-{path.name}")
            path.unlink()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(go_on())
    return answers


def _collected(root: Path, clips: Path) -> Iterator[tuple[str, Path]]:
    """The files of others that are kept with the tests."""
    for path in sorted((clips / "hostile").iterdir()):
        yield path.name, Path(shutil.copy(path, root))


def _made(root: Path, canary: Path) -> Iterator[tuple[str, Path]]:
    for name, make in {**REFERENCES, **BOMBS}.items():
        make(root / name, canary)
        yield name, root / name


def _seeds(folder: Path, clips: Path) -> list[tuple[str, bytes]]:
    """Small files of each container and of most codecs."""
    folder.mkdir()
    made: dict[str, dict[str, Any]] = {
        "aac.mp4": {"audio": "aac"},
        "fragments.mp4": {"audio": "aac", "b_frames": 2},
        "vp9.webm": {"codec": "libvpx-vp9"},
        "sound.mkv": {"audio": "aac"},
        "h265.mov": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    }
    for name, how in made.items():
        make_clip(folder / name, **{"frames": 8, "gop": 4, "width": 64, "height": 48, **how})
    real = (
        clips / "rot90_iphone_3f.mov",
        clips / "phone_2004_h263_amr_vfr.3gp",
        clips / "samsung_sef_slowmotion.mp4",
    )
    return [(path.name, path.read_bytes()) for path in (*(folder / name for name in made), *real)]


def _mutations(root: Path, seeds: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, Path]]:
    others = [data for _, data in seeds]
    for number in range(SEED, SEED + MUTATIONS):
        name, data = seeds[number % len(seeds)]
        path = root / f"{number}-{name}"
        path.write_bytes(mutated(data, others, number))
        yield path.name, path


@contextmanager
def _service(tmp_path: Path, root: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", *FLAGS, "--shared-root", f"media={root}") as server:
        yield server


async def _check(server: Server, files: Iterator[tuple[str, Path]]) -> Answers:
    """Have all answered between two jobs of a good clip."""
    async with connect(server) as api:
        before = await _answer(api, GOOD, "before")
        watch = Watch(server.pid)
        began = time.monotonic()
        try:
            answers = await _answer_all(api, files)
        finally:
            most = watch.end()
        answers.most_resident_bytes = most
        seconds = time.monotonic() - began
        after = await _answer(api, GOOD, "after")
    crashes = server.log_path.read_text().count('"worker_crashed"')
    print(f"{sum(answers.counts.values())} files in {seconds:.0f} s, {dict(answers.counts.most_common())}")
    print(f"slowest: {answers.slowest} in {answers.slowest_seconds:.1f} s; workers: {most >> 20} MiB at most")
    print(f"count hostile_worker_crashes = {crashes}")
    assert before[0] == "COMPLETED"
    assert after == before
    assert answers.unexpected == []
    assert most < MOST_RESIDENT_BYTES
    return answers


async def test_every_hostile_file_is_answered(tmp_path: Path, root: Path, canary: Path, clips: Path) -> None:
    with _service(tmp_path, root) as server:
        collected = await _check(server, _collected(root, clips))
        made = await _check(server, _made(root, canary))
    assert collected.counts.total() > 5
    assert made.counts.total() == len(REFERENCES) + len(BOMBS)


async def test_every_mutation_is_answered(tmp_path: Path, root: Path, clips: Path) -> None:
    seeds = _seeds(tmp_path / "seeds", clips)
    print(f"seeds {SEED} to {SEED + MUTATIONS - 1}")
    with _service(tmp_path, root) as server:
        answers = await _check(server, _mutations(root, seeds))
    print(f"count hostile_mutations = {answers.counts.total()}")
    print(f"count hostile_mutations_first_seed = {SEED}")
    print(f"count hostile_mutations_largest_worker_mebibytes = {answers.most_resident_bytes >> 20}")
    print(f"count hostile_mutations_slowest_seconds = {answers.slowest_seconds:.0f}")
    assert answers.counts.total() == MUTATIONS
    assert answers.counts["COMPLETED"] > MUTATIONS // 20


def _traced(trace: Path) -> Sequence[str]:
    """The service's command under strace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace on this machine")
    calls = "trace=open,openat,openat2,execve,execveat,socket,socketpair,connect,bind,clone,clone3,fork,vfork,prctl"
    options = ["-f", "-q", "-s", "4096", "--seccomp-bpf", "-e", calls, "-e", "signal=none", "-o", str(trace)]
    if subprocess.run([strace, *options, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("strace cannot trace here")
    return [strace, "-D", *options, *SERVER]


async def test_no_other_file_is_read_and_no_socket_opened(
    tmp_path: Path, root: Path, canary: Path, clips: Path
) -> None:
    """By what workers asked the kernel for, whatever it answered."""
    trace, data_dir = tmp_path / "trace", tmp_path / "data"
    flags = (*FLAGS, "--shared-root", f"media={root}")
    seeds = _seeds(tmp_path / "seeds", clips)
    with Server(data_dir, *flags, program=_traced(trace)) as server:
        async with connect(server) as api:
            made = await _answer_all(api, _made(root, canary))
            broken = await _answer_all(api, islice(_mutations(root, seeds), TRACED_MUTATIONS))
        server.stop()
    assert made.counts.total() + broken.counts.total() == len(REFERENCES) + len(BOMBS) + TRACED_MUTATIONS
    await asyncio.to_thread(wait_for_the_end, trace, 30)
    lines = trace.read_text(errors="replace").splitlines()
    asked = list(_asked_by_workers(lines))
    assert asked
    assert not [line for line in lines if str(canary) in line]
    assert not [call for call in asked if re.match(r"socket|connect|bind|fork|vfork|execve", call)]
    opened = {match[1] for call in asked if (match := re.match(r'open\w*\(.*?"(.*?)".* = \d+$', call))}
    places = tuple(
        f"{place}/"
        for place in (
            sys.prefix,
            sys.base_prefix,
            *_paths(sys.path),
            data_dir / "segments",
            data_dir / "work",
        )
    )
    assert any(name.startswith(str(data_dir / "segments")) for name in opened)
    assert [name for name in opened if not name.startswith(places) and not READ_ONLY.match(name)] == []


def _asked_by_workers(lines: Sequence[str]) -> Iterator[str]:
    """What workers asked for from the moment on from which they may see files of strangers; before, each has one thread."""
    starting = {line.split()[0] for line in lines if "execve(" in line and "worker_main" in line}
    born = [
        (match[1], match[2])
        for line in lines
        if (match := re.match(r"(\d+) +(?:clone3?\(|<\.\.\. clone3? resumed>).* = (\d+)$", line))
    ]
    threads = {child for parent, child in born if parent in starting}
    threads |= {child for parent, child in born if parent in threads}
    print(f"{len(starting)} workers, {len(threads)} other threads of theirs")
    for line in lines:
        thread, call = line.split(maxsplit=1)
        if thread in threads:
            yield call
        elif thread in starting and "PR_SET_SECCOMP" in call:
            threads.add(thread)


def _paths(names: Sequence[str]) -> Sequence[str]:
    return [name for name in names if name.startswith("/") and len(name) > 1]
