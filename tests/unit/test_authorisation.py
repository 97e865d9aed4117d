from __future__ import annotations

import pytest

from videoprocess_server.engine.authorisation import Caller, TrustEveryCaller, TrustLocalCallers, authorise
from videoprocess_server.errors import VideoProcessError

LOCAL = [
    "ipv4:127.0.0.1:51234",
    "ipv4:127.8.9.10:1",
    "ipv6:[::1]:51234",
    "ipv6:%5B::1%5D:51234",
    "unix:",
    "unix:/run/videoprocess.sock",
]
REMOTE = [
    "ipv4:192.168.1.2:51234",
    "ipv4:10.127.0.1:1",
    "ipv4:12.7.0.1:1",
    "ipv6:[2001:db8::1]:1",
    "ipv6:%5B2001:db8::1%5D:1",
    "ipv6:[::1:2]:1",
    "ipv6:%5B::12%5D:1",
    "ipv6:[::ffff:192.168.1.2]:1",
    "dns:127.0.0.1:1",
    "127.0.0.1:1",
    "",
]


@pytest.mark.parametrize("peer", LOCAL)
def test_callers_of_this_machine_may_act_for_everybody(peer: str) -> None:
    authorise(TrustLocalCallers(), Caller(peer=peer), 1)


@pytest.mark.parametrize("peer", REMOTE)
def test_callers_from_elsewhere_may_act_for_nobody(peer: str) -> None:
    with pytest.raises(VideoProcessError, match="USER_NOT_ALLOWED"):
        authorise(TrustLocalCallers(), Caller(peer=peer), 1)


@pytest.mark.parametrize("peer", [*LOCAL, *REMOTE])
def test_everybody_may_where_the_operator_said_so(peer: str) -> None:
    authorise(TrustEveryCaller(), Caller(peer=peer), 1)
