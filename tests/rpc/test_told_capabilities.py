"""What GetCapabilities of a running service tells is what it was started with."""

from __future__ import annotations

from pathlib import Path

import pytest

from service_harness import USER, Server, connect
from videoprocess.v1 import capabilities_pb2 as pb
from videoprocess.v1 import video_process_service_pb2 as service
from videoprocess_server.execution.sandbox import OPTIONAL_LAYERS


@pytest.mark.slow
async def test_what_the_operator_set_and_the_machine_has_is_told(tmp_path: Path) -> None:
    flags = {
        "--workers": "1",
        "--segment-seconds": "2.5",
        "--longest-gop-seconds": "5",
        "--parked-seconds": "7",
        "--max-blocked-seconds": "60",
        "--max-calls-per-second-per-user": "12.5",
        "--max-connections": "33",
        "--transfer-stall-seconds": "9",
    }
    with Server(tmp_path / "data", *(word for flag in flags.items() for word in flag)) as server:
        async with connect(server) as api:
            told = await api.service.GetCapabilities(service.GetCapabilitiesRequest(user_id=USER))
    kept = told.checkpointing
    assert (2, 500_000_000) == (kept.segment_duration.seconds, kept.segment_duration.nanos)
    assert (5, 7) == (kept.longest_gop_duration.seconds, kept.parked_duration.seconds)
    assert 60 == told.limits.max_blocked_duration.seconds
    calls = told.call_limits
    assert (33, 12.5, 9) == (
        calls.max_connections,
        calls.calls_per_second_per_user,
        calls.upload_stall_timeout.seconds,
    )
    assert [pb.AUTH_MODE_LOCAL_CALLERS] == list(told.access.modes)
    assert not told.access.tls
    assert {"limits", "privileges"} <= set(told.isolation.layers)
    there = {layer.partition(" ")[0] for layer in told.isolation.layers}
    assert set(OPTIONAL_LAYERS) - there == set(told.isolation.missing_layers)
    absent = {feature.name for feature in told.absent_features}
    assert set(told.isolation.missing_layers) <= absent
    assert absent.isdisjoint(encoder.name for encoder in told.encoders)
    assert absent.isdisjoint(told.filters)
