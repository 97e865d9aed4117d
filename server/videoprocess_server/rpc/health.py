"""grpc.health.v1: one status for the service as a whole and for each of its services."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

WHOLE_SERVER = ""  # the name that probes ask for when they ask for none


class Health:
    """Tells probes whether calls are welcome.

    Args:
        service_names: full names of the services that share the status.
    """

    def __init__(self, service_names: Iterable[str]) -> None:
        self._names = (WHOLE_SERVER, *service_names)
        self._servicer = health.aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the health service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_serving(self) -> None:
        """Say that calls are welcome."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def set_not_serving(self) -> None:
        """Say that they are not: the service starts, or stops."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _set(self, status: int) -> None:
        for name in self._names:
            await self._servicer.set(name, status)
