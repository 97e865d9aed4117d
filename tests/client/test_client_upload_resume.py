"""`videoprocess upload FILE` goes on with the upload of a run that was killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from fake_service import State

from client_command import Command

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 5)
SHA256 = hashlib.sha256(DATA).hexdigest()


async def _killed_at(command: Command, state: State, byte_count: int, *options: str) -> None:
    """Run an upload until the service has so many bytes, and kill it."""
    state.hold_upload_at[byte_count] = asyncio.Event()
    process = await command.start("upload", "film.mp4", *options)
    await state.until_called("Upload held")
    process.kill()
    await process.communicate()
    state.hold_upload_at.pop(byte_count).set()
    state.calls.clear()


@pytest.mark.slow
async def test_the_same_command_sends_what_is_missing(command: Command, state: State, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(DATA)
    await _killed_at(command, state, MIB)
    run = await command("upload", "film.mp4", "--json")
    assert (run.code, run.json["sha256"]) == (0, SHA256)
    assert run.json["sent_bytes"] < len(DATA)
    assert list(state.uploads) == [run.json["upload_id"]]
    again = await command("upload", "film.mp4", "--json")
    assert again.json["upload_id"] != run.json["upload_id"], "a finished upload is not gone on with"


@pytest.mark.slow
async def test_a_file_that_has_changed_is_another_one(command: Command, state: State, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(DATA)
    await _killed_at(command, state, MIB)
    (tmp_path / "film.mp4").write_bytes(DATA[::-1] + b"more")
    run = await command("upload", "film.mp4", "--json")
    assert run.json["sent_bytes"] == len(DATA) + 4
    assert len(state.uploads) == 2


@pytest.mark.slow
async def test_two_terminals_do_not_take_it_from_each_other(
    command: Command, state: State, tmp_path: Path
) -> None:
    (tmp_path / "film.mp4").write_bytes(DATA)
    held = state.hold_upload_at[MIB] = asyncio.Event()
    first = await command.start("upload", "film.mp4", "--json")
    await state.until_called("Upload held")
    second = await command.start("upload", "film.mp4", "--json")
    await state.until_called("Upload held", times=2)
    assert len(state.uploads) == 2
    held.set()
    for process in (first, second):
        _, err = await process.communicate()
        assert process.returncode == 0, err
