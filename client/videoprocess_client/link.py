"""The way to one service for one user: its stubs and how patiently they are called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from grpc import aio

from videoprocess.v1 import (
    file_transfer_pb2_grpc,
    video_catalog_pb2_grpc,
    video_process_callback_pb2_grpc,
    video_process_service_pb2_grpc,
    video_process_session_pb2_grpc,
)
from videoprocess_client.credentials import Bearer, BearerChannel
from videoprocess_client.errors import Busy, ConnectionFailed, VideoProcessError, from_rpc_error
from videoprocess_client.retry import Patience, RetryPolicy
from videoprocess_client.signed_urls import SignedUrls

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


#: refusals after which another token may help
TOKEN_REFUSED = frozenset({"BAD_CREDENTIALS", "CREDENTIALS_EXPIRED"})


class Link:
    """Stubs, user and retry policy, shared by everything a `Client` makes."""

    def __init__(
        self,
        channel: aio.Channel,
        user_id: int,
        policy: RetryPolicy,
        on_retry: Callable[[VideoProcessError], None] | None = None,
        bearer: Bearer | None = None,
        signed_urls: SignedUrls | None = None,
        on_detour: Callable[[str], None] | None = None,
    ) -> None:
        self.user_id = user_id
        #: None where bytes are not to go past the service
        self.signed_urls = signed_urls
        self._on_detour = on_detour
        #: what calls carry, for what goes another way than by gRPC; None where they carry none
        self.bearer_token: Callable[[], str | None] = lambda: None if bearer is None else bearer.current()
        self._bearer = bearer
        self._policy = policy
        self._on_retry = on_retry
        self._reached = False
        if bearer is not None:
            channel = cast("aio.Channel", BearerChannel(channel, bearer))
        self.service = video_process_service_pb2_grpc.VideoProcessServiceStub(channel)
        self.session = video_process_session_pb2_grpc.VideoProcessSessionServiceStub(channel)
        self.callback = video_process_callback_pb2_grpc.VideoProcessCallbackServiceStub(channel)
        self.files = file_transfer_pb2_grpc.FileTransferServiceStub(channel)
        self.catalog = video_catalog_pb2_grpc.VideoCatalogServiceStub(channel)

    def take_detour(self, reason: str) -> None:
        """Note that bytes which were to go past the service go through it."""
        if self._on_detour is not None:
            self._on_detour(reason)

    def patience(self) -> Patience:
        """A fresh patience for one operation, short until the service has answered once."""
        return Patience(self._policy, first_contact=not self._reached, on_retry=self._on_retry)

    def answered(self) -> None:
        """Note that the service is there."""
        self._reached = True
        if self._bearer is not None:
            self._bearer.accepted()

    def error(self, error: aio.AioRpcError) -> VideoProcessError:
        """The typed exception for a status; an answer of the service counts as contact."""
        typed = from_rpc_error(error)
        if isinstance(typed, ConnectionFailed):
            return typed
        self._reached = True
        return self.refused(typed)

    def refused(self, error: VideoProcessError) -> VideoProcessError:
        """The exception for a refusal: one that may pass, where another token may help."""
        if error.reason in TOKEN_REFUSED and self._bearer is not None and self._bearer.may_be_renewed():
            return Busy(error.reason, error.message, cam_ret_code=error.cam_ret_code)
        return error

    async def call(
        self,
        method: aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        before_retry: Callable[[VideoProcessError], Awaitable[object]] | None = None,
    ) -> _Response:
        """Make a call that may be repeated, until it is answered or the patience is used up.

        Args:
            method: The stub's method.
            request: Its request; sent unchanged each time.
            before_retry: Awaited after the pause, with the error, before the call is made again.
        """
        patience = self.patience()
        while True:
            try:
                response = await method(request)
            except aio.AioRpcError as error:
                failure = self.error(error)
                await patience.pause_or_raise(failure)
                if before_retry is not None:
                    await before_retry(failure)
            else:
                self.answered()
                return response
