"""Files past the service where that is not to be had: they go through it, and the user is told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from client_command import Command
from service_harness import USER, Server
from videoprocess_client import Client
from videoprocess_client.signed_urls import SignedUrlError, SignedUrls

DATA = os.urandom(3 << 20)


async def test_a_service_that_keeps_files_offers_no_urls(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with Server(tmp_path / "data", "--workers", "1") as server:
        async with Client(server.address, user_id=USER, direct=True, on_detour=told.append) as client:
            done = await client.upload(path)
        assert done.sent_bytes == len(DATA)
        assert len(told) == 1
        run = await Command(server.address, tmp_path)("upload", str(path), "--direct")
    assert run.code == 0
    assert "The file goes through the server (this service keeps blobs in files" in run.err


async def test_what_cannot_be_reached_is_told_without_the_url(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/bucket/key?X-Amz-Signature=secret"
    urls = SignedUrls()
    with pytest.raises(SignedUrlError) as caught:
        await urls.put(url, b"data")
    assert "secret" not in str(caught.value)
    assert str(caught.value)
    with pytest.raises(SignedUrlError):
        _ = [data async for data in urls.get(url, 0)]
    urls.close()
    assert "secret" not in caplog.text
