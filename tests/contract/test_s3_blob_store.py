"""What only blobs in S3 can get wrong: cuts, outages, damage, a cache that is too small, another process at the same upload."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from contract.blob_helpers import RESULT, SEGMENT, UPLOAD, WORK, content, finished, publish, put
from cutting_proxy import CuttingProxy, cutting_proxy
from s3_server import S3Server, address_of, s3_blobs
from videoprocess_server.blobs import s3_bucket
from videoprocess_server.blobs.blob_store import BlobDamagedError, BlobStoreUnavailableError
from videoprocess_server.blobs.s3 import S3BlobStore
from videoprocess_server.blobs.s3_bucket import Bucket
from videoprocess_server.blobs.s3_check import UnfitBucketError, check_bucket

PREFIX = "prefix/of/its-own"
#: bounds what hangs, on a machine that has much else to do
PATIENCE_SECONDS = 240.0


@pytest.fixture
def open_store(
    request: pytest.FixtureRequest, s3_server: S3Server, tmp_path: Path
) -> Callable[..., S3BlobStore]:
    """Opens stores of one prefix, each with a folder of its own: the processes of several machines."""
    prefix = f"{PREFIX}/{tmp_path.name}"

    def open_(name: str = "one", **more: int) -> S3BlobStore:
        return s3_blobs(request, s3_server, tmp_path / name, prefix=prefix, **more)

    return open_


@pytest.fixture
def objects(s3_server: S3Server, tmp_path: Path) -> Path:
    """The folder of the stores' objects."""
    return s3_server.objects / PREFIX / tmp_path.name


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _flip(path: Path) -> None:
    """Change a byte in the middle, and nothing else: neither size nor what the server notes beside it."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


class TestUploads:
    def test_another_machine_goes_on_with_what_is_stored(
        self, open_store: Callable[..., S3BlobStore]
    ) -> None:
        one, two = open_store("one", commit_bytes=10), open_store("two", commit_bytes=10)
        assert one.append(UPLOAD, "a", 0, b"0123456789abcde") == 15
        assert two.size(UPLOAD, "a") == 10  # the other five would be lost with the first machine
        two.append(UPLOAD, "a", 10, b"ABCDE")
        two.sync(UPLOAD, "a")
        two.keep(UPLOAD, "a", _sha256(b"0123456789ABCDE")).result()
        assert content(two, UPLOAD, "a") == content(open_store("three"), UPLOAD, "a") == b"0123456789ABCDE"

    def test_of_two_machines_that_write_one_upload_one_is_fenced_off(
        self, open_store: Callable[..., S3BlobStore]
    ) -> None:
        one, two = open_store("one", commit_bytes=10), open_store("two", commit_bytes=10)
        one.append(UPLOAD, "a", 0, b"one")
        two.append(UPLOAD, "a", 0, b"two")
        two.sync(UPLOAD, "a")
        with pytest.raises(ValueError, match="another writes it"):
            one.append(UPLOAD, "a", 3, b"more than ten bytes")
        with pytest.raises(ValueError, match="not 22"):
            one.append(UPLOAD, "a", 22, b"and more")
        assert one.append(UPLOAD, "a", 3, b"goes on") == 10
        one.sync(UPLOAD, "a")
        assert content(open_store("three"), UPLOAD, "a") == b"twogoes on"

    def test_two_machines_race_and_no_byte_is_of_both(self, open_store: Callable[..., S3BlobStore]) -> None:
        stores = [open_store(name, commit_bytes=100) for name in ("one", "two")]
        won: list[list[int]] = [[], []]

        def race(number: int) -> None:
            store = stores[number]
            for _ in range(40):
                offset = store.size(UPLOAD, "race") or 0
                with suppress(ValueError):
                    store.append(UPLOAD, "race", offset, bytes([65 + number]) * 100)
                    won[number].append(offset)

        threads = [threading.Thread(target=race, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won[0] + won[1]) == list(range(0, 100 * len(won[0] + won[1]), 100))
        stored = content(open_store("three"), UPLOAD, "race")
        assert [stored[offset] for offset in won[0]] == [65] * len(won[0])
        assert [stored[offset] for offset in won[1]] == [66] * len(won[1])

    def test_who_comes_back_to_a_machine_finds_what_another_stored_meanwhile(
        self, open_store: Callable[..., S3BlobStore]
    ) -> None:
        one, two = open_store("one"), open_store("two")
        put(one, UPLOAD, "a", b"begun")
        two.append(UPLOAD, "a", 5, b", gone on")
        two.sync(UPLOAD, "a")
        assert one.size(UPLOAD, "a") == 14
        one.append(UPLOAD, "a", 14, b", ended")
        one.sync(UPLOAD, "a")
        one.keep(UPLOAD, "a", _sha256(b"begun, gone on, ended")).result()
        assert content(one, UPLOAD, "a") == b"begun, gone on, ended"

    def test_what_could_not_be_stored_before_it_was_let_go_is_sent_again(
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        server = S3Server(tmp_path / "mortal").start()
        request.addfinalizer(server.kill)
        store = S3BlobStore(Bucket(address_of(server, patience_seconds=0)), tmp_path / "one", 1, 10)
        request.addfinalizer(store.close)
        store.append(UPLOAD, "a", 0, b"0123456789abcde")
        server.kill()
        with pytest.raises(BlobStoreUnavailableError):
            store.sync(UPLOAD, "a")
        store.let_go(UPLOAD, "a")
        assert not list((tmp_path / "one/uploads").iterdir())
        server.start()
        assert store.size(UPLOAD, "a") == 10
        assert store.append(UPLOAD, "a", 10, b"ABCDE") == 15
        store.sync(UPLOAD, "a")
        assert content(store, UPLOAD, "a") == b"0123456789ABCDE"

    def test_what_was_kept_first_stays(self, open_store: Callable[..., S3BlobStore]) -> None:
        one = open_store("one")
        put(one, UPLOAD, "a", b"whole")
        one.keep(UPLOAD, "a", _sha256(b"whole")).result()
        open_store("two").keep(UPLOAD, "a", "f" * 64).result()
        assert content(open_store("three"), UPLOAD, "a") == b"whole"

    def test_a_finished_upload_takes_no_more(self, open_store: Callable[..., S3BlobStore]) -> None:
        one = open_store("one")
        put(one, UPLOAD, "a", b"whole")
        one.keep(UPLOAD, "a", _sha256(b"whole")).result()
        with pytest.raises(ValueError, match="bytes"):
            open_store("two").append(UPLOAD, "a", 5, b"more")


class TestDamage:
    def test_a_byte_that_changed_in_the_store_is_found(
        self, open_store: Callable[..., S3BlobStore], objects: Path
    ) -> None:
        put(open_store("one"), SEGMENT, "plan/segment", b"of a segment")
        _flip(objects / "segments/plan/segment")
        other = open_store("two")
        for use in (other.open, other.bring, other.sha256):
            with pytest.raises(BlobDamagedError, match="SHA-256"):
                use(SEGMENT, "plan/segment")
        assert list(other.keys(WORK)) == []

    @pytest.mark.parametrize("is_finished", [True, False])
    def test_a_byte_that_changed_in_an_upload_is_found(
        self, open_store: Callable[..., S3BlobStore], objects: Path, is_finished: bool
    ) -> None:
        one = open_store("one", commit_bytes=10)
        put(one, UPLOAD, "a", b"more than one object")
        if is_finished:
            one.keep(UPLOAD, "a", _sha256(b"more than one object")).result()
        _flip(objects / "uploads/a/000000000000000a")
        with pytest.raises(BlobDamagedError, match="SHA-256"):
            open_store("two").open(UPLOAD, "a")

    @pytest.mark.parametrize("restarts", [False, True])
    def test_a_byte_that_changed_in_the_cache_is_found_and_fetched_anew(
        self, open_store: Callable[..., S3BlobStore], tmp_path: Path, restarts: bool
    ) -> None:
        store = open_store()
        put(store, SEGMENT, "plan/segment", b"of a segment")
        _flip(tmp_path / "one/segments/plan/segment")
        if restarts:
            store = open_store()
        assert store.bring(SEGMENT, "plan/segment").read_bytes() == b"of a segment"

    def test_a_file_that_changed_before_it_was_kept_is_refused(
        self, open_store: Callable[..., S3BlobStore], objects: Path
    ) -> None:
        store = open_store()
        store.path(SEGMENT, "plan/a").write_bytes(b"other bytes")
        with pytest.raises(BlobDamagedError):
            store.keep(SEGMENT, "plan/a", _sha256(b"bytes")).result()
        assert not objects.joinpath("segments").exists()


class TestCache:
    def test_the_least_recently_used_goes_first_and_what_is_used_stays(
        self, open_store: Callable[..., S3BlobStore], tmp_path: Path
    ) -> None:
        store = open_store(cache_bytes=300)

        def at_hand() -> list[str]:
            return sorted(path.name for path in (tmp_path / "one/segments").rglob("*") if path.is_file())

        for name in ("p/a", "p/b", "q/c"):
            put(store, SEGMENT, name, bytes(100))
        store.bring(SEGMENT, "p/a")
        put(store, SEGMENT, "q/d", bytes(100))
        assert at_hand() == ["a", "c", "d"]
        with store.using(SEGMENT, "p"):
            put(store, SEGMENT, "q/e", bytes(100))
            put(store, SEGMENT, "q/f", bytes(100))
            assert at_hand() == ["a", "e", "f"]
            opened = store.open(SEGMENT, "q/e")
            put(store, SEGMENT, "q/g", bytes(100))
            put(store, SEGMENT, "q/h", bytes(100))
            assert at_hand() == ["a", "e", "h"]
            os.close(opened)
        for name in ("p/b", "q/c", "q/g"):
            assert store.bring(SEGMENT, name).read_bytes() == bytes(100)
        assert len(at_hand()) == 3

    def test_what_workers_write_is_never_taken_away(self, open_store: Callable[..., S3BlobStore]) -> None:
        store = open_store(cache_bytes=1)
        written = store.path(SEGMENT, "plan/being-written")
        written.write_bytes(b"half")
        put(store, SEGMENT, "plan/other", bytes(100))
        assert written.read_bytes() == b"half"

    def test_a_restart_finds_its_files_again_and_asks_only_what_they_should_be(
        self, open_store: Callable[..., S3BlobStore], s3_server: S3Server
    ) -> None:
        put(open_store(), SEGMENT, "plan/a", b"bytes")
        store, before = open_store(), len(s3_server.requests())
        assert content(store, SEGMENT, "plan/a") == content(store, SEGMENT, "plan/a") == b"bytes"
        assert s3_server.requests()[before:] == ["HeadObject"]

    def test_a_restart_keeps_the_bound(self, open_store: Callable[..., S3BlobStore], tmp_path: Path) -> None:
        store = open_store()
        for number in range(5):
            put(store, RESULT, f"r{number}", bytes(100))
        open_store(cache_bytes=250)
        assert len(list((tmp_path / "one/results").iterdir())) == 2


class TestLargeAndMany:
    def test_a_large_object_goes_in_parts_and_comes_back_in_pieces(
        self, open_store: Callable[..., S3BlobStore], s3_server: S3Server
    ) -> None:
        data = os.urandom(2 * s3_bucket.PIECE_BYTES + 12_345)
        one, before = open_store("one"), len(s3_server.requests())
        publish(one, finished(one, "large", data), RESULT, "large")
        assert s3_server.requests()[before:].count("UploadPart") == 3
        with pytest.raises(FileExistsError):
            publish(one, finished(one, "large", data), RESULT, "large")
        assert content(open_store("two"), RESULT, "large") == data

    def test_sending_ends_where_it_is_not_to_go_on(
        self, open_store: Callable[..., S3BlobStore], objects: Path
    ) -> None:
        store, data = open_store(), bytes(3 * s3_bucket.PIECE_BYTES)
        calls = iter(range(10))

        def go_on() -> None:
            if next(calls) == 2:
                raise KeyError("enough")

        work = finished(store, "large", data)
        with pytest.raises(KeyError, match="enough"):
            store.publish(work, RESULT, "large", _sha256(data), go_on)
        assert not (objects / "results").exists()
        assert store.size(WORK, work) == len(data)

    def test_all_of_more_than_a_page_are_listed_and_deleted(
        self, open_store: Callable[..., S3BlobStore], s3_server: S3Server, objects: Path
    ) -> None:
        store = open_store()
        names = [f"{number:05d}" for number in range(1005)]
        for name in names:
            (objects / "segments/plan").mkdir(parents=True, exist_ok=True)
            (objects / "segments/plan" / name).write_bytes(b"x")
            (objects / "results").mkdir(exist_ok=True)
            (objects / "results" / name).write_bytes(b"x")
        assert list(store.keys(RESULT)) == names
        store.delete(SEGMENT, "plan")
        assert list(store.keys(SEGMENT)) == []


@pytest.fixture
async def proxy(s3_server: S3Server) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(lambda: s3_server.address) as proxy:
        yield proxy


class TestCuts:
    @pytest.mark.scale
    async def test_cut_at_any_byte_what_is_said_to_be_kept_is(
        self, s3_server: S3Server, proxy: CuttingProxy, tmp_path: Path
    ) -> None:
        """Each call is cut at another byte of its request, and made again when the network is back."""
        bucket = Bucket(
            address_of(
                s3_server, f"cuts/{tmp_path.name}", endpoint=f"http://{proxy.target}", patience_seconds=1
            )
        )
        store = S3BlobStore(bucket, tmp_path / "one", 1 << 30, commit_bytes=1000)
        data = os.urandom(1000)

        def upload(key: str) -> None:
            """As the engine goes on: what did not become durable is made so, or sent again."""
            with suppress(FileNotFoundError):
                store.sync(UPLOAD, key)
            if not store.size(UPLOAD, key):
                store.append(UPLOAD, key, 0, data)

        def steps(number: int) -> list[Callable[[], object]]:
            return [
                lambda: upload(f"u{number}"),
                lambda: store.keep(UPLOAD, f"u{number}", _sha256(data)).result(),
                lambda: store.keep(SEGMENT, f"p/s{number}", _sha256(data)).result(),
                lambda: publish(store, finished(store, f"w{number}", data), RESULT, f"r{number}"),
            ]

        def until_it_works(step: Callable[[], object]) -> None:
            for _ in range(20):
                try:
                    step()
                except BlobStoreUnavailableError:
                    continue
                except FileExistsError:  # of the try whose answer was cut; the engine takes another name
                    return
                else:
                    return
            raise AssertionError("it does not work")

        for number, cut_after in enumerate((1, 60, 300, 700, 1300, 1800)):
            store.path(SEGMENT, f"p/s{number}").write_bytes(data)
            for step in steps(number):
                proxy.cut_after(cut_after)
                doing = asyncio.create_task(asyncio.to_thread(until_it_works, step))
                cut = asyncio.create_task(proxy.cut())
                await asyncio.wait({doing, cut}, return_when=asyncio.FIRST_COMPLETED)
                cut.cancel()
                proxy.mend()
                await asyncio.wait_for(doing, PATIENCE_SECONDS)
            other = S3BlobStore(
                Bucket(address_of(s3_server, f"cuts/{tmp_path.name}")), tmp_path / f"o{number}", 1 << 30
            )
            for kind, key in ((UPLOAD, f"u{number}"), (SEGMENT, f"p/s{number}"), (RESULT, f"r{number}")):
                assert await asyncio.to_thread(content, other, kind, key) == data
            other.close()
        store.close()

    @pytest.mark.scale
    def test_a_server_that_is_away_for_seconds_is_waited_for(
        self,
        open_store: Callable[..., S3BlobStore],
        tmp_path_factory: pytest.TempPathFactory,
        request: pytest.FixtureRequest,
    ) -> None:
        server = S3Server(tmp_path_factory.mktemp("mortal")).start()
        request.addfinalizer(server.kill)
        store = s3_blobs(request, server, tmp_path_factory.mktemp("store"))
        put(store, SEGMENT, "p/before", b"before")
        server.kill()
        store.path(SEGMENT, "p/while").write_bytes(b"while")
        kept = store.keep(SEGMENT, "p/while", _sha256(b"while"))
        threading.Timer(3, server.start).start()
        kept.result(PATIENCE_SECONDS)
        assert content(store, SEGMENT, "p/while") == b"while"


class TestFitness:
    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"secret_access_key": "not-the-secret"}, "credentials are wrong"),
            ({"access_key_id": "nobody"}, "credentials are wrong"),
            ({"bucket": "no-such-bucket"}, "no such bucket"),
            ({"endpoint": "http://127.0.0.1:9"}, "nothing answers there"),
            ({"region": "eu-west-1"}, "another region"),
        ],
    )
    def test_what_is_wrong_is_told_in_one_line_without_credentials(
        self, s3_server: S3Server, wrong: dict[str, str], told: str
    ) -> None:
        address = address_of(s3_server, "p", **wrong)
        with pytest.raises(UnfitBucketError, match=told) as caught:
            check_bucket(Bucket(address))
        text = f"{caught.value} {address!r} {address}"
        assert "\n" not in text
        assert address.secret_access_key not in text
        assert address.access_key_id not in text
        assert caught.value.__cause__ is None

    def test_a_fit_bucket_is_left_as_it_was(self, s3_server: S3Server) -> None:
        check_bucket(Bucket(address_of(s3_server, "fit")))
        assert not [path for path in (s3_server.objects / "fit").rglob("*") if path.is_file()]

    def test_a_ping_ends_soon_while_the_server_is_away(self, open_store: Callable[..., S3BlobStore]) -> None:
        open_store().ping()
        store = open_store("two")
        store._bucket = Bucket(s3_bucket.replace(store._bucket._address, endpoint="http://127.0.0.1:9"))
        with pytest.raises(OSError, match="no answer"):
            store.ping()
