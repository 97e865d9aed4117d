"""Token buckets by an injected clock, and who counts as one peer."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.engine.authorisation import Caller, TrustLocalCallers
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.admission import Admission, peer_key
from videoprocess_server.rpc.call_limits import (
    DOWNLOAD,
    HEALTH_CHECK,
    HEALTH_WATCH,
    UPLOAD,
    CallLimits,
    limits_within,
)
from videoprocess_server.rpc.rate_limits import Rate, RateLimit

LOCAL = Caller(peer="ipv4:127.0.0.1:1")
REMOTE = Caller(peer="ipv4:192.0.2.1:1")
GET_VIDEO = "/videoprocess.v1.VideoCatalogService/GetVideo"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


def test_a_burst_then_the_steady_rate(clock: Clock) -> None:
    limit = RateLimit(Rate(10.0, 5), clock)
    assert [limit.take("a") for _ in range(5)] == [0.0] * 5
    assert limit.take("a") == pytest.approx(0.1)
    assert limit.take("b") == 0.0, "another has a bucket of their own"
    clock.now += 0.1
    assert limit.take("a") == 0.0
    assert limit.take("a") > 0


@given(st.lists(st.floats(0, 5), max_size=200), st.floats(0.5, 50), st.integers(1, 20))
def test_never_more_than_burst_and_rate_together(pauses: list[float], per_second: float, burst: int) -> None:
    clock = Clock()
    limit = RateLimit(Rate(per_second, burst), clock)
    taken = 0
    for pause in pauses:
        clock.now += pause
        wait = limit.take("a")
        taken += wait == 0
        if wait:
            clock.now += wait + 1e-6
            assert limit.take("a") == 0.0, "after the delay that was named there is a token"
            taken += 1
    assert taken <= burst + (clock.now - 1000) * per_second + 1e-3


def test_no_rate_is_no_limit_and_keeps_nothing(clock: Clock) -> None:
    limit = RateLimit(Rate(0.0, 1), clock)
    assert all(limit.take(key) == 0.0 for key in [*range(1000)] * 3)
    assert len(limit) == 0


def test_the_table_is_bounded_and_forgets_who_called_longest_ago(clock: Clock) -> None:
    limit = RateLimit(Rate(0.001, 1), clock, max_keys=100)
    for key in range(10_000):
        limit.take(key)
    assert len(limit) == 100
    assert limit.take(9_999) > 0, "the newest is remembered"
    assert limit.take(0) == 0.0, "the oldest is not"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ipv4:192.0.2.1:5000", "ipv4:192.0.2.1:6000", True),
        ("ipv4:192.0.2.1:5000", "ipv4:192.0.2.2:5000", False),
        ("ipv6:%5B2001:db8::1%5D:1", "ipv6:[2001:db8::ffff]:2", True),
        ("ipv6:[2001:db8::1]:1", "ipv6:[2001:db8:0:1::1]:1", False),
        ("ipv6:[::ffff:192.0.2.1]:1", "ipv4:192.0.2.1:9", True),
        ("ipv6:[fe80::1%25eth0]:1", "ipv6:[fe80::2%25eth0]:1", True),
        ("unix:", "unix:/run/a.sock", True),
        ("unix:", "ipv4:127.0.0.1:1", False),
        ("ipv4:nonsense", "ipv4:other", True),
    ],
)
def test_a_peer_is_an_address_whatever_its_port(one: str, other: str, same: bool) -> None:
    assert (peer_key(one) == peer_key(other)) is same


@pytest.fixture(name="admission")
def _admission(clock: Clock) -> Admission:
    async def find_owner(session_id: str) -> int | None:
        return {"mine": 7}.get(session_id)

    limits = CallLimits(
        max_calls=3,
        max_calls_of_method={HEALTH_WATCH: 2},
        max_calls_of_user={UPLOAD: 1},
        peer_rate=Rate(1.0, 10),
        user_rate=Rate(1.0, 2),
    )
    return Admission(limits, TrustLocalCallers(), find_owner, clock)


def _refused(error: VideoProcessError) -> tuple[str, bool]:
    return error.reason, bool(error.retry_after_seconds)


def test_calls_at_once_are_counted_and_given_back(admission: Admission) -> None:
    for _ in range(3):
        with ExitStack() as stack:
            for method in (GET_VIDEO, HEALTH_WATCH, HEALTH_WATCH):
                stack.enter_context(admission.entered(method, LOCAL.peer))
            for method in (GET_VIDEO, HEALTH_WATCH):
                with pytest.raises(VideoProcessError) as caught, admission.entered(method, LOCAL.peer):
                    pass
                assert _refused(caught.value) == ("CALL_LIMIT", True)
            with admission.entered(HEALTH_CHECK, LOCAL.peer):
                pass  # a probe is always answered
    assert not admission._running


def test_a_peer_is_limited_before_anything_is_read(admission: Admission) -> None:
    for _ in range(10):
        with admission.entered(GET_VIDEO, REMOTE.peer):
            pass
    with pytest.raises(VideoProcessError) as caught, admission.entered(GET_VIDEO, REMOTE.peer):
        pass
    assert _refused(caught.value) == ("RATE_LIMITED", True)
    with admission.entered(GET_VIDEO, LOCAL.peer):
        pass
    assert not admission._running


NAMES_USER_7 = {
    "by its id": (GET_VIDEO, catalog.GetVideoRequest(user_id=7)),
    "by a session": ("/x/Reset", session.ResetRequest(session_id="mine")),
    "in a header": (DOWNLOAD, transfer.UploadRequest(header=transfer.UploadHeader(user_id=7))),
}


@pytest.mark.parametrize(("method", "request_"), NAMES_USER_7.values(), ids=list(NAMES_USER_7))
async def test_a_user_is_limited_however_named(
    admission: Admission, clock: Clock, method: str, request_: object
) -> None:
    with admission.entered(method, LOCAL.peer) as entry:
        for _ in range(2):
            await admission.admit(entry, method, LOCAL, request_)
        for other, message in NAMES_USER_7.values():
            with pytest.raises(VideoProcessError) as caught:
                await admission.admit(entry, other, LOCAL, message)
            assert _refused(caught.value) == ("RATE_LIMITED", True)
        await admission.admit(entry, method, LOCAL, catalog.GetVideoRequest(user_id=8))
        clock.now += 1
        await admission.admit(entry, method, LOCAL, request_)


async def test_who_may_not_act_for_a_user_uses_up_nothing_of_theirs(admission: Admission) -> None:
    request = catalog.GetVideoRequest(user_id=7)
    with admission.entered(GET_VIDEO, LOCAL.peer) as entry:
        for _ in range(100):
            await admission.admit(entry, GET_VIDEO, REMOTE, request)
        await admission.admit(entry, GET_VIDEO, LOCAL, request)


async def test_one_user_leaves_room_for_others(admission: Admission) -> None:
    def header(user_id: int) -> transfer.UploadRequest:
        return transfer.UploadRequest(header=transfer.UploadHeader(user_id=user_id))

    with admission.entered(UPLOAD, LOCAL.peer) as first, admission.entered(UPLOAD, LOCAL.peer) as second:
        await admission.admit(first, UPLOAD, LOCAL, header(7))
        with pytest.raises(VideoProcessError, match="CALL_LIMIT"):
            await admission.admit(second, UPLOAD, LOCAL, header(7))
        await admission.admit(second, UPLOAD, LOCAL, header(8))
    assert not admission._running


@pytest.mark.parametrize("open_files", [64, 1024, 20_000, 65_536])
def test_connections_and_transfers_fit_into_the_open_files(open_files: int) -> None:
    limits = limits_within(open_files, 64 << 30)
    transfers = limits.max_calls_of_method[UPLOAD] + limits.max_calls_of_method[DOWNLOAD]
    assert limits.max_connections + transfers < open_files
    assert limits_within(open_files, 64 << 30, max_connections=10).max_connections == 10


@pytest.mark.parametrize("memory_bytes", [256 << 20, 2 << 30, 16 << 30])
def test_messages_that_are_half_there_fit_into_the_memory(memory_bytes: int) -> None:
    limits = limits_within(20_000, memory_bytes)
    assert limits.max_calls_of_method[UPLOAD] * (4 << 20) <= memory_bytes // 4
    assert limits.max_calls_of_method[UPLOAD] >= 16
    assert limits_within(20_000, 1).max_calls_of_method[UPLOAD] == 1
