"""A bare grpc.aio service that answers with what it was given at its start: what a call costs without any work.

    python scripts/benches/ping.py ANSWER_FILE     prints its address

Messages are the contract's, so that encoding them costs the same as in ProcessVideo.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from videoprocess.v1.video_process_session_pb2 import ProcessVideoRequest, ProcessVideoResponse

SERVICE, METHOD = "bench.Ping", "Ping"


async def serve(answer: ProcessVideoResponse) -> None:
    """Answer until the process is killed."""

    async def ping(_request: ProcessVideoRequest, _context: object) -> ProcessVideoResponse:
        return answer

    handler = grpc.unary_unary_rpc_method_handler(
        ping,
        request_deserializer=ProcessVideoRequest.FromString,
        response_serializer=ProcessVideoResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


@contextmanager
def pinging(answer: ProcessVideoResponse, folder: Path) -> Iterator[str]:
    """Have such a service in a process of its own; yields its address."""
    path = folder / "ping-answer"
    path.write_bytes(answer.SerializeToString())
    with subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def call_of(
    channel: grpc.aio.Channel,
) -> grpc.aio.UnaryUnaryMultiCallable[ProcessVideoRequest, ProcessVideoResponse]:
    """Return the method to call."""
    return channel.unary_unary(
        f"/{SERVICE}/{METHOD}",
        request_serializer=ProcessVideoRequest.SerializeToString,
        response_deserializer=ProcessVideoResponse.FromString,
    )


if __name__ == "__main__":
    asyncio.run(serve(ProcessVideoResponse.FromString(Path(sys.argv[1]).read_bytes())))
