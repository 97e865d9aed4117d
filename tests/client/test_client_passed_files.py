"""The client passes open files to a real service, by itself."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from client_command import Command
from credentials import identity, new_token, replace_file
from service_harness import Server
from videoprocess.v1 import video_pb2
from videoprocess_client import Client, InvalidArgument, Unsupported, opened, passed_files
from videoprocess_client.passed_files import FilePassing, pass_file


async def test_an_open_file_is_prepared(server: Server, clips: Path) -> None:
    """In memory, deleted, or by its name; where it is read stays where it was."""
    clip = (clips / "rot90_iphone_3f.mov").read_bytes()
    memory = os.memfd_create("in memory")
    with (
        tempfile.TemporaryFile() as deleted,
        (clips / "rot90_iphone_3f.mov").open("rb") as file,
        os.fdopen(memory, "w+b") as made,
    ):
        deleted.write(clip)  # what is in Python's buffer counts
        made.write(clip)
        file.seek(5)
        async with Client(server.address) as client, client.session() as session:
            for number, source in enumerate([opened(deleted), opened(made, "made.mov"), opened(file)]):
                prepared = await session.prepare(f"open {number}", source)
                (info,) = prepared.video.sources
                assert info.kind == video_pb2.SOURCE_KIND_DESCRIPTOR
                assert info.size_bytes == len(clip)
                assert not info.upload_id
                assert info.file_name == ["", "made.mov", "rot90_iphone_3f.mov"][number]
            three = await session.prepare("three", [opened(file), opened(file), opened(deleted)])
            assert len(three.video.sources) in (1, 3)
        assert file.tell() == 5


async def test_a_token_that_is_used_up_is_replaced(
    server: Server, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first Prepare was lost, and the call is made again."""
    named, tokens = FilePassing.named, []

    async def stale_first(self: FilePassing, sources: object) -> list[object]:
        given = await named(self, sources)  # type: ignore[arg-type]
        if not tokens:
            given[0].fd_token = "0" * 32
        tokens.append(given[0].fd_token)
        return given  # type: ignore[return-value]

    monkeypatch.setattr(FilePassing, "named", stale_first)
    with (clips / "rot90_iphone_3f.mov").open("rb") as file:
        async with Client(server.address) as client, client.session() as session:
            await session.prepare("stale", opened(file))
    assert len(tokens) == 2


@pytest.mark.slow
async def test_the_token_of_calls_goes_along_and_may_be_renewed_meanwhile(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, sent = new_token(), []

    def old_first(place: Path, descriptor: int, request: dict[str, Any]) -> str:
        sent.append(request["token"])
        return pass_file(place, descriptor, request if sent[1:] else {**request, "token": "old"})

    monkeypatch.setattr(passed_files, "pass_file", old_first)
    token_file = replace_file(tmp_path / "tokens.toml", identity("alice", [100], [token]))
    flags = ("--token-file", str(token_file), "--workers", "1")
    with Server(tmp_path / "data", *flags) as server, (clips / "rot90_iphone_3f.mov").open("rb") as file:
        async with Client(server.address, token=lambda: token) as client, client.session() as session:
            await session.prepare("v", opened(file))
    assert [token, token] == sent


async def test_what_cannot_be_passed_is_told(server: Server, tmp_path: Path) -> None:
    async with Client(server.address) as client, client.session() as session:
        with pytest.raises(io.UnsupportedOperation):
            await session.prepare("v", opened(io.BytesIO(b"abc")))
        reading, writing = os.pipe()
        with pytest.raises(InvalidArgument) as caught:
            await session.prepare("v", opened(reading))
        assert caught.value.reason == "NOT_A_REGULAR_FILE"
        os.close(reading)
        os.close(writing)
        with (tmp_path / "w").open("wb") as file, pytest.raises(InvalidArgument) as caught:
            await session.prepare("v", opened(file))
        assert caught.value.reason == "FILE_UNREADABLE"


@pytest.mark.slow
async def test_a_service_without_the_socket_says_so(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--fd-socket", "off", "--workers", "1") as server:
        async with Client(server.address) as client, client.session() as session:
            with (tmp_path / "clip").open("w+b") as file, pytest.raises(Unsupported) as caught:
                await session.prepare("v", opened(file))
    assert caught.value.reason == "FD_TOKENS_UNAVAILABLE"


async def test_the_socket_may_have_a_long_name(server: Server, clips: Path, tmp_path: Path) -> None:
    long = tmp_path.joinpath(*["x" * 60] * 3)
    long.mkdir(parents=True)
    (long / "fd.sock").symlink_to(server.data_dir / "fd.sock")
    with (clips / "rot90_iphone_3f.mov").open("rb") as file:
        assert len(pass_file(long / "fd.sock", file.fileno(), {"user_id": 100})) == 32


@pytest.mark.slow
async def test_the_command_passes_the_file(server: Server, clips: Path, tmp_path: Path) -> None:
    command = Command(server.address, tmp_path)
    done = await command("prepare", "by command", str(clips / "rot90_iphone_3f.mov"), "--pass-fd", "--json")
    assert "descriptor" in done.json["video"]["sources"][0]["kind"].lower()
    assert (await command("prepare", "by command", "--pass-fd")).code == 2
