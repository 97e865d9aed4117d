"""What a scrape of a running service tells, held against the table that docs/metrics.md is made of."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import grpc
import psutil
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, SERVER, USER, Api, Server, connect
from videoprocess.v1 import video_process_callback_pb2 as callback
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.errors import CATALOGUE
from videoprocess_server.telemetry.metric_table import METRICS, PREFIX, Kind

FRAMES, GOP = 120, 12
#: labels that a metric's samples have beyond the table's, by kind
_LABELS_OF_KIND = {Kind.HISTOGRAM: {"le"}}

Samples = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]


@pytest.fixture(name="media_root", scope="module")
def _media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    make_clip(root / "clip.mp4", frames=FRAMES, gop=GOP, width=320, height=240)
    return root


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, media_root: Path) -> Iterator[Server]:
    flags = ("--workers", "1", "--metrics-listen", "0", "--segment-seconds", "0.4", "--shared-root")
    data_dir = tmp_path_factory.mktemp("service") / "data"
    with Server(data_dir, *flags, f"media={media_root}") as server:
        yield server


def address_of(server: Server) -> str:
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines() if line.startswith("{")]
    return str(next(line["address"] for line in lines if line["event"] == "metrics_serving"))


def families(server: Server) -> list[Metric]:
    with urllib.request.urlopen(f"http://{address_of(server)}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def scrape(server: Server) -> Samples:
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in families(server):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get(PREFIX + name, {}).get(frozenset(labels.items()), 0.0)


async def ready(api: Api, video_id: str) -> str:
    session_id = await api.open_session()
    await api.prepare_path(session_id, video_id, "clip.mp4")
    await api.commit_video(session_id)
    return session_id


async def until(server: Server, name: str, expected: float | None = None, **labels: str) -> Samples:
    """Scrapes until a value is there, or until it is what is expected."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        samples = await asyncio.to_thread(scrape, server)
        found = value(samples, name, **labels)
        if found if expected is None else found == expected:
            return samples
        await asyncio.sleep(0.02)
    raise AssertionError(f"{name} {labels} never was {'anything but 0' if expected is None else expected}")


async def test_a_jobs_life_is_told_while_it_runs_and_after(server: Server, api: Api) -> None:
    before = await asyncio.to_thread(scrape, server)
    assert value(before, "can_accept_job") == value(before, "store_up") == 1
    session_id = await ready(api, "told")
    accepted = await api.process(session_id, "told")
    await until(server, "segments_finished_total", stage="enhance")
    running = await until(server, "workers", 1, slot="general", state="running")  # none is between two leases
    assert value(running, "jobs", state="running") == 1
    await api.session.Interrupt(session.InterruptRequest(session_id=session_id))
    parked = await until(server, "parked_jobs")
    assert value(parked, "workers", slot="general", state="frozen") == 1
    assert value(parked, "parked_bytes") > 1 << 20
    await api.terminal(accepted)
    done = await api.terminal(await api.process(session_id, "told"))
    report = done.on_process_done.report
    data = await api.download(report.artifacts[0].artifact_id)
    after = await asyncio.to_thread(scrape, server)
    # every segment was made once, whatever the Interrupt fell into
    assert value(after, "segments_finished_total", stage="enhance") == report.segment_count == FRAMES // GOP
    assert value(after, "segment_frames_total", stage="enhance") == FRAMES
    assert value(after, "segments_redone_total", stage="enhance") == 0
    assert value(after, "parkings_total") == value(after, "parkings_resumed_total") == 1
    assert value(after, "parkings_given_up_total") == 0
    assert value(after, "sent_bytes_total") - value(before, "sent_bytes_total") == len(data)
    assert value(after, "jobs_ended_total", state="completed", reason="") == 1
    assert value(after, "jobs_ended_total", state="aborted", reason="INTERRUPTED") == 1
    assert value(after, "job_running_seconds_count") == 2
    spent = value(after, "stage_cpu_seconds_total", stage="enhance")
    assert 0 < spent <= value(after, "worker_cpu_seconds_total", slot="general")
    calls = {
        "method": "videoprocess.v1.VideoProcessSessionService/ProcessVideo",
        "code": "OK",
        "reason": "",
    }
    assert value(after, "rpc_calls_total", **calls) == 2
    assert value(after, "jobs", state="running") == value(after, "parked_jobs") == 0


