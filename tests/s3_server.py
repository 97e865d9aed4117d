"""A real S3 server for tests: versitygw over a folder, built by `make s3-server`; without it the tests are skipped and say so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from videoprocess_server.blobs.s3 import S3BlobStore
from videoprocess_server.blobs.s3_address import S3Address
from videoprocess_server.blobs.s3_bucket import Bucket

PROGRAM = Path(__file__).parents[1] / "build" / "s3-server" / "versitygw"
ACCESS_KEY, SECRET_KEY, BUCKET = "test-access", "test-secret-0123456789", "videos"
START_SECONDS = 30.0
#: enough that every test fits
CACHE_BYTES = 1 << 30


class S3Server:
    """A server with one bucket; may be killed and started again on the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
        self._log = folder / "access.log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    @property
    def objects(self) -> Path:
        """The bucket's folder: a file for each object."""
        return self.folder / "data" / BUCKET

    def start(self) -> S3Server:
        """Start it; where nobody has built it, skip the test."""
        if not os.access(PROGRAM, os.X_OK):
            pytest.skip("there is no S3 server: `make s3-server` builds one, with Go")
        command = [str(PROGRAM), "--port", self.address, "--access", ACCESS_KEY, "--secret", SECRET_KEY]
        command += ["--keep-alive", "--quiet", "--access-log", str(self._log)]
        command += ["posix", str(self.folder / "data")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        host, _, port = self.address.rpartition(":")
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError), socket.create_connection((host, int(port)), 1):
                return self
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the S3 server does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def requests(self) -> list[str]:
        """The operations it was asked for so far, in order, such as PutObject."""
        text = self._log.read_text() if self._log.exists() else ""
        words = [word for line in text.splitlines() for word in line.split()]
        return [word.removeprefix("s3_") for word in words if word.startswith("s3_")]

    def flags(self, prefix: str) -> tuple[str, ...]:
        """Of a service that keeps its blobs here."""
        return ("--blob-url", f"s3://{BUCKET}/{prefix}", "--s3-endpoint", self.endpoint)


def credentials() -> dict[str, str]:
    """The environment of a service that keeps its blobs here."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def address_of(server: S3Server, prefix: str = "", **more: object) -> S3Address:
    values: dict[str, object] = {
        "bucket": BUCKET,
        "prefix": prefix or uuid.uuid4().hex,
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        **more,
    }
    return S3Address(**values)  # type: ignore[arg-type]


def s3_blobs(
    request: pytest.FixtureRequest,
    server: S3Server,
    root: Path,
    *,
    prefix: str = "",
    cache_bytes: int = CACHE_BYTES,
    **more: int,
) -> S3BlobStore:
    """A store of its own in the bucket, closed when the test ends."""
    root.mkdir(parents=True, exist_ok=True)
    store = S3BlobStore(Bucket(address_of(server, prefix)), root, cache_bytes, **more)
    request.addfinalizer(store.close)
    return store


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        yield server.start()
    finally:
        server.kill()
