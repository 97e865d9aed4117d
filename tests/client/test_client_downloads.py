from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from fake_service import State, busy, cut

from videoprocess_client import Client, DataLoss, NotFound

Left: TypeAlias = Callable[[], list[str]]
MIB = 1 << 20
DATA = os.urandom(4 * MIB + 5)


async def test_a_result_arrives_whole_and_its_progress_is_told(
    client: Client, state: State, tmp_path: Path, left: Left
) -> None:
    seen: list[tuple[int, int]] = []
    artifact = state.add_artifact(DATA)
    target = tmp_path / "out.mp4"
    fetched = await client.download(artifact.artifact_id, target, on_progress=lambda *now: seen.append(now))
    assert target.read_bytes() == DATA
    assert (len(DATA), len(DATA)) == seen[-1]
    assert artifact.sha256 == fetched.sha256
    assert left() == ["out.mp4"]


async def test_a_cut_download_goes_on_where_it_stopped(client: Client, state: State, tmp_path: Path) -> None:
    state.faults = {f"Download at {MIB}": [cut()], f"Download at {3 * MIB}": [busy()]}
    await client.download(state.add_artifact(DATA).artifact_id, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == DATA
    assert state.calls == ["Download"] * 3


async def test_damaged_bytes_are_fetched_again(client: Client, state: State, tmp_path: Path) -> None:
    state.faults = {f"damage at {2 * MIB}": []}
    await client.download(state.add_artifact(DATA).artifact_id, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == DATA
    assert state.calls == ["Download"] * 2


async def test_a_wrong_digest_is_an_error_and_leaves_nothing(
    client: Client, state: State, tmp_path: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = state.add_artifact(DATA)
    wrong.sha256 = "0" * 64
    monkeypatch.setattr(state, "add_artifact", lambda data: wrong)
    with pytest.raises(DataLoss) as caught:
        await client.download(wrong.artifact_id, tmp_path / "out.mp4")
    assert caught.value.reason == "DIGEST_MISMATCH"
    assert left() == []


async def test_an_unknown_result_leaves_nothing(client: Client, tmp_path: Path, left: Left) -> None:
    with pytest.raises(NotFound):
        await client.download("none", tmp_path / "out.mp4")
    assert left() == []


async def test_a_file_that_is_there_is_only_replaced_when_asked(
    client: Client, state: State, tmp_path: Path
) -> None:
    artifact_id = state.add_artifact(DATA).artifact_id
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        await client.download(artifact_id, target)
    assert target.read_bytes() == b"precious"
    await client.download(artifact_id, target, overwrite=True)
    assert target.read_bytes() == DATA


async def test_a_file_that_appears_meanwhile_is_left_alone(
    client: Client, state: State, tmp_path: Path, left: Left
) -> None:
    target = tmp_path / "out.mp4"

    def appear(done: int, total: int) -> None:
        target.write_bytes(b"precious")

    with pytest.raises(FileExistsError):
        await client.download(state.add_artifact(DATA).artifact_id, target, on_progress=appear)
    assert target.read_bytes() == b"precious"
    assert left() == ["out.mp4"]


async def test_a_cancelled_download_leaves_nothing(
    client: Client, state: State, tmp_path: Path, left: Left
) -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await client.download(
            state.add_artifact(DATA).artifact_id, tmp_path / "out.mp4", on_progress=lambda *_: task.cancel()
        )
    task.uncancel()
    assert left() == []
