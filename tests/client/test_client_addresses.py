"""Several addresses in gRPC's notation."""

from __future__ import annotations

import pytest

from videoprocess_client import ConnectionFailed
from videoprocess_client.addresses import Address, resolve


@pytest.mark.parametrize("text", ["localhost:50051", "[::1]:50051", "unix:/run/a", "ipv4:127.0.0.1:1"])
def test_one_address_is_left_to_grpc(text: str) -> None:
    assert resolve(text) == Address(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("127.0.0.1:1,127.0.0.2:2", "ipv4:127.0.0.1:1,127.0.0.2:2"),
        ("127.0.0.1:1,[::1]:2", "ipv6:[::ffff:127.0.0.1]:1,[::1]:2"),
        ("[::1]:1,[::1]:2", "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_hosts_in_a_list_are_looked_up_and_spread_over(text: str, target: str) -> None:
    assert resolve(text) == Address(target, is_balanced=True, authority=text.split(",", maxsplit=1)[0])


@pytest.mark.parametrize("text", ["dns:///replicas.example:50051", "ipv4:127.0.0.1:1,127.0.0.1:2"])
def test_grpcs_own_notations_of_several_are_spread_over_too(text: str) -> None:
    assert resolve(text) == Address(text, is_balanced=True)


def test_a_host_that_nobody_knows_is_left_out() -> None:
    assert resolve("no-such-host.invalid:1,127.0.0.1:2").target == "ipv4:127.0.0.1:2"
    with pytest.raises(ConnectionFailed, match="None of these hosts is known"):
        resolve("no-such-host.invalid:1,neither.invalid:2")