@pytest.mark.slow
async def test_checkpoints_that_outlive_a_kill_are_told_as_reused(tmp_path: Path, media_root: Path) -> None:
    flags = ("--workers", "1", "--metrics-listen", "0", "--segment-seconds", "0.4", "--shared-root")
    server = Server(tmp_path / "data", *flags, f"media={media_root}")
    with server:
        async with connect(server) as api:
            accepted = await api.process(await ready(api, "killed"), "killed")
            killed = await until(server, "segments_finished_total", stage="enhance")
        server.kill()
        server.log_path.unlink()  # it tells the address of the first life
        server.start()
        async with connect(server) as api:
            event = await api.terminal(accepted)
        after = await asyncio.to_thread(scrape, server)
    report = event.on_process_done.report
    reused = value(after, "segments_reused_total", stage="enhance")
    assert reused == report.reused_segment_count >= value(killed, "segments_finished_total", stage="enhance")
    assert value(after, "segments_finished_total", stage="enhance") == report.segment_count - reused


async def test_a_refusal_is_told_by_its_reason(server: Server, api: Api) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await api.prepare_path("no such session", "x", "clip.mp4")
    labels = {"method": "videoprocess.v1.VideoProcessSessionService/Prepare", "code": "FAILED_PRECONDITION"}
    after = await asyncio.to_thread(scrape, server)
    told = {dict(labels)["reason"]: count for labels, count in after["videoprocess_rpc_calls_total"].items()}
    assert told["SESSION_CLOSED"] >= 1
    assert value(after, "rpc_calls_total", **labels, reason="SESSION_CLOSED") >= 1


async def test_a_scrape_has_the_names_and_labels_of_the_table_and_no_others(server: Server, api: Api) -> None:
    await api.terminal(await api.process(await ready(api, "named"), "named"))
    told = await asyncio.to_thread(families, server)
    ours = {family.name: family for family in told if family.name.startswith(PREFIX)}
    # the parser tells counters without their ending
    names = {
        row.full_name.removesuffix("_total") if row.kind is Kind.COUNTER else row.full_name: row
        for row in METRICS
    }
    assert names.keys() == ours.keys()
    for name, row in names.items():
        assert row.kind.value == ours[name].type
        for sample in ours[name].samples:
            extra = _LABELS_OF_KIND.get(row.kind, set()) if sample.name.endswith("_bucket") else set()
            assert set(row.labels) | extra == set(sample.labels), sample.name
            assert sample.labels.get("reason", "") in {"", *CATALOGUE}
            assert not {"named", "told", "clip.mp4", "100"} & set(sample.labels.values())


async def test_open_calls_are_counted_until_they_end(server: Server, api: Api) -> None:
    method = {"method": "videoprocess.v1.VideoProcessCallbackService/Subscribe"}
    before = await until(server, "rpc_in_flight", 0, **method)  # whoever waited in other tests has gone
    call = api.callback.Subscribe(callback.SubscribeRequest(user_id=USER))
    await call.read()
    open_now = await asyncio.to_thread(scrape, server)
    assert value(open_now, "rpc_in_flight", **method) == value(open_now, "subscriptions") == 1
    call.cancel()
    ended = await until(server, "rpc_in_flight", 0, **method)
    for samples in (before, ended):
        assert value(samples, "rpc_seconds_count", **method) == sum(
            count
            for labels, count in samples.get("videoprocess_rpc_calls_total", {}).items()
            if labels >= set(method.items())
        )
    assert value(ended, "rpc_seconds_count", **method) == value(before, "rpc_seconds_count", **method) + 1


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"\x16\x03\x01\x02\r\n\r\n", b"HTTP/1.1 404 "),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000, b""),
    ],
)
async def test_other_requests_are_answered_or_hung_up_on(
    server: Server, request_text: bytes, status: bytes
) -> None:
    host, _, port = address_of(server).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_text)
    try:
        answer = await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        answer = b""
    finally:
        writer.close()
    assert answer.startswith(status)
    assert bool(answer) == bool(status)


async def test_more_connections_than_it_takes_are_hung_up_on(server: Server) -> None:
    host, _, port = address_of(server).rpartition(":")
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(16)]
    await asyncio.sleep(0.1)
    reader, writer = await asyncio.open_connection(host, int(port))
    with suppress(ConnectionResetError):
        assert b"" == await asyncio.wait_for(reader.read(), 10)
    for _, other in [*streams, (reader, writer)]:
        other.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:  # it may not have noticed yet that they are gone
        try:
            assert value(await asyncio.to_thread(scrape, server), "store_up") == 1
            break
        except OSError:
            assert time.monotonic() < deadline, "it still hangs up"
            await asyncio.sleep(0.02)


@pytest.mark.slow
def test_without_the_flag_nobody_listens(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--workers", "1") as server:
        listening = [
            f"{one.laddr.ip.removeprefix('::ffff:')}:{one.laddr.port}"
            for one in psutil.Process(server.pid).net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        ]
        assert [server.address] == listening


@pytest.mark.slow
def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--data-dir", str(tmp_path / "data"), "--workers", "1", "--metrics-listen", port)
        command = [*SERVER, "serve", "--listen", "127.0.0.1:0", "--log-level", "error", *flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert 3 == ended.returncode
    (line,) = ended.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "--metrics-listen" in line
