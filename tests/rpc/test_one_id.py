"""One id goes through all that a call sets off: its own lines, the job's, those of the worker's thread, and after a restart."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, Api, Server, connect
from videoprocess.v1 import video_process_session_pb2 as session

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUEST_ID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
HEADER = ("traceparent", f"00-{TRACE}-{SPAN}-01")
FLAGS = ("--workers", "1", "--segment-seconds", "0.4", "--log-level", "debug")


def lines(server: Server) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in server.log_path.read_text().splitlines() if line.startswith("{")]


async def until(server: Server, is_there: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for line in lines(server):
            if is_there(line):
                return line
        await asyncio.sleep(0.02)
    raise AssertionError("the line did not come")


async def process(api: Api, session_id: str, *headers: tuple[str, str]) -> Any:
    request = session.ProcessVideoRequest(session_id=session_id, video_id="v", request_id=REQUEST_ID)
    return await api.session.ProcessVideo(request, metadata=headers)


async def kill_a_worker_at_work(server: Server) -> Mapping[str, Any]:
    """Kills workers until one had a task; a job outlives more of them than this kills."""
    for _ in range(8):
        for worker in psutil.Process(server.pid).children():
            worker.kill()
        await asyncio.sleep(0.4)
        for line in lines(server):
            if line["event"] == "worker_crashed":
                return line
    raise AssertionError("no worker had a task")


@pytest.mark.slow
async def test_from_the_call_through_a_worker_that_dies_to_the_end_after_a_restart(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    make_clip(media / "clip.mp4", frames=240, gop=12, width=640, height=360)
    server = Server(tmp_path / "data", *FLAGS, "--shared-root", f"media={media}")
    with server:
        async with connect(server) as api:
            session_id = await api.open_session()
            await api.prepare_path(session_id, "v", "clip.mp4")
            await api.commit_video(session_id)
            accepted = await process(api, session_id, HEADER)
            await until(server, lambda line: line["event"] == "job_started")
            crashed = await kill_a_worker_at_work(server)
            failed = await until(server, lambda line: line["event"].endswith("_attempt_failed"))
        server.kill()
        first_life = len(lines(server))
        server.start()
        async with connect(server) as api:
            await api.terminal(accepted)
    told = lines(server)
    of_job = [line for line in told if line.get("job_id") == accepted.job_id]
    assert {TRACE} == {line["trace_id"] for line in of_job}
    assert {crashed["event"], failed["event"], "rpc", "job_accepted"} <= {line["event"] for line in of_job}
    again = {line["event"] for line in told[first_life:] if line.get("trace_id") == TRACE}
    assert {"job_started", "job_completed", "job_ended"} <= again
    call = next(line for line in of_job if line["event"] == "rpc")
    assert ("/videoprocess.v1.VideoProcessSessionService/ProcessVideo", session_id, REQUEST_ID, "v") == (
        call["method"],
        call["session_id"],
        call["request_id"],
        call["video_id"],
    )
    (ended,) = [line for line in of_job if line["event"] == "job_ended"]
    assert "completed" == ended["state"]
    assert ended["running_seconds"] > 0
    others = {line["trace_id"] for line in told if line["event"] == "rpc"} - {TRACE}
    assert len(others) == sum(line["event"] == "rpc" and line["trace_id"] != TRACE for line in told)


@pytest.mark.slow
async def test_a_refusal_carries_the_callers_id_and_a_bad_header_is_none(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--workers", "1") as server:
        async with connect(server) as api:
            for header in (HEADER, ("traceparent", "00-nonsense")):
                with pytest.raises(grpc.aio.AioRpcError):
                    await process(api, "nobody's", header)
        refusals = [line for line in lines(server) if line.get("reason") == "SESSION_CLOSED"]
    first, second = (line["trace_id"] for line in refusals)
    assert first == TRACE
    assert second != TRACE
    assert len(second) == 32
