"""Traces, as a collector gets them: from a caller's span through call, job, stages and tasks to segments in worker processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from media_factory import make_clip
from service_harness import Api, Server, connect
from videoprocess.v1 import video_process_session_pb2 as session

collected = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
collecting = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")

CALLER_TRACE, CALLER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROCESS = "videoprocess.v1.VideoProcessSessionService/ProcessVideo"
STAGES = {"analyze", "plan", "enhance", "join", "verify", "publish"}
SEGMENTS = 4
#: of clocks that are one clock, read in two processes and rounded to microseconds in rows
SLACK_NS = 5_000_000


class Collector(collecting.TraceServiceServicer):  # type: ignore[misc, name-defined]
    """A collector that keeps what it gets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Any] = []
        self.resources: list[dict[str, str]] = []

    def Export(self, request: Any, context: Any) -> Any:
        with self._lock:
            for of_resource in request.resource_spans:
                attributes = of_resource.resource.attributes
                self.resources.append({one.key: one.value.string_value for one in attributes})
                for of_scope in of_resource.scope_spans:
                    self._spans += of_scope.spans
        return collected.ExportTraceServiceResponse()

    def of_trace(self, trace_id: str) -> Mapping[str, Any]:
        """The spans of a trace, by their ids."""
        with self._lock:
            return {one.span_id.hex(): one for one in self._spans if one.trace_id.hex() == trace_id}

    @property
    def traces(self) -> set[str]:
        with self._lock:
            return {one.trace_id.hex() for one in self._spans}


@contextmanager
def collector() -> Iterator[tuple[Collector, str]]:
    server, kept = grpc.server(ThreadPoolExecutor(2)), Collector()
    collecting.add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield kept, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def named(spans: Mapping[str, Any], name: str) -> list[Any]:
    return [one for one in spans.values() if one.name == name]


def attributes(span: Any) -> Mapping[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def parents(spans: Mapping[str, Any], found: Sequence[Any]) -> set[str]:
    return {spans[one.parent_span_id.hex()].name for one in found}


async def process(api: Api, session_id: str, video_id: str, traceparent: str) -> Any:
    request = session.ProcessVideoRequest(session_id=session_id, video_id=video_id)
    return await api.session.ProcessVideo(request, metadata=(("traceparent", traceparent),))


@pytest.mark.slow
async def test_a_trace_leads_from_the_caller_to_each_segment_in_its_worker(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    make_clip(media / "clip.mp4", frames=12 * SEGMENTS, gop=12)
    unsampled = "1" * 32
    with collector() as (kept, endpoint):
        flags = ("--workers", "1", "--segment-seconds", "0.4", "--otlp-endpoint", endpoint, "--shared-root")
        with Server(tmp_path / "data", *flags, f"media={media}") as server:
            async with connect(server) as api:
                session_id = await api.open_session()
                for video_id in ("v", "w"):
                    await api.prepare_path(session_id, video_id, "clip.mp4")
                await api.commit_video(session_id)
                accepted = await process(api, session_id, "v", f"00-{CALLER_TRACE}-{CALLER_SPAN}-01")
                await api.terminal(accepted)
                other = await process(api, session_id, "w", f"00-{unsampled}-{CALLER_SPAN}-00")
                await api.terminal(other)
            pid = server.pid
            assert 0 == server.stop()  # and sends what is left
    spans = kept.of_trace(CALLER_TRACE)
    (call,) = named(spans, PROCESS)
    assert CALLER_SPAN == call.parent_span_id.hex()
    assert call.kind == call.SPAN_KIND_SERVER
    assert accepted.job_id == attributes(call)["job_id"]
    (job,) = named(spans, "job")
    assert call.span_id == job.parent_span_id
    assert ("completed", SEGMENTS) == (attributes(job)["state"], attributes(job)["segments"])
    (turn,) = named(spans, "job turn")
    assert job.span_id == turn.parent_span_id
    stages = [one for one in spans.values() if one.name.startswith("stage ")]
    assert STAGES == {one.name.removeprefix("stage ") for one in stages}
    assert {"job turn"} == parents(spans, stages)
    segments = named(spans, "segment")
    assert list(range(SEGMENTS)) == sorted(attributes(one)["index"] for one in segments)
    assert {"worker EncodeTask"} == parents(spans, segments)
    workers = named(spans, "worker EncodeTask")
    assert {"task EncodeTask"} == parents(spans, workers)
    assert {"stage enhance"} == parents(spans, named(spans, "task EncodeTask"))
    assert pid not in {attributes(one)["pid"] for one in workers}
    for one in spans.values():
        assert one.start_time_unix_nano <= one.end_time_unix_nano
        around = spans.get(one.parent_span_id.hex())
        if around is not None and one is not job:  # a job outlives the call that it was accepted by
            assert around.start_time_unix_nano - SLACK_NS <= one.start_time_unix_nano, one.name
            if one is not turn:  # which tidies up after the job's end
                assert one.end_time_unix_nano <= around.end_time_unix_nano + SLACK_NS, one.name
    assert not kept.of_trace(unsampled)
    assert len(kept.traces) > 1  # calls whose caller traces nothing begin traces
    assert {"videoprocess"} == {one["service.name"] for one in kept.resources}


@pytest.mark.slow
async def test_a_collector_that_is_away_holds_up_nothing(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    make_clip(media / "clip.mp4", frames=12)
    flags = ("--workers", "1", "--otlp-endpoint", "http://127.0.0.1:9", "--shared-root", f"media={media}")
    with Server(tmp_path / "data", *flags) as server:
        async with connect(server) as api:
            session_id = await api.open_session()
            await api.prepare_path(session_id, "v", "clip.mp4")
            await api.commit_video(session_id)
            event = await api.terminal(await api.process(session_id, "v"))
        assert event.HasField("on_process_done")
        assert 0 == server.stop()


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_nothing_of_it_is_loaded_where_nobody_asks() -> None:
    code = """
import sys
from videoprocess_server import app
from videoprocess_server.settings import Settings
from videoprocess_server.telling import observers
told = observers(Settings())
assert told.metrics is None and told.traces is None
print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'prometheus_client')])
"""
    ended = _run(code)
    assert ("[]\n", 0) == (ended.stdout, ended.returncode), ended.stderr


@pytest.mark.slow
def test_without_the_extra_the_flag_is_refused_with_what_to_do() -> None:
    code = """
import sys
sys.modules['opentelemetry'] = None
from videoprocess_server.settings import Settings
from videoprocess_server.telling import NoTracingError, observers
try:
    observers(Settings(otlp_endpoint='http://127.0.0.1:4317'))
except NoTracingError as error:
    print(error)
"""
    assert "pip install -e '.[tracing]'" in _run(code).stdout
