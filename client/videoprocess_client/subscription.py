"""A stream of events that comes back by itself and neither loses nor repeats a numbered one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from grpc import aio

from videoprocess.v1 import video_process_callback_pb2 as pb
from videoprocess_client.errors import ConnectionFailed, OutOfRange, VideoProcessError
from videoprocess_client.events import Event, from_message
from videoprocess_client.link import Link
from videoprocess_client.retry import may_pass

# No user gets so far, so the service answers with the newest number there is.
_BEYOND_ALL = 2**63 - 1


class Subscription:
    """Events of a user, or of one session, from a number on."""

    def __init__(self, link: Link, *, after_sequence: int | None = None, session_id: str = "") -> None:
        self._link = link
        self._after_sequence = after_sequence
        self._session_id = session_id

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield events until the caller stops, or until a filtered session is closed."""
        patience = self._link.patience()
        while True:
            try:
                if self._after_sequence is None:
                    self._after_sequence = await self._newest()
                async with aclosing(self._one_stream()) as stream:
                    async for event in stream:
                        patience.renew()
                        yield event
                if self._session_id:
                    return
                failure: VideoProcessError = ConnectionFailed("STREAM_ENDED", "The service ended the events.")
            except aio.AioRpcError as error:
                failure = self._link.error(error)
                if not may_pass(failure) and failure.reason != "SUBSCRIBER_TOO_SLOW":
                    raise failure from error
            await patience.pause(failure)

    async def _one_stream(self) -> AsyncGenerator[Event, None]:
        request = pb.SubscribeRequest(
            user_id=self._link.user_id, session_id=self._session_id, after_sequence=self._after_sequence
        )
        call = self._link.callback.Subscribe(request)
        try:
            async for response in call:
                self._link.answered()
                sequence = response.event.sequence
                if 0 < sequence <= (self._after_sequence or 0):
                    continue
                self._after_sequence = sequence or self._after_sequence
                event = from_message(response.event)
                if event is not None:
                    yield event
        finally:
            call.cancel()

    async def _newest(self) -> int | None:
        """The user's newest number, so that a live subscription can come back without a gap.

        Subscribe itself does not tell it before the first numbered event; its refusal of a number that is too high does.
        """
        request = pb.SubscribeRequest(user_id=self._link.user_id, after_sequence=_BEYOND_ALL)
        call = self._link.callback.Subscribe(request)
        try:
            await call.read()
        except aio.AioRpcError as error:
            failure = self._link.error(error)
            if not isinstance(failure, OutOfRange):
                raise
            return _number(failure.metadata.get("newest_sequence"))
        finally:
            call.cancel()
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
