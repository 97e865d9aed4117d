from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path

import grpc
import pytest
from fake_service import FakeService, Refusal, State, busy, cut

from videoprocess_client import Client, DataLoss, ResourceExhausted, RetryPolicy, new_upload_id

MIB = 1 << 20
SIZE = 5 * MIB + 123
DATA = os.urandom(SIZE)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    path = tmp_path / "a b.mp4"
    path.write_bytes(DATA)
    return path


async def test_a_file_arrives_whole_and_its_progress_is_told(
    client: Client, state: State, source: Path
) -> None:
    seen: list[tuple[int, int]] = []
    result = await client.upload(source, on_progress=lambda done, total: seen.append((done, total)))
    assert (result.size_bytes, result.sha256, result.sent_bytes) == (SIZE, SHA256, SIZE)
    assert bytes(state.uploads[result.upload_id]) == DATA
    assert [(min(n * MIB, SIZE), SIZE) for n in range(1, 7)] == seen


@pytest.mark.parametrize("refusal", [cut(), busy()])
async def test_a_cut_costs_only_what_the_service_had_not_stored(
    client: Client, state: State, source: Path, refusal: Refusal
) -> None:
    state.faults = {f"Upload at {2 * MIB}": [refusal], f"Upload at {4 * MIB}": [refusal]}
    result = await client.upload(source)
    assert result.sha256 == SHA256
    assert state.received_bytes == SIZE
    assert state.calls == ["QueryUpload", "Upload"] * 3


@pytest.mark.slow
async def test_an_upload_that_is_cut_late_is_not_taken_for_a_wrong_address(
    fake: FakeService, state: State, source: Path
) -> None:
    state.fail_next(f"Upload at {4 * MIB}", cut())
    policy = RetryPolicy(patience_seconds=10.0, first_contact_seconds=0.8, initial_pause_seconds=0.01)
    async with Client(fake.target, retry=policy) as client:
        result = await client.upload(source, on_progress=lambda *_: time.sleep(0.3))
    assert (result.sha256, state.received_bytes) == (SHA256, SIZE)


async def test_the_answer_to_the_finish_may_be_lost(client: Client, state: State, source: Path) -> None:
    state.fail_next(f"Upload at {SIZE}", cut())
    result = await client.upload(source)
    assert state.received_bytes == SIZE
    assert result.sha256 == SHA256


async def test_an_upload_of_another_process_goes_on_where_it_stopped(
    client: Client, state: State, source: Path
) -> None:
    upload_id = new_upload_id()
    state.uploads[upload_id] = bytearray(DATA[: 3 * MIB + 7])
    result = await client.upload(source, upload_id=upload_id)
    assert state.received_bytes == SIZE - 3 * MIB - 7
    assert result.sha256 == SHA256
    assert (await client.upload(source, upload_id=upload_id)).sent_bytes == 0


async def test_the_id_of_another_finished_file_is_not_taken_for_this_one(
    client: Client, state: State, source: Path
) -> None:
    upload_id = (await client.upload(io.BytesIO(b"other"))).upload_id
    with pytest.raises(DataLoss) as caught:
        await client.upload(source, upload_id=upload_id)
    assert caught.value.reason == "DIGEST_MISMATCH"


async def test_a_refusal_is_raised_and_not_repeated(client: Client, state: State, source: Path) -> None:
    full = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL", cam_ret_code=-2)
    # gRPC may hide a status behind the failure of a write; then, and only then, the client looks again.
    state.faults = {"Upload": [full] * 20}
    with pytest.raises(ResourceExhausted) as caught:
        await client.upload(source)
    assert caught.value.reason == "STORAGE_FULL"


async def test_a_file_that_shrinks_meanwhile_is_an_error(client: Client, state: State, source: Path) -> None:
    os.truncate(source, 16 * MIB)  # more than is read ahead

    def shrink(done: int, total: int) -> None:
        os.truncate(source, 1)

    with pytest.raises(DataLoss) as caught:
        await client.upload(source, on_progress=shrink)
    assert caught.value.reason == "SOURCE_CHANGED"


async def test_an_empty_file_can_be_uploaded(client: Client, state: State) -> None:
    result = await client.upload(io.BytesIO(b""))
    assert (0, hashlib.sha256().hexdigest()) == (result.size_bytes, result.sha256)
