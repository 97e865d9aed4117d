"""Ends a peer's connection from below: gRPC cannot end a call whose last message nobody takes.

Its status would wait behind the message, and pings are answered all the while. So the socket is shut down, and gRPC
ends all its calls in its usual ways. A client that is well connects again and goes on where it was.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_OPEN_FILES = Path("/proc/self/fd")


async def hang_up(peer: str) -> bool:
    """Shut down the connection of gRPC's `peer`; return whether there was one that can be told from others."""
    found = await asyncio.to_thread(_shut_down, peer)
    log.warning("connection_ended", peer=peer, found=found)
    return found


def _shut_down(peer: str) -> bool:
    wanted = _endpoint(peer)
    if wanted is None:
        return False  # all callers on a Unix socket have the same name
    for entry in _OPEN_FILES.iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as connection:
            # of the copy, which no other thread can close and give to somebody else
            if connection.family in (socket.AF_INET, socket.AF_INET6) and (
                _normal(*connection.getpeername()[:2]) == wanted
            ):
                connection.shutdown(socket.SHUT_RDWR)
                return True
    return False


def _endpoint(peer: str) -> tuple[str, int] | None:
    kind, _, rest = peer.partition(":")
    host, _, port = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    try:
        return _normal(host.strip("[]").replace("%25", "%"), int(port))
    except ValueError:
        return None


def _normal(host: str, port: int) -> tuple[str, int]:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), port
