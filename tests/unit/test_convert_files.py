"""What Prepare, Upload and Download say about files is read or refused by its field."""

from __future__ import annotations

import google_crc32c
import pytest
from test_convert_requests import refusal_of

from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import types_pb2
from videoprocess_server.engine.source_files import SharedReference, TokenReference, UploadReference
from videoprocess_server.rpc.convert import files


class TestFiles:
    def test_references(self) -> None:
        messages = [
            types_pb2.FileDescriptor(upload_id="u"),
            types_pb2.FileDescriptor(shared_path=types_pb2.SharedPath(root="r", path="p/q.mp4")),
        ]
        expected = [UploadReference(upload_id="u"), SharedReference(root="r", path="p/q.mp4")]
        assert expected == files.file_references(messages)

    def test_a_descriptor_that_names_nothing_and_a_token(self) -> None:
        good = types_pb2.FileDescriptor(upload_id="u")
        empty, token = types_pb2.FileDescriptor(), types_pb2.FileDescriptor(fd_token="t")
        assert refusal_of(files.file_references, [good, empty]) == ("MISSING_FIELD", ["fds[1].source"])
        assert files.file_references([token]) == [TokenReference(token="t")]

    def test_a_header_with_everything_set(self) -> None:
        header = transfer.UploadHeader(
            user_id=0, upload_id="u", file_name="ü.mp4", size_bytes=0, video_id="v"
        )
        assert files.UploadStart(
            user_id=0, upload_id="u", file_name="ü.mp4", video_id="v", declared_size=0
        ) == files.upload_start(transfer.UploadRequest(header=header))
        least = transfer.UploadRequest(header=transfer.UploadHeader(user_id=1))
        assert files.upload_start(least).declared_size is None

    @pytest.mark.parametrize(
        ("message", "reason", "field"),
        [
            (None, "MISSING_FIELD", "header"),
            (transfer.UploadRequest(data=b"x"), "MISSING_FIELD", "header"),
            (transfer.UploadRequest(header=transfer.UploadHeader()), "MISSING_FIELD", "header.user_id"),
            (
                transfer.UploadRequest(header=transfer.UploadHeader(user_id=1, file_name="ü" * 128)),
                "INVALID_FIELD",
                "header.file_name",
            ),
            (
                transfer.UploadRequest(header=transfer.UploadHeader(user_id=1, file_name="../x")),
                "INVALID_FIELD",
                "header.file_name",
            ),
        ],
    )
    def test_headers_that_are_none(
        self, message: transfer.UploadRequest | None, reason: str, field: str
    ) -> None:
        assert (reason, [field]) == refusal_of(files.upload_start, message)

    def test_messages_are_checked_by_size_and_checksum(self) -> None:
        files.upload_data(transfer.UploadRequest(data=bytes(3 << 20)))
        files.upload_data(transfer.UploadRequest(data=b"abc", crc32c=google_crc32c.value(b"abc")))
        files.upload_data(transfer.UploadRequest(crc32c=0))
        too_long = transfer.UploadRequest(data=bytes((3 << 20) + 1))
        assert refusal_of(files.upload_data, too_long) == ("INVALID_FIELD", ["data"])
        damaged = transfer.UploadRequest(data=b"abc", crc32c=0)
        assert refusal_of(files.upload_data, damaged)[0] == "CHECKSUM_MISMATCH"

    def test_a_finish_names_size_and_digest(self) -> None:
        digest = "0123456789abcdefABCDEF" + "0" * 42
        assert digest == files.upload_digest(transfer.UploadFinish(size_bytes=0, sha256=digest), 0)
        for finish, expected in (
            (transfer.UploadFinish(sha256=digest), ("MISSING_FIELD", ["finish.size_bytes"])),
            (transfer.UploadFinish(size_bytes=1), ("MISSING_FIELD", ["finish.sha256"])),
            (transfer.UploadFinish(size_bytes=1, sha256="x" * 64), ("INVALID_FIELD", ["finish.sha256"])),
            (transfer.UploadFinish(size_bytes=2, sha256=digest), ("SIZE_MISMATCH", [])),
        ):
            assert expected == refusal_of(files.upload_digest, finish, 1)

    def test_a_download_ends_at_its_limit_or_at_the_end(self) -> None:
        for offset, limit, end in ((0, 0, 10), (3, 4, 7), (3, 100, 10), (10, 0, 10), (0, 2**63 - 1, 10)):
            assert end == files.download_end(transfer.DownloadRequest(offset=offset, limit=limit), 10)
        negative = transfer.DownloadRequest(limit=-1)
        assert refusal_of(files.check_download, negative) == ("INVALID_FIELD", ["limit"])
