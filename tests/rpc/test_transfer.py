"""Upload, QueryUpload and Download at the wire."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import pytest

from service_harness import PATIENCE_SECONDS, USER, Api, Server, connect, refused
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import types_pb2 as types
from videoprocess.v1 import video_pb2 as video
from videoprocess.v1 import video_process_session_pb2 as session

Code = grpc.StatusCode
DATA = random.Random(7).randbytes(2_500_000)


def _header(upload_id: str = "", **more: Any) -> transfer.UploadRequest:
    return transfer.UploadRequest(header=transfer.UploadHeader(user_id=USER, upload_id=upload_id, **more))


def _piece(offset: int, data: bytes, crc32c: int | None = None) -> transfer.UploadRequest:
    return transfer.UploadRequest(offset=offset, data=data, crc32c=crc32c)


def _finish(data: bytes, sha256: str | None = None) -> transfer.UploadRequest:
    digest = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    return transfer.UploadRequest(
        offset=len(data), finish=transfer.UploadFinish(size_bytes=len(data), sha256=digest)
    )


async def _send(api: Api, *messages: transfer.UploadRequest) -> transfer.UploadResponse:
    async def each() -> AsyncIterator[transfer.UploadRequest]:
        for message in messages:
            yield message

    return await api.transfer.Upload(each())


async def _query(api: Api, upload_id: str) -> transfer.QueryUploadResponse:
    return await api.transfer.QueryUpload(transfer.QueryUploadRequest(user_id=USER, upload_id=upload_id))


async def _until_committed(api: Api, upload_id: str, byte_count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await _query(api, upload_id)).committed_size_bytes < byte_count:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def test_an_upload_is_whole_when_it_says_so(api: Api) -> None:
    answer = await api.upload(DATA)
    assert answer.complete
    assert (len(DATA), hashlib.sha256(DATA).hexdigest()) == (answer.committed_size_bytes, answer.sha256)
    asked = await _query(api, answer.upload_id)
    assert asked.complete
    assert len(DATA) == asked.committed_size_bytes


async def test_an_upload_goes_on_where_it_was_cut(api: Api) -> None:
    upload_id = secrets.token_hex(16)
    cut = await _send(api, _header(upload_id), _piece(0, DATA[:1_000_001]))
    assert not cut.complete
    assert 1_000_001 == (await _query(api, upload_id)).committed_size_bytes
    rest = await _send(api, _header(upload_id), _piece(1_000_001, DATA[1_000_001:]), _finish(DATA))
    assert rest.complete
    assert hashlib.sha256(DATA).hexdigest() == rest.sha256


async def test_an_upload_goes_on_with_the_size_it_was_begun_with(api: Api) -> None:
    upload_id = secrets.token_hex(16)
    await _send(api, _header(upload_id, size_bytes=len(DATA)), _piece(0, DATA[:10]))
    error = await refused(_send(api, _header(upload_id, size_bytes=len(DATA) + 1)))
    assert ("INVALID_FIELD", Code.INVALID_ARGUMENT) == (error.reason, error.status)
    answer = await _send(api, _header(upload_id, size_bytes=len(DATA)), _piece(10, DATA[10:]), _finish(DATA))
    assert len(DATA) == answer.committed_size_bytes


async def test_finishing_again_is_the_same_answer(api: Api) -> None:
    upload_id = secrets.token_hex(16)
    first = await _send(api, _header(upload_id), _piece(0, b"abc"), _finish(b"abc"))
    assert first == await _send(api, _header(upload_id), _finish(b"abc"))


async def test_an_upload_that_names_a_video_makes_it_pending(api: Api) -> None:
    await api.upload(b"abc", video_id="named by upload")
    assert video.VIDEO_STATE_PENDING == (await api.video("named by upload")).state
    refusal = await refused(api.upload(b"other", video_id="named by upload"))
    assert (Code.ABORTED, -8, "VIDEO_EXISTS") == (refusal.status, refusal.cam_ret_code, refusal.reason)


async def test_an_uploaded_clip_is_prepared_by_its_id_alone(api: Api, clips: Path) -> None:
    """Prepare without a file takes what the id already has."""
    await api.upload((clips / "rot90_iphone_3f.mov").read_bytes(), video_id="by id")
    session_id = await api.open_session()
    answer = await api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id="by id"))
    assert (568, 320) == (answer.stream_descs[0].width, answer.stream_descs[0].height)


@pytest.mark.parametrize(
    ("messages", "status", "reason"),
    [
        ([_piece(0, b"abc")], Code.INVALID_ARGUMENT, "MISSING_FIELD"),
        ([_header(), _piece(5, b"abc")], Code.OUT_OF_RANGE, "UPLOAD_OFFSET"),
        ([_header(), _piece(0, b"abc", 1)], Code.DATA_LOSS, "CHECKSUM_MISMATCH"),
        ([_header(), _piece(0, b"abc"), _finish(b"abc", "0" * 64)], Code.DATA_LOSS, "DIGEST_MISMATCH"),
        ([_header(size_bytes=4), _piece(0, b"abc"), _finish(b"abc")], Code.DATA_LOSS, "SIZE_MISMATCH"),
        ([_header(size_bytes=2), _piece(0, b"abc")], Code.INVALID_ARGUMENT, "INVALID_FIELD"),
        ([_header("not an id")], Code.INVALID_ARGUMENT, "INVALID_FIELD"),
        ([_header(), _piece(0, bytes(3 * 1024 * 1024 + 1))], Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
    ids=["no header", "offset", "crc32c", "sha256", "size", "too long", "id", "message size"],
)
async def test_a_wrong_message_is_refused_and_a_right_upload_follows(
    api: Api, messages: list[transfer.UploadRequest], status: grpc.StatusCode, reason: str
) -> None:
    refusal = await refused(_send(api, *messages))
    assert (status, reason, -3) == (refusal.status, refusal.reason, refusal.cam_ret_code)
    assert (await api.upload(b"fine")).complete


async def test_a_right_checksum_is_accepted(api: Api) -> None:
    answer = await _send(api, _header(), _piece(0, b"abc", google_crc32c.value(b"abc")), _finish(b"abc"))
    assert answer.complete


async def test_a_finished_upload_never_changes(api: Api) -> None:
    upload_id = (await api.upload(b"abc")).upload_id
    refusal = await refused(_send(api, _header(upload_id), _piece(3, b"more")))
    assert (Code.FAILED_PRECONDITION, "UPLOAD_FINISHED") == (refusal.status, refusal.reason)


async def test_unknown_uploads_and_artifacts_are_not_found(api: Api) -> None:
    refusal = await refused(_query(api, "0" * 32))
    assert (Code.NOT_FOUND, "UPLOAD_NOT_FOUND") == (refusal.status, refusal.reason)
    refusal = await refused(api.download("0" * 32))
    assert (Code.NOT_FOUND, "ARTIFACT_NOT_FOUND") == (refusal.status, refusal.reason)


async def test_an_unfinished_upload_cannot_be_prepared(api: Api) -> None:
    upload_id = secrets.token_hex(16)
    await _send(api, _header(upload_id), _piece(0, b"abc"))
    session_id = await api.open_session()
    file = types.FileDescriptor(upload_id=upload_id)
    refusal = await refused(
        api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id="half", fds=[file]))
    )
    assert (Code.INVALID_ARGUMENT, "UPLOAD_UNFINISHED") == (refusal.status, refusal.reason)


async def test_a_result_is_fetched_whole_in_ranges_and_by_its_owner_only(api: Api) -> None:
    session_id = await api.open_session()
    await api.prepare_path(session_id, "fetched", "rot90_iphone_3f.mov")
    await api.commit_video(session_id)
    event = await api.terminal(await api.process(session_id, "fetched"))
    artifact = event.on_process_done.report.artifacts[0]
    whole = await api.download(artifact.artifact_id)
    assert (artifact.size_bytes, artifact.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert whole[100:350] == await api.download(artifact.artifact_id, offset=100, limit=250)
    assert whole[-1:] == await api.download(artifact.artifact_id, offset=len(whole) - 1, limit=1 << 60)
    assert b"" == await api.download(artifact.artifact_id, offset=len(whole))
    refusal = await refused(api.download(artifact.artifact_id, offset=-1))
    assert (Code.OUT_OF_RANGE, "DOWNLOAD_OFFSET") == (refusal.status, refusal.reason)
    refusal = await refused(api.download(artifact.artifact_id, offset=len(whole) + 1))
    assert (Code.OUT_OF_RANGE, "DOWNLOAD_OFFSET") == (refusal.status, refusal.reason)
    refusal = await refused(api.download(artifact.artifact_id, user_id=USER + 1))
    assert (Code.NOT_FOUND, "ARTIFACT_NOT_FOUND") == (refusal.status, refusal.reason)


async def test_a_newer_stream_takes_an_upload_over(api: Api) -> None:
    upload_id = secrets.token_hex(16)
    old = api.transfer.Upload()
    await old.write(_header(upload_id))
    await old.write(_piece(0, DATA[:1000]))
    await old.initial_metadata()
    await _until_committed(api, upload_id, 1000)
    new = api.transfer.Upload()
    await new.write(_header(upload_id))
    await new.initial_metadata()
    await old.write(_piece(1000, DATA[1000:2000]))
    refusal = await refused(old)
    assert (Code.ABORTED, -8, "UPLOAD_TAKEN_OVER") == (
        refusal.status,
        refusal.cam_ret_code,
        refusal.reason,
    )
    await new.write(_piece(1000, DATA[1000:]))
    await new.write(_finish(DATA))
    assert hashlib.sha256(DATA).hexdigest() == (await new).sha256


async def test_an_empty_file_can_be_uploaded_and_is_no_video(api: Api) -> None:
    answer = await api.upload(b"")
    assert answer.complete
    assert (0, hashlib.sha256().hexdigest()) == (answer.committed_size_bytes, answer.sha256)
    session_id = await api.open_session()
    file = types.FileDescriptor(upload_id=answer.upload_id)
    request = session.PrepareRequest(session_id=session_id, video_id="empty", fds=[file])
    assert (await refused(api.session.Prepare(request))).reason == "EMPTY_FILE"


async def test_one_upload_backs_two_videos_and_outlives_the_first(api: Api, clips: Path) -> None:
    upload_id = (await api.upload((clips / "rot90_iphone_3f.mov").read_bytes())).upload_id
    session_id = await api.open_session()
    for video_id in ("first of two", "second of two"):
        file = types.FileDescriptor(upload_id=upload_id)
        request = session.PrepareRequest(session_id=session_id, video_id=video_id, fds=[file])
        await api.session.Prepare(request)
    await api.session.RemoveVideo(session.RemoveVideoRequest(session_id=session_id, video_id="first of two"))
    asked = await _query(api, upload_id)
    assert asked.complete
    assert not asked.HasField("expire_time")
    await api.session.Prepare(session.PrepareRequest(session_id=session_id, video_id="second of two"))


async def test_a_download_has_no_negative_limit(api: Api) -> None:
    refusal = await refused(api.download("0" * 32, limit=-1))
    assert (Code.INVALID_ARGUMENT, "INVALID_FIELD") == (refusal.status, refusal.reason)


@pytest.mark.slow
async def test_an_upload_that_says_nothing_is_ended_and_goes_on_later(tmp_path: Path) -> None:
    flags = ("--workers", "1", "--transfer-stall-seconds", "0.5")
    with Server(tmp_path / "data", *flags) as server:
        async with connect(server) as api:
            upload_id = secrets.token_hex(16)
            silent, stopped = api.transfer.Upload(), api.transfer.Upload()
            await silent.write(_header())
            await stopped.write(_header(upload_id))
            await stopped.write(_piece(0, DATA[:1000]))
            for call in (stopped, silent):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    refusal = await refused(call)
                assert (Code.RESOURCE_EXHAUSTED, "TRANSFER_TOO_SLOW") == (
                    refusal.status,
                    refusal.reason,
                )
            assert (await _query(api, upload_id)).committed_size_bytes == 1000
            rest = await _send(api, _header(upload_id), _piece(1000, DATA[1000:]), _finish(DATA))
            assert rest.complete
