"""One suite over every blob store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.blob_helpers import RESULT, SEGMENT, UPLOAD, WORK, content, finished
from videoprocess_server.blobs.blob_store import BlobStore
from videoprocess_server.blobs.local import LocalBlobStore


@pytest.fixture(params=[LocalBlobStore])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    make: Callable[[Path], BlobStore] = request.param
    return make(tmp_path / "data")


class TestEveryBlobStore:
    def test_a_blob_begins_to_exist_with_its_first_bytes(self, blobs: BlobStore) -> None:
        assert blobs.size(UPLOAD, "a") is None
        assert blobs.append(UPLOAD, "a", 0, b"one") == 3
        assert blobs.append(UPLOAD, "a", 3, b"two") == 6
        assert blobs.size(UPLOAD, "a") == 6
        assert content(blobs, UPLOAD, "a") == b"onetwo"

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(calls=st.lists(st.tuples(st.integers(0, 12), st.binary(max_size=6)), max_size=12))
    def test_bytes_only_ever_come_at_the_end(self, blobs: BlobStore, calls: list[tuple[int, bytes]]) -> None:
        blobs.delete(UPLOAD, "law")
        expected = None
        for offset, data in calls:
            if offset == len(expected or b""):
                expected = (expected or b"") + data
                assert blobs.append(UPLOAD, "law", offset, data) == len(expected)
            else:
                with pytest.raises(ValueError, match="bytes"):
                    blobs.append(UPLOAD, "law", offset, data)
            assert blobs.size(UPLOAD, "law") == (None if expected is None else len(expected))
        if expected is not None:
            assert content(blobs, UPLOAD, "law") == expected
            assert blobs.sha256(UPLOAD, "law") == hashlib.sha256(expected).hexdigest()

    def test_of_many_who_append_at_once_one_succeeds(self, blobs: BlobStore) -> None:
        def append(letter: bytes) -> bool:
            try:
                return blobs.append(UPLOAD, "race", 0, letter * 1000) == 1000
            except ValueError:
                return False

        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(append, [bytes([65 + index]) for index in range(8)]))
        assert sum(outcomes) == 1
        assert content(blobs, UPLOAD, "race") == bytes([65 + outcomes.index(True)]) * 1000

    def test_kinds_keep_their_blobs_apart(self, blobs: BlobStore) -> None:
        blobs.append(UPLOAD, "same", 0, b"upload")
        blobs.append(RESULT, "same", 0, b"result")
        assert content(blobs, UPLOAD, "same") == b"upload"
        blobs.delete(UPLOAD, "same")
        assert content(blobs, RESULT, "same") == b"result"

    def test_an_open_blob_stays_readable_after_its_deletion(self, blobs: BlobStore) -> None:
        blobs.append(RESULT, "a", 0, b"bytes")
        with os.fdopen(blobs.open(RESULT, "a"), "rb") as file:
            blobs.delete(RESULT, "a")
            assert file.read() == b"bytes"

    def test_a_descriptor_is_read_only_and_not_inherited(self, blobs: BlobStore) -> None:
        blobs.append(RESULT, "a", 0, b"bytes")
        fd = blobs.open(RESULT, "a")
        try:
            assert not os.get_inheritable(fd)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(fd, b"x")
        finally:
            os.close(fd)

    @pytest.mark.parametrize("key", ["none", "no/such/key"])
    def test_a_blob_that_is_not_there_is_said_to_be_none(self, blobs: BlobStore, key: str) -> None:
        assert blobs.size(RESULT, key) is None
        for read in (blobs.open, blobs.sha256, blobs.sync):
            with pytest.raises(FileNotFoundError):
                read(RESULT, key)
        blobs.delete(RESULT, key)

    def test_a_folder_is_no_blob(self, blobs: BlobStore) -> None:
        blobs.append(SEGMENT, "plan/one", 0, b"1")
        assert blobs.size(SEGMENT, "plan") is None
        with pytest.raises(FileNotFoundError):
            blobs.open(SEGMENT, "plan")

    def test_a_path_can_be_written_at_once(self, blobs: BlobStore) -> None:
        blobs.path(SEGMENT, "plan/attempt/000001.mp4").write_bytes(b"segment")
        assert content(blobs, SEGMENT, "plan/attempt/000001.mp4") == b"segment"
        blobs.sync(SEGMENT, "plan/attempt/000001.mp4")

    def test_publishing_moves_a_blob_to_its_name(self, blobs: BlobStore) -> None:
        blobs.publish(finished(blobs, "job/out.mp4"), RESULT, "artifact")
        assert content(blobs, RESULT, "artifact") == b"whole"
        assert blobs.size(WORK, "job/out.mp4") is None

    def test_publishing_replaces_nothing(self, blobs: BlobStore) -> None:
        blobs.append(RESULT, "artifact", 0, b"first")
        work = finished(blobs, "job")
        with pytest.raises(FileExistsError):
            blobs.publish(work, RESULT, "artifact")
        assert content(blobs, RESULT, "artifact") == b"first"
        assert blobs.size(WORK, work) == 5

    def test_publishing_nothing_is_refused(self, blobs: BlobStore) -> None:
        with pytest.raises(FileNotFoundError):
            blobs.publish("none", RESULT, "artifact")
        assert blobs.size(RESULT, "artifact") is None

    def test_of_many_who_publish_one_name_one_succeeds(self, blobs: BlobStore) -> None:
        def publish(index: int) -> bool:
            try:
                blobs.publish(finished(blobs, f"job{index}", b"%d" % index), RESULT, "artifact")
            except FileExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(publish, range(8)))
        assert sum(outcomes) == 1
        assert content(blobs, RESULT, "artifact") == b"%d" % outcomes.index(True)

    def test_keys_are_the_top_level(self, blobs: BlobStore) -> None:
        assert list(blobs.keys(SEGMENT)) == []
        for key in ("b/1", "b/2", "a", "c/d/e"):
            blobs.append(SEGMENT, key, 0, b"")
        assert list(blobs.keys(SEGMENT)) == ["a", "b", "c"]
        assert list(blobs.keys(RESULT)) == []

    def test_deleting_a_folder_deletes_what_is_in_it_and_nothing_else(self, blobs: BlobStore) -> None:
        for key in ("plan/a/1", "plan/a/2", "plan/b/1", "other"):
            blobs.append(SEGMENT, key, 0, b"")
        blobs.delete(SEGMENT, "plan/a/2")
        blobs.delete(SEGMENT, "plan/a")
        assert blobs.size(SEGMENT, "plan/b/1") == 0
        blobs.delete(SEGMENT, "plan")
        assert list(blobs.keys(SEGMENT)) == ["other"]

    def test_many_may_delete_the_same_folder(self, blobs: BlobStore) -> None:
        for index in range(200):
            blobs.append(SEGMENT, f"plan/{index % 7}/{index}", 0, b"")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: blobs.delete(SEGMENT, "plan"), range(4)))
        assert list(blobs.keys(SEGMENT)) == []

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "..",
            ".",
            "../x",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "a\0b",
            "a\nb",
            ".ping",
            "a" * 300,
            "é",
            "a\n",
        ],
    )
    def test_what_is_no_key_of_ours_is_refused(self, blobs: BlobStore, key: str) -> None:
        for use in (blobs.size, blobs.open, blobs.delete, blobs.path, blobs.sync, blobs.sha256):
            with pytest.raises(ValueError, match="no key"):
                use(UPLOAD, key)
        with pytest.raises(ValueError, match="no key"):
            blobs.append(UPLOAD, key, 0, b"")
        with pytest.raises(ValueError, match="no key"):
            blobs.publish(key, RESULT, "a")

    def test_it_tells_that_it_can_be_written(self, blobs: BlobStore) -> None:
        blobs.ping()
        assert blobs.free_bytes() > 0
