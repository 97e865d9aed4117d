"""Processes of a crowd: each prints a line of JSON when it is ready, goes on until a line comes, and prints what it met.

python -m crowds.members subscribers|uploads ADDRESS COUNT FIRST_USER USERS
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import grpc

from videoprocess.v1 import (
    file_transfer_pb2,
    file_transfer_pb2_grpc,
    video_process_callback_pb2,
    video_process_callback_pb2_grpc,
    video_process_service_pb2,
    video_process_service_pb2_grpc,
    video_process_session_pb2,
    video_process_session_pb2_grpc,
)

CALLS_PER_CHANNEL = 100
ANSWER_SECONDS = 120.0
UPLOAD_BYTES_PER_SECOND = 16
UNKNOWN_VIDEO = "nobody has this video"
RETRY_SECONDS = 1.0
MAX_TIMES = 1000

T = TypeVar("T")

#: calls that were refused with UNAVAILABLE, and made again
asked_again: Counter[str] = Counter()


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call again after a refusal that says that this may help, as the contract asks of clients."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or asked_again["times"] >= MAX_TIMES:
                raise
            asked_again["times"] += 1
            await asyncio.sleep(RETRY_SECONDS)


async def subscriber(
    channel: grpc.aio.Channel, user_id: int, ready: asyncio.Semaphore, ending: asyncio.Event
) -> str:
    """Open a session, follow it idly, and at the end hear of a job of it."""
    service = video_process_service_pb2_grpc.VideoProcessServiceStub(channel)
    user = video_process_service_pb2.CreateVideoProcessSessionRequest(user_id=user_id)
    opened = await patiently(lambda: service.CreateVideoProcessSession(user))
    request = video_process_callback_pb2.SubscribeRequest(user_id=user_id, session_id=opened.session_id)
    events = video_process_callback_pb2_grpc.VideoProcessCallbackServiceStub(channel).Subscribe(request)
    first = await events.read()
    if first is grpc.aio.EOF or not first.event.HasField("on_status_changed"):
        return "no status"
    ready.release()
    await ending.wait()
    session = video_process_session_pb2_grpc.VideoProcessSessionServiceStub(channel)
    work = video_process_session_pb2.ProcessVideoRequest(
        session_id=opened.session_id, video_id=UNKNOWN_VIDEO, timestamp_us=0
    )
    accepted = await patiently(lambda: session.ProcessVideo(work))
    while (answer := await events.read()) is not grpc.aio.EOF:
        if answer.event.job_id == accepted.job_id and answer.event.HasField("on_error"):
            events.cancel()
            return "heard"
    return "no event"


async def upload(
    channel: grpc.aio.Channel, user_id: int, ready: asyncio.Semaphore, ending: asyncio.Event
) -> str:
    """Upload a few bytes each second, and at the end finish the upload with its digest."""
    files = file_transfer_pb2_grpc.FileTransferServiceStub(channel)
    sent = bytearray()

    async def messages() -> AsyncIterator[file_transfer_pb2.UploadRequest]:
        sent.clear()  # refused ones begin anew
        yield file_transfer_pb2.UploadRequest(header=file_transfer_pb2.UploadHeader(user_id=user_id))
        while not ending.is_set():
            piece = hashlib.sha256(sent).digest()[:UPLOAD_BYTES_PER_SECOND]
            yield file_transfer_pb2.UploadRequest(offset=len(sent), data=piece)
            if not sent:
                ready.release()
            sent.extend(piece)
            await asyncio.sleep(1.0)
        digest = hashlib.sha256(sent).hexdigest()
        finish = file_transfer_pb2.UploadFinish(size_bytes=len(sent), sha256=digest)
        yield file_transfer_pb2.UploadRequest(offset=len(sent), finish=finish)

    answer = await patiently(lambda: files.Upload(messages()))
    whole = (answer.size_bytes, answer.sha256) == (len(sent), hashlib.sha256(sent).hexdigest())
    return "finished" if whole else "something else was kept"


MEMBERS = {"subscribers": subscriber, "uploads": upload}


async def main(kind: str, address: str, count: int, first_user: int, users: int) -> None:
    """Be so many members."""
    ready, ending = asyncio.Semaphore(0), asyncio.Event()
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(-(-count // CALLS_PER_CHANNEL))
        ]
        tasks = [
            asyncio.create_task(
                MEMBERS[kind](channels[index % len(channels)], first_user + index % users, ready, ending)
            )
            for index in range(count)
        ]
        waiting = [asyncio.create_task(ready.acquire()) for _ in range(count)]
        await asyncio.wait(waiting, timeout=ANSWER_SECONDS)
        print(json.dumps({"ready": sum(task.done() for task in waiting)}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        gone_early = sum(task.done() for task in tasks)
        ending.set()
        await asyncio.wait(tasks, timeout=ANSWER_SECONDS)
        met = Counter(_outcome(task) for task in tasks)
        print(
            json.dumps({"gone_early": gone_early, "met": met, "asked_again": asked_again["times"]}),
            flush=True,
        )
        for task in [*waiting, *tasks]:
            task.cancel()


def _outcome(task: asyncio.Task[str]) -> str:
    if not task.done():
        return "still waiting"
    error = task.exception()
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return repr(error) if error is not None else task.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])))
