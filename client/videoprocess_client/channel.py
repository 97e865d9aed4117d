"""How this library connects: one channel with the contract's service config, keepalive and bounded messages."""

from __future__ import annotations

import json
import os
from importlib.resources import files

import grpc
from grpc import aio

from videoprocess_client.addresses import Address, resolve
from videoprocess_client.credentials import Tls, is_local, split_target

TARGET_VARIABLE = "VIDEOPROCESS_TARGET"
DEFAULT_TARGET = "127.0.0.1:50051"

# A page of 10,000 ids of 256 bytes is 2.6 MB, a message of a Download 3 MiB, a page of 500 videos may be more.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# A subscription may be silent for hours; this finds a connection that died without a word. The server must allow it
# (grpc.http2.min_ping_interval_without_data_ms); one that does not makes gRPC double the interval by itself.
KEEPALIVE_MS = 30_000
# Where another replica can go on: as often as servers allow.
BALANCED_KEEPALIVE_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 10_000
# Back soon after a restart of the server, however long it was away.
RECONNECT_MIN_MS = 200
RECONNECT_MAX_MS = 2_000


def default_target() -> str:
    """Address of the service: the environment's VIDEOPROCESS_TARGET, else 127.0.0.1:50051."""
    return os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET


def open_channel(target: str, credentials: grpc.ChannelCredentials | Tls | None = None) -> aio.Channel:
    """Open a channel to the service at `target`; it connects when it is first used.

    Args:
        target: Address in gRPC's notation, e.g. `host:port` or `unix:path`, or several, `host:port,host:port`;
            `grpcs://host:port` asks for TLS.
        credentials: For TLS. None: plain text, unless the address asks for TLS.

    Raises:
        OSError: A file of the credentials cannot be read.
        ValueError: The credentials do not fit together.
        ConnectionFailed: None of several hosts is known.
    """
    text, asks_for_tls = split_target(target)
    address = resolve(text)
    options = _options(address)
    if is_local(target):
        # A proxy that the environment names is no way to this machine, and would see what is sent in plain text.
        options.append(("grpc.enable_http_proxy", 0))
    if credentials is None and asks_for_tls:
        credentials = Tls()
    if credentials is None:
        return aio.insecure_channel(address.target, options=options)
    if isinstance(credentials, Tls):
        credentials = credentials.channel_credentials()
    return aio.secure_channel(address.target, credentials, options=options)


def _options(address: Address) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", _service_config(address)),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", BALANCED_KEEPALIVE_MS if address.is_balanced else KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MIN_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
    ]
    if address.authority:
        options.append(("grpc.default_authority", address.authority))
    return options


def _service_config(address: Address) -> str:
    """The contract's, and how calls are spread: gRPC asks each replica whether it is healthy, by `grpc.health.v1`."""
    text = files("videoprocess.v1").joinpath("service_config.json").read_text("utf-8")
    if not address.is_balanced:
        return text
    balancing = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
    return json.dumps(json.loads(text) | balancing)
