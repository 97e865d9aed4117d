"""Calls in any order, several at once, by two users in many sessions, with any ids: the contract's answers, no others."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import secrets
import sys
from collections import Counter
from collections.abc import Awaitable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import pytest

from media_factory import make_clip
from rpc.allowed_answers import ERRORS, REFUSALS
from rpc.odd_texts import PLANTED
from rpc.random_calls import CLIPS, NEEDS_S3, WEIGHTS, Call, Known, LostAnswerError, RandomCalls
from service_harness import PATIENCE_SECONDS, SERVER, Api, Server, connect, refusal_of
from soaking import SOAKING
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.errors import CATALOGUE

SEED = secrets.randbits(32) if SOAKING else 10
CALLS = 20_000 if SOAKING else 400
CALLERS = 8
#: how many of the same call go off at once
COPIES = (1, 1, 2, 3)
#: the part of all draws that is a whole sequence of calls with the right arguments
SENSE = 0.1
#: whatever the machine does, a random service without these would be none
LEAST_REASONS = 20
#: further calls of a method that never was answered but with a refusal
FURTHER_DRAWS = 200
RACES = 30
#: what the service's own files and folders are called
OWN_NAME = re.compile(r"[0-9a-z_.-]+")


@pytest.fixture(name="sandbox")
def _sandbox(tmp_path: Path) -> Path:
    """Everything the service could take for its own place, and a shared root."""
    for name in ("cwd", "home", "tmp", "media"):
        (tmp_path / name).mkdir()
    media = tmp_path / "media"
    short, long, sound = (media / name for name in CLIPS)
    make_clip(short, frames=3, width=64, height=48)
    make_clip(long, frames=90, fps=Fraction(30), width=64, height=48)
    make_clip(sound, frames=12, width=64, height=48, audio="aac")
    (media / "empty.mp4").touch()
    (media / "text.mp4").write_text("I am not a video. " * 100)
    (media / "cut.mp4").write_bytes(long.read_bytes()[:-1000])
    (media / "folder").mkdir()
    (media / "leaving.mp4").symlink_to("/etc/passwd")
    os.mkfifo(media / "pipe.mp4")
    return tmp_path


@pytest.fixture(name="server")
def _server(sandbox: Path) -> Iterator[Server]:
    places = ("env", "-C", str(sandbox / "cwd"), f"HOME={sandbox / 'home'}", f"TMPDIR={sandbox / 'tmp'}")
    flags = ("--shared-root", f"media={sandbox / 'media'}", "--workers", "1", "--segment-seconds", "0.5")
    with Server(
        sandbox / "data", *flags, "--longest-gop-seconds", "0.5", program=(*places, *SERVER)
    ) as server:
        yield server


class Answers:
    """What was answered, and whether it may be."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    async def of(self, call: Call) -> Any:
        """Make a call; return its answer, None if it was refused."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await call.make()
        except LostAnswerError:
            self.counts[call.method, "lost"] += 1
            return None
        except grpc.aio.AioRpcError as error:
            self._check(call, error)
            return None
        assert not call.must, f"{call.method} was not refused with {call.must}: {answer}"
        self.counts[call.method, "OK"] += 1
        return answer

    def _check(self, call: Call, error: grpc.aio.AioRpcError) -> None:
        refusal = refusal_of(error)
        row = CATALOGUE[refusal.reason]
        self.counts[call.method, refusal.reason] += 1
        assert (row.status.name, int(row.cam_ret_code)) == (refusal.status.name, refusal.cam_ret_code)
        allowed = call.must or REFUSALS[call.method]
        assert refusal.reason in allowed, f"{call.method}: {refusal}"
        assert refusal.message

    def check_variety(self) -> None:
        """Whatever was drawn, every method has worked, and many of the refusals have come."""
        print("\n".join(f"{count:6} {' '.join(key)}" for key, count in sorted(self.counts.items())))
        print(f"count random_calls = {self.counts.total()}")
        assert {method for method, reason in self.counts if reason == "OK"} == WEIGHTS.keys() - NEEDS_S3
        assert len({reason for _, reason in self.counts}) >= LEAST_REASONS


async def _begin(api: Api, user: int, known: Known) -> None:
    """Give a user a session and a result, so that there is something to name."""
    session_id = await api.open_session(user)
    await api.commit_video(session_id)
    await api.prepare_path(session_id, known.own_ids[0], CLIPS[0])
    accepted = await api.process(session_id, known.own_ids[0])
    done = await api.terminal(accepted, user)
    known.sessions.append(session_id)
    known.named.add(known.own_ids[0])
    known.jobs.add(accepted.job_id)
    known.artifacts += [file.artifact_id for file in done.on_process_done.report.artifacts]


async def _call_at_random(calls: RandomCalls, answers: Answers, rng: random.Random, count: int) -> None:
    for _ in range(count):
        for call in calls.draw_work() if rng.random() < SENSE else [calls.draw()]:
            await asyncio.gather(*(answers.of(call) for _ in range(rng.choice(COPIES))))


async def _draw_what_never_worked(calls: RandomCalls, answers: Answers) -> None:
    """A method that is drawn seldom may have had wrong arguments each time."""
    for method in WEIGHTS.keys() - NEEDS_S3:
        for _ in range(FURTHER_DRAWS):
            if answers.counts[method, "OK"]:
                break
            await answers.of(calls.draw_of(method))


async def _end(api: Api, user: int, known: Known) -> None:
    for session_id in set(known.sessions):  # so that there is room for another
        request = service.CloseVideoProcessSessionRequest(session_id=session_id)
        await api.service.CloseVideoProcessSession(request)
    await _stop_everything(api, user, await api.open_session(user))
    _check_events(known, await _all_events(api, user))
    assert known.told_jobs <= known.jobs
    assert known.told_videos <= known.named


async def _stop_everything(api: Api, user: int, session_id: str) -> None:
    """Interrupts until nothing of the user is queued or runs."""
    active = (video.VIDEO_STATE_QUEUED, video.VIDEO_STATE_RUNNING)
    request = catalog.ListVideosRequest(user_id=user, states=active)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while names := [found.video_id for found in (await api.catalog.ListVideos(request)).videos]:
            await api.session.Interrupt(session.InterruptRequest(session_id=session_id, video_ids=names))
            await asyncio.sleep(0.05)


async def _all_events(api: Api, user: int) -> list[Any]:
    opened = await api.service.CreateVideoProcessSession(
        service.CreateVideoProcessSessionRequest(user_id=user)
    )
    events: list[Any] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in api.events(user, 0):
            events += [event] if event.sequence else []
            if len(events) == opened.event_sequence:
                return events
    raise AssertionError("the subscription ended")


def _check_events(known: Known, events: list[Any]) -> None:
    """Each accepted job ended once, and in a way that the caller could have expected."""
    assert [event.sequence for event in events] == [*range(1, len(events) + 1)]
    assert Counter(event.job_id for event in events) == Counter(known.jobs)
    reasons = Counter(event.on_error.reason or "done" for event in events)
    print(f"events: {dict(reasons)}")
    assert set(reasons) <= ERRORS | {"done"}
    assert reasons["done"]
    assert {event.video_id for event in events} <= known.named


def _check_log(server: Server) -> None:
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines()]
    assert lines
    broken = [
        line
        for line in lines
        if line["level"] in ("error", "critical")
        or "exception" in line
        or line.get("code") in ("INTERNAL", "UNKNOWN")
    ]
    assert not broken, broken[0]


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found


def _check_places(sandbox: Path) -> None:
    """Nothing was written but in the data directory, and nothing there is called what a caller said."""
    assert not [path for name in ("cwd", "home", "tmp") for path in (sandbox / name).iterdir()]
    own = {"cwd", "home", "tmp", "media", "data", "data.address", "data.log"}
    assert {path.name for path in sandbox.iterdir()} == own
    assert not [name for name in _files(sandbox) if PLANTED in name]
    assert not [name for name in _files(sandbox / "data") if not OWN_NAME.fullmatch(Path(name).name)]


async def test_any_calls_in_any_order_get_the_contracts_answers(server: Server, sandbox: Path) -> None:
    print(f"seed {SEED}, python {sys.version_info[:3]}")
    rng = random.Random(SEED)
    media_before = _files(sandbox / "media")
    answers = Answers()
    async with connect(server) as api:
        calls = RandomCalls(api, rng)
        for user, known in calls.known.items():
            await _begin(api, user, known)
        await asyncio.gather(
            *(_call_at_random(calls, answers, rng, CALLS // CALLERS) for _ in range(CALLERS))
        )
        await _draw_what_never_worked(calls, answers)
        for user, known in calls.known.items():
            await _end(api, user, known)
    answers.check_variety()
    assert server.stop() == 0
    _check_log(server)
    _check_places(sandbox)
    assert _files(sandbox / "media") == media_before


@pytest.mark.slow
async def test_a_video_that_is_removed_while_it_is_prepared_was_prepared(server: Server) -> None:
    """Prepare tells what it made, not what others have made of it since: no id that was given is unknown to it."""
    async with connect(server) as api:
        session_id = await api.open_session()
        removal = session.RemoveVideoRequest(session_id=session_id, video_id="brief")
        for _ in range(RACES):
            removals = (api.session.RemoveVideo(removal) for _ in range(8))
            prepared, *_ = await asyncio.gather(
                api.prepare_path(session_id, "brief", CLIPS[0]), _staggered(removals)
            )
            assert prepared.video.video_id == "brief"
            assert prepared.video.stream_descs == prepared.stream_descs
            assert prepared.stream_descs


async def _staggered(calls: Iterable[Awaitable[Any]]) -> None:
    for call in calls:
        await call
        await asyncio.sleep(0.002)


def test_every_method_is_called_and_has_its_answers() -> None:
    from videoprocess_server.rpc import server as rpc_server

    methods = {
        method.name
        for file in rpc_server._FILES
        for described in file.DESCRIPTOR.services_by_name.values()
        for method in described.methods
    }
    assert methods == set(WEIGHTS) == set(REFUSALS)
    assert set.union(*(set(reasons) for reasons in REFUSALS.values()), ERRORS) <= set(CATALOGUE)
