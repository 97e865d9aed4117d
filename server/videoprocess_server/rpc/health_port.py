"""A port of its own for probes that know neither TLS nor credentials: it answers `grpc.health.v1.Health/Check`, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from videoprocess_server.rpc.hardened_server import hardened_server
from videoprocess_server.rpc.health import Health
from videoprocess_server.rpc.server import OPTIONS

MAX_CALLS = 128
#: probes are few, and each asks once: who stays for longer makes room
_OPTIONS = {
    **dict(OPTIONS),
    "grpc.max_allowed_incoming_connections": 1024,
    "grpc.max_concurrent_streams": 4,
    "grpc.max_connection_idle_ms": 10_000,
    "grpc.max_connection_age_ms": 30_000,
    "grpc.max_connection_age_grace_ms": 5_000,
}


class HealthPortError(Exception):
    """The port for probes cannot be opened; the text is one line that says what to do."""


@asynccontextmanager
async def answering_probes(address: str, health: Health) -> AsyncIterator[None]:
    """Answer checks in plain text and to everybody, from before the service serves until after it has stopped.

    Args:
        address: HOST:PORT; "" for no such port.
        health: what is told: NOT_SERVING until somebody sets it to serving.

    Raises:
        HealthPortError: it cannot listen there.
    """
    await health.set_not_serving()
    if not address:
        yield
        return
    server = hardened_server(
        interceptors=(),
        options=tuple(_OPTIONS.items()),
        max_calls=MAX_CALLS,
    )
    health.add_check_to(server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise HealthPortError(f"cannot listen on {address}: is another program there?") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
