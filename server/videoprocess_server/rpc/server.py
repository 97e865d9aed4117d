"""The gRPC server: all services, health and reflection, with limits."""

from __future__ import annotations

import time
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from videoprocess.v1 import (
    file_transfer_pb2,
    file_transfer_pb2_grpc,
    video_catalog_pb2,
    video_catalog_pb2_grpc,
    video_process_callback_pb2,
    video_process_callback_pb2_grpc,
    video_process_service_pb2,
    video_process_service_pb2_grpc,
    video_process_session_pb2,
    video_process_session_pb2_grpc,
)
from videoprocess_server.rpc.admission import Admission
from videoprocess_server.rpc.auth.guard import Guard
from videoprocess_server.rpc.call_limits import MAX_HEADER_BYTES
from videoprocess_server.rpc.catalog import Catalog
from videoprocess_server.rpc.convert.capability_limits import MAX_MESSAGE_BYTES
from videoprocess_server.rpc.file_transfer import FileTransferService
from videoprocess_server.rpc.hardened_server import hardened_server
from videoprocess_server.rpc.health import Health
from videoprocess_server.rpc.interceptor import StatusInterceptor
from videoprocess_server.rpc.services import Services
from videoprocess_server.rpc.session_owners import SessionOwners
from videoprocess_server.rpc.subscriptions import Subscriptions
from videoprocess_server.rpc.video_catalog import VideoCatalogService
from videoprocess_server.rpc.video_process_callback import VideoProcessCallbackService
from videoprocess_server.rpc.video_process_service import VideoProcessService
from videoprocess_server.rpc.video_process_session import VideoProcessSessionService

_FILES = (
    video_process_service_pb2,
    video_process_session_pb2,
    video_process_callback_pb2,
    file_transfer_pb2,
    video_catalog_pb2,
)
#: full names of our services
SERVICE_NAMES = tuple(
    service.full_name for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()
)

#: gRPC's own limit of calls lies above ours, which tells why
SPARE_CALLS = 1024
#: more than the subscriptions that a user may have; what a connection has beyond waits in the client
MAX_STREAMS_PER_CONNECTION = 512
#: calls of one method that have come and nobody has looked at: from the first number on gRPC drops some, from the second all
MAX_WAITING_CALLS = (4096, 8192)

#: what may be on its way of an upload beside the message that is being stored
UPLOAD_WINDOW_BYTES = 1 << 20

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # no window that grows with the line: what of an upload is on its way, and lost by a cut, stays within a message or two
    ("grpc.http2.bdp_probe", 0),
    # of a window of 64 KiB each message would wait for sixteen round trips: uploads took a quarter longer on one machine
    ("grpc.http2.lookahead_bytes", UPLOAD_WINDOW_BYTES),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a port shared by two services
    ("grpc.keepalive_time_ms", 60_000),  # a Subscribe whose client vanished ends
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # as many as it takes
    (
        "grpc.http2.min_ping_interval_without_data_ms",
        10_000,
    ),  # what clients may do; `min_recv_ping…` is ignored
    ("grpc.http2.max_ping_strikes", 2),  # a third ping too early is answered with GOAWAY
    ("grpc.server_handshake_timeout_ms", 20_000),  # TLS, and the first frames of HTTP/2
    # of gRPC's settings the limits of streams and headers; before a client says that it knows them, they do not hold
    ("grpc.http2.settings_timeout", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),  # without a call; clients connect again by themselves
    ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
    ("grpc.server.max_pending_requests", MAX_WAITING_CALLS[0]),
    ("grpc.server.max_pending_requests_hard_limit", MAX_WAITING_CALLS[1]),
    ("grpc.max_metadata_size", MAX_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
)


async def build_server(services: Services, health_status: Health, guard: Guard) -> grpc.aio.Server:
    """Return the server with all services, NOT_SERVING, without a port and not started.

    Args:
        services: the engine's objects.
        health_status: what `grpc.health.v1` tells; the caller sets it to serving.
        guard: lets calls in.
    """
    limits = services.call_limits
    owners = SessionOwners(services.repository, services.pools.calls)
    admission = Admission(limits, services.policy, owners.find, time.monotonic)
    server = hardened_server(
        interceptors=(StatusInterceptor(guard, admission, services.recorder, services.spans),),
        options=(*OPTIONS, ("grpc.max_allowed_incoming_connections", limits.max_connections)),
        max_calls=limits.max_calls + SPARE_CALLS,
    )
    _add_services(server, services)
    await health_status.set_not_serving()
    health_status.add_to(server)
    names = (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server


def _add_services(server: grpc.aio.Server, services: Services) -> None:
    subscriptions = Subscriptions(services.repository, services.hub, services.policy)
    catalog = Catalog(services.videos, services.work, services.repository)
    video_process_service_pb2_grpc.add_VideoProcessServiceServicer_to_server(
        VideoProcessService(services, subscriptions), server
    )
    video_process_session_pb2_grpc.add_VideoProcessSessionServiceServicer_to_server(
        VideoProcessSessionService(services, catalog), server
    )
    video_process_callback_pb2_grpc.add_VideoProcessCallbackServiceServicer_to_server(
        VideoProcessCallbackService(services, subscriptions), server
    )
    file_transfer_pb2_grpc.add_FileTransferServiceServicer_to_server(FileTransferService(services), server)
    video_catalog_pb2_grpc.add_VideoCatalogServiceServicer_to_server(
        VideoCatalogService(services, catalog), server
    )
