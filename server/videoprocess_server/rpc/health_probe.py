"""The other end of a health check: what `videoprocess-server health` asks."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from videoprocess_server.rpc.health import WHOLE_SERVER

SERVING: str = health_pb2.HealthCheckResponse.ServingStatus.Name(health_pb2.HealthCheckResponse.SERVING)


def check(
    target: str, timeout_seconds: float, *, root_certificates: bytes | None = None, server_name: str = ""
) -> str:
    """Ask a service once how it is.

    Args:
        target: HOST:PORT or unix:PATH.
        timeout_seconds: it has so long to answer.
        root_certificates: PEM of the authorities that sign its certificate; None for plain text.
        server_name: the name its certificate must have; "" for the target's.

    Returns:
        SERVING, NOT_SERVING, or why there is no answer.
    """
    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    with _channel(target, root_certificates, options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=WHOLE_SERVER), timeout=timeout_seconds
            )
        except grpc.RpcError as error:
            return f"no answer from {target}: {error.code().name}"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name


def _channel(
    target: str, root_certificates: bytes | None, options: list[tuple[str, int | str]]
) -> grpc.Channel:
    if root_certificates is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(root_certificates), options)
