"""VideoProcessCallbackService: events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Self

from videoprocess.v1 import video_process_callback_pb2 as pb
from videoprocess.v1 import video_process_callback_pb2_grpc as pb_grpc
from videoprocess_server.engine.events import Subscription
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.caller import Context, caller_of
from videoprocess_server.rpc.convert.events import subscribe_response
from videoprocess_server.rpc.convert.fields import user_id_of
from videoprocess_server.rpc.services import Services
from videoprocess_server.rpc.subscriptions import Subscriptions

RETRY_SECONDS = 2.0  # until the successor of a service that stops is likely to be there


class Alarm:
    """Wakes one subscription, from any thread; also when the service begins to stop."""

    def __init__(self, draining: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._watch = self._loop.create_task(self._watch_drain(draining))

    def ring(self) -> None:
        """Wake the subscription; what comes after the event loop has ended wakes nobody."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rung.set)

    def reset(self) -> None:
        """Take notice of what happened; what comes from now on rings again."""
        self._rung.clear()

    async def wait(self) -> None:
        """Return when it has rung since the last reset."""
        await self._rung.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.cancel()

    async def _watch_drain(self, draining: asyncio.Event) -> None:
        await draining.wait()
        self._rung.set()


class VideoProcessCallbackService(pb_grpc.VideoProcessCallbackServiceServicer):
    """Streams events."""

    def __init__(self, services: Services, subscriptions: Subscriptions) -> None:
        self._calls = services.pools.calls
        self._clock = services.clock
        self._draining = services.draining
        self._subscriptions = subscriptions

    async def Subscribe(
        self, request: pb.SubscribeRequest, context: Context
    ) -> AsyncIterator[pb.SubscribeResponse]:
        """Stream the status, kept events and live ones."""
        user_id = user_id_of(request)
        after = request.after_sequence if request.HasField("after_sequence") else None
        with Alarm(self._draining) as alarm:
            arguments = (caller_of(context), user_id, request.session_id, after, alarm.ring)
            opened = self._calls.hold(self._subscriptions.close, self._subscriptions.open, *arguments)
            async with opened as subscription, aclosing(self._follow(subscription, alarm)) as responses:
                async for response in responses:
                    yield response

    async def _follow(
        self, subscription: Subscription, alarm: Alarm
    ) -> AsyncGenerator[pb.SubscribeResponse, None]:
        while True:
            alarm.reset()
            draining = self._draining.is_set()
            batch = await self._calls.run(self._subscriptions.take, subscription)
            for item in batch.items:
                yield subscribe_response(item, self._clock.now_us())
            if batch.ended:
                return
            if draining:
                raise VideoProcessError(
                    "DRAINING", "the service is stopping", retry_after_seconds=RETRY_SECONDS
                )
            if not batch.session_closed:
                await alarm.wait()
