"""grpc.health.v1: one status for the service as a whole and for each of its services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.convert.fields import invalid

WHOLE_SERVER = ""  # the name that probes ask for when they ask for none
#: anybody may ask, and a Watch keeps what it asks for
MAX_NAME_CHARACTERS = 256
#: a probe on the plain port has so long to say what it asks
REQUEST_SECONDS = 2.0
RETRY_SECONDS = 2.0  # until the successor of a service that stops is likely to be there


class Health:
    """Tells probes whether calls are welcome.

    Args:
        service_names: full names of the services that share the status.
    """

    def __init__(self, service_names: Iterable[str]) -> None:
        self._names = (WHOLE_SERVER, *service_names)
        self._servicer = _Servicer(self._names)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the health service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def add_check_to(self, server: grpc.aio.Server) -> None:
        """Register Check alone: what goes on for long, as Watch does, could keep probes out."""
        handler = grpc.stream_unary_rpc_method_handler(
            self._check_soon,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        server.add_registered_method_handlers(health.SERVICE_NAME, {"Check": handler})

    async def _check_soon(
        self,
        requests: AsyncIterator[health_pb2.HealthCheckRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> health_pb2.HealthCheckResponse:
        """Answer the one request of a Check, if it comes: gRPC would wait for it for ever, and keep a place for it."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await anext(requests, None)
        except TimeoutError:
            request = None
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no request came")
        return await self._servicer.Check(request, context)

    async def set_serving(self) -> None:
        """Say that calls are welcome."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def set_not_serving(self) -> None:
        """Say that they are not: the service starts, or stops."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    def end_watches(self) -> None:
        """End what goes on, so that the server can stop."""
        self._servicer.end_watches()

    async def _set(self, status: int) -> None:
        for name in self._names:
            await self._servicer.set(name, status)


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc] # it has no types
    """What gRPC brings along, with List, and with names of a bounded length."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = tuple(names)
        #: of each Watch
        self._patience: set[asyncio.Timeout] = set()
        self._is_ending = False

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ANN401, ARG002 - gRPC's types
        """Tell the status of each name."""
        asked = {name: health_pb2.HealthCheckRequest(service=name) for name in self._names}
        return health_pb2.HealthListResponse(
            statuses={name: await self.Check(request, context) for name, request in asked.items()}
        )

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: ANN401 - gRPC's types
        """Tell the status of a name, now and when it changes."""
        if len(request.service) > MAX_NAME_CHARACTERS:
            raise invalid("service", f"has more than {MAX_NAME_CHARACTERS} characters")
        try:
            async with asyncio.timeout(0 if self._is_ending else None) as patience:
                self._patience.add(patience)
                await super().Watch(request, context)
        except TimeoutError:
            raise VideoProcessError(
                "DRAINING", "the service is stopping", retry_after_seconds=RETRY_SECONDS
            ) from None
        finally:
            self._patience.discard(patience)

    def end_watches(self) -> None:
        """End those that are open, and each that comes."""
        self._is_ending = True
        for patience in self._patience:
            patience.reschedule(asyncio.get_running_loop().time())
