"""Where a service is: at one address, or at several, whose replicas gRPC spreads calls over and fails over between."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from videoprocess_client.errors import ConnectionFailed

#: gRPC's notations of what may be several servers: addresses side by side, and a name whose records are looked up again and again
_LISTS, _RECORDS = ("ipv4:", "ipv6:"), "dns:"


@dataclass(frozen=True)
class Address:
    """What a channel is opened to.

    Attributes:
        target: In gRPC's notation.
        is_balanced: Whether calls are spread over the servers there that say they are healthy.
        authority: What TLS and the servers are told as the name of the service; empty where the target tells it.
    """

    target: str
    is_balanced: bool = False
    authority: str = ""


def resolve(text: str) -> Address:
    """The address for `HOST:PORT`, `HOST:PORT,HOST:PORT…` or one in gRPC's notation; hosts in a list are looked up now.

    Raises:
        ConnectionFailed: None of several hosts is known.
    """
    if text.startswith(_RECORDS) or (text.startswith(_LISTS) and "," in text):
        return Address(text, is_balanced=True)
    if "," not in text:
        return Address(text)
    hosts = text.split(",")
    found = [each for host in hosts for each in _look_up(host)]
    if not found:
        raise ConnectionFailed("UNAVAILABLE", f"None of these hosts is known: {text}")
    return Address(_listed(found), is_balanced=True, authority=hosts[0])


def _look_up(text: str) -> list[tuple[str, int]]:
    """IP addresses and port of one `HOST:PORT`; none where nobody knows the host now."""
    host, _, port = text.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except socket.gaierror:
        return []
    return list(dict.fromkeys((str(each[4][0]), int(each[4][1])) for each in found))


def _listed(found: list[tuple[str, int]]) -> str:
    """IP addresses in gRPC's notation, which knows lists of one family only: of two, the older is written as the newer."""
    version_4 = [each for each in found if ipaddress.ip_address(each[0]).version == 4]
    if len(version_4) == len(found):
        return "ipv4:" + ",".join(f"{host}:{port}" for host, port in found)
    mapped = {each: f"::ffff:{each[0]}" for each in version_4}
    return "ipv6:" + ",".join(f"[{mapped.get(each, each[0])}]:{each[1]}" for each in found)
