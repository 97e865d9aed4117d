"""One suite over every blob store."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.blob_helpers import RESULT, SEGMENT, UPLOAD, WORK, content, finished, publish, put
from s3_server import S3Server, s3_blobs
from videoprocess_server.blobs.blob_store import BlobStore
from videoprocess_server.blobs.local import LocalBlobStore

PATIENCE_SECONDS = 30.0


def _local(_: pytest.FixtureRequest, root: Path) -> BlobStore:
    return LocalBlobStore(root)


def _s3(request: pytest.FixtureRequest, root: Path) -> BlobStore:
    server: S3Server = request.getfixturevalue("s3_server")
    return s3_blobs(request, server, root)


@pytest.fixture(params=[_local, _s3], ids=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    make: Callable[[pytest.FixtureRequest, Path], BlobStore] = request.param
    return make(request, tmp_path / "data")


class TestEveryBlobStore:
    def test_a_blob_begins_to_exist_with_its_first_bytes(self, blobs: BlobStore) -> None:
        assert blobs.size(UPLOAD, "a") is None
        assert blobs.append(UPLOAD, "a", 0, b"one") == 3
        assert blobs.append(UPLOAD, "a", 3, b"two") == 6
        blobs.sync(UPLOAD, "a")
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
                blobs.sync(UPLOAD, "law")
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
        blobs.sync(UPLOAD, "race")
        assert content(blobs, UPLOAD, "race") == bytes([65 + outcomes.index(True)]) * 1000

    def test_kinds_keep_their_blobs_apart(self, blobs: BlobStore) -> None:
        put(blobs, UPLOAD, "same", b"upload")
        put(blobs, RESULT, "same", b"result")
        assert content(blobs, UPLOAD, "same") == b"upload"
        blobs.delete(UPLOAD, "same")
        assert content(blobs, RESULT, "same") == b"result"

    def test_an_open_blob_stays_readable_after_its_deletion(self, blobs: BlobStore) -> None:
        put(blobs, RESULT, "a", b"bytes")
        with os.fdopen(blobs.open(RESULT, "a"), "rb") as file:
            blobs.delete(RESULT, "a")
            assert file.read() == b"bytes"

    def test_a_descriptor_is_read_only_and_not_inherited(self, blobs: BlobStore) -> None:
        put(blobs, RESULT, "a", b"bytes")
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
        for read in (blobs.open, blobs.sha256, blobs.bring):
            with pytest.raises(FileNotFoundError):
                read(RESULT, key)
        with pytest.raises(FileNotFoundError):
            blobs.sync(UPLOAD, key)
        blobs.delete(RESULT, key)

    def test_a_folder_is_no_blob(self, blobs: BlobStore) -> None:
        put(blobs, SEGMENT, "plan/one")
        assert blobs.size(SEGMENT, "plan") is None
        with pytest.raises(FileNotFoundError):
            blobs.open(SEGMENT, "plan")

    def test_a_path_can_be_written_at_once_and_what_is_kept_is_at_hand(self, blobs: BlobStore) -> None:
        key = "plan/attempt/000001.mp4"
        blobs.path(SEGMENT, key).write_bytes(b"segment")
        blobs.keep(SEGMENT, key, hashlib.sha256(b"segment").hexdigest()).result()
        assert content(blobs, SEGMENT, key) == blobs.bring(SEGMENT, key).read_bytes() == b"segment"
        assert blobs.sha256(SEGMENT, key) == hashlib.sha256(b"segment").hexdigest()

    def test_what_nobody_kept_can_be_deleted(self, blobs: BlobStore) -> None:
        blobs.path(SEGMENT, "plan/half.mp4").write_bytes(b"seg")
        blobs.delete(SEGMENT, "plan/half.mp4")
        assert not blobs.path(SEGMENT, "plan/half.mp4").exists()

    def test_a_kept_upload_is_what_was_appended(self, blobs: BlobStore) -> None:
        put(blobs, UPLOAD, "a", b"one")
        blobs.keep(UPLOAD, "a", hashlib.sha256(b"one").hexdigest()).result()
        with blobs.using(UPLOAD, "a"):
            assert content(blobs, UPLOAD, "a") == b"one"
        assert blobs.size(UPLOAD, "a") == 3

    def test_what_was_let_go_is_there_and_goes_on(self, blobs: BlobStore) -> None:
        put(blobs, UPLOAD, "a", b"one")
        blobs.let_go(UPLOAD, "a")
        assert content(blobs, UPLOAD, "a") == b"one"
        assert blobs.append(UPLOAD, "a", 3, b"two") == 6
        blobs.sync(UPLOAD, "a")
        blobs.let_go(UPLOAD, "a")
        blobs.keep(UPLOAD, "a", hashlib.sha256(b"onetwo").hexdigest()).result()
        assert content(blobs, UPLOAD, "a") == blobs.bring(UPLOAD, "a").read_bytes() == b"onetwo"
        blobs.let_go(UPLOAD, "none")
        assert blobs.size(UPLOAD, "none") is None

    def test_a_published_upload_is_one_as_any(self, blobs: BlobStore) -> None:
        publish(blobs, finished(blobs, "copy", b"copied"), UPLOAD, "a")
        assert content(blobs, UPLOAD, "a") == b"copied"
        assert blobs.size(UPLOAD, "a") == 6

    def test_publishing_moves_a_blob_to_its_name(self, blobs: BlobStore) -> None:
        publish(blobs, finished(blobs, "job/out.mp4"), RESULT, "artifact")
        assert content(blobs, RESULT, "artifact") == b"whole"
        assert blobs.size(WORK, "job/out.mp4") is None

    def test_publishing_replaces_nothing(self, blobs: BlobStore) -> None:
        put(blobs, RESULT, "artifact", b"first")
        work = finished(blobs, "job")
        with pytest.raises(FileExistsError):
            publish(blobs, work, RESULT, "artifact")
        assert content(blobs, RESULT, "artifact") == b"first"
        assert blobs.size(WORK, work) == 5

    def test_publishing_nothing_is_refused(self, blobs: BlobStore) -> None:
        with pytest.raises(FileNotFoundError):
            publish(blobs, "none", RESULT, "artifact")
        assert blobs.size(RESULT, "artifact") is None

    def test_of_many_who_publish_one_name_one_succeeds(self, blobs: BlobStore) -> None:
        def publishes(index: int) -> bool:
            try:
                publish(blobs, finished(blobs, f"job{index}", b"%d" % index), RESULT, "artifact")
            except FileExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(publishes, range(8)))
        assert sum(outcomes) == 1
        assert content(blobs, RESULT, "artifact") == b"%d" % outcomes.index(True)

    def test_keys_are_the_top_level(self, blobs: BlobStore) -> None:
        assert list(blobs.keys(SEGMENT)) == []
        for key in ("b/1", "b/2", "a", "c/d/e"):
            put(blobs, SEGMENT, key)
        assert list(blobs.keys(SEGMENT)) == ["a", "b", "c"]
        assert list(blobs.keys(RESULT)) == []

    def test_what_was_written_just_now_is_not_untouched(self, blobs: BlobStore) -> None:
        """By the store's own clock, whatever that is; one second is what stores date by at the coarsest."""
        put(blobs, RESULT, "old")
        put(blobs, SEGMENT, "plan/a")
        put(blobs, UPLOAD, "upload")
        began = time.monotonic()
        for kind, key in ((RESULT, "old"), (SEGMENT, "plan"), (UPLOAD, "upload")):
            assert list(blobs.untouched(kind, [key], 3600)) == []
        while not blobs.untouched(RESULT, ["old"], 1):
            assert time.monotonic() - began < PATIENCE_SECONDS
        put(blobs, SEGMENT, "plan/b")  # makes the whole folder young again
        assert list(blobs.untouched(SEGMENT, ["plan", "none"], 1)) == ["none"]
        assert time.monotonic() - began >= 0.9

    def test_deleting_a_folder_deletes_what_is_in_it_and_nothing_else(self, blobs: BlobStore) -> None:
        for key in ("plan/a/1", "plan/a/2", "plan/b/1", "other"):
            put(blobs, SEGMENT, key)
        blobs.delete(SEGMENT, "plan/a/2")
        blobs.delete(SEGMENT, "plan/a")
        assert blobs.size(SEGMENT, "plan/b/1") == 1
        blobs.delete(SEGMENT, "plan")
        assert list(blobs.keys(SEGMENT)) == ["other"]

    def test_many_may_delete_the_same_folder(self, blobs: BlobStore) -> None:
        for index in range(200):
            put(blobs, SEGMENT, f"plan/{index % 7}/{index}")
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
        for use in (blobs.size, blobs.open, blobs.delete, blobs.path, blobs.bring, blobs.sync, blobs.sha256):
            with pytest.raises(ValueError, match="no key"):
                use(UPLOAD, key)
        with pytest.raises(ValueError, match="no key"):
            blobs.append(UPLOAD, key, 0, b"")
        with pytest.raises(ValueError, match="no key"):
            blobs.publish(key, RESULT, "a", "")

    def test_it_tells_that_it_can_be_written(self, blobs: BlobStore) -> None:
        blobs.ping()
        assert blobs.free_bytes() > 0
