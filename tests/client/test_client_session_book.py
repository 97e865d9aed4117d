from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fake_service import State

from videoprocess.v1.mode_setting_pb2 import FrameRateRange, ModeSetting
from videoprocess_client import Busy, Client, EncodeType
from videoprocess_client.cli import session_book
from videoprocess_client.cli.kept_session import KeptSession
from videoprocess_client.cli.session_book import Entry, SessionBook, state_directory, with_enhancing
from videoprocess_client.cli.stream_options import publication_of
from videoprocess_client.cli.stream_settings import StreamSettings, pack


def book_of(directory: Path | None, user_id: int = 1, failures: list[OSError] | None = None) -> SessionBook:
    seen = failures if failures is not None else []
    return SessionBook(directory, "127.0.0.1:1", user_id, seen.append)


def entry_of(session_id: str) -> Entry:
    return Entry(session_id=session_id)


def test_an_entry_outlives_the_process_and_is_of_one_server_and_user(tmp_path: Path) -> None:
    setting = ModeSetting(zoom_ratio=1.1, frame_rate_range=FrameRateRange(min_fps=1, max_fps=30))
    settings = pack(setting, EncodeType.H265, 640, 360)
    entry = with_enhancing(
        Entry(session_id="s", settings=settings, committed=True), "\N{GRINNING FACE}", brought=True
    )
    assert entry == book_of(tmp_path / "a" / "b").change(lambda _: entry)
    assert entry == book_of(tmp_path / "a" / "b").read()
    assert settings.settings() == setting
    assert settings.describe() == "--zoom 1.1 --fps 1-30 --codec h265 --size 640x360"
    assert Entry() == book_of(tmp_path / "a" / "b", user_id=2).read()
    publication = publication_of("out:my trip", "{source}.{ext}", over=True)
    published = pack(None, EncodeType.NULL, 0, 0, (), publication)
    book_of(tmp_path / "c").change(lambda _: Entry(session_id="s", settings=published))
    assert book_of(tmp_path / "c").read().settings == published
    assert published.describe() == "--publish 'out:my trip' --publish-as '{source}.{ext}' --publish-over"
    assert pack(b"\x00\xff", EncodeType.NULL, 0, 0).settings() == b"\x00\xff"


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        book_of(tmp_path / "new").change(lambda _: entry_of("s"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()} == {0o600}


def test_an_empty_entry_leaves_no_trace(tmp_path: Path) -> None:
    book = book_of(tmp_path)
    book.change(lambda _: entry_of("s"))
    book.change(lambda _: Entry())
    assert json.loads((tmp_path / "sessions.json").read_bytes()) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'["a"]',
        b'{"1@127.0.0.1:1": {"session_id": 7}}',
        b'{"1@127.0.0.1:1": {"settings": {"encode_type": 99}}}',
        b'{"1@127.0.0.1:1": {"settings": {"mode_setting": "/////w=="}}}',
    ],
)
def test_a_file_that_is_not_ours_is_replaced(tmp_path: Path, content: bytes) -> None:
    failures: list[OSError] = []
    (tmp_path / "sessions.json").write_bytes(content)
    book = book_of(tmp_path, failures=failures)
    assert book.read() == Entry()
    book.change(lambda _: entry_of("s"))
    assert (book_of(tmp_path).read().session_id, failures) == ("s", [])


def test_a_place_that_cannot_be_written_spoils_nothing(tmp_path: Path) -> None:
    failures: list[OSError] = []
    (tmp_path / "file").write_bytes(b"")
    book = book_of(tmp_path / "file" / "below", failures=failures)
    book.change(lambda _: entry_of("s"))
    book.change(lambda entry: with_enhancing(entry, "v", brought=True))
    assert (book.read().session_id, list(book.read().enhancing), len(failures)) == ("s", ["v"], 1)
    homeless = book_of(None, failures=failures)
    homeless.change(lambda _: entry_of("t"))
    assert (homeless.read().session_id, len(failures)) == ("t", 1)


def test_a_lock_that_is_never_given_back_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_book, "LOCK_SECONDS", 0.05)
    failures: list[OSError] = []
    with session_book._lock(tmp_path):
        book = book_of(tmp_path, failures=failures)
        assert book.change(lambda _: entry_of("s")).session_id == "s"
    assert "locked by another program" in str(failures[0])


def test_old_entries_go(tmp_path: Path) -> None:
    for user_id in range(session_book.MAX_ENTRIES + 3):
        book_of(tmp_path, user_id).change(lambda _: entry_of("s"))
    assert book_of(tmp_path, 2).read() == Entry()
    assert book_of(tmp_path, 3).read() == entry_of("s")
    entry = Entry()
    for number in range(session_book.MAX_ENHANCING + 3):
        entry = with_enhancing(entry, f"v{number}", brought=True)
    assert len(entry.enhancing) == session_book.MAX_ENHANCING
    assert "v2" not in entry.enhancing


ADD = """
import sys
from pathlib import Path
from videoprocess_client.cli.session_book import SessionBook, with_enhancing
book = SessionBook(Path(sys.argv[1]), "t", 1, lambda error: sys.exit(str(error)))
for number in range(20):
    book.change(lambda entry: with_enhancing(entry, f"{sys.argv[2]}-{number}", brought=True))
"""


@pytest.mark.slow
def test_terminals_do_not_undo_each_others_changes(tmp_path: Path) -> None:
    started = [subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path), name]) for name in "abc"]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert len(SessionBook(tmp_path, "t", 1, pytest.fail).read().enhancing) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sessions.json", "sessions.json.lock"]


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, state_home: Path) -> None:
    assert state_directory() == state_home / "videoprocess"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert state_directory() == Path("/home/somebody/.local/state/videoprocess")


async def test_a_turn_is_waited_for_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    async def take(name: str) -> None:
        async with book_of(tmp_path).turn():
            order.append(name)
            await asyncio.sleep(0.1)
            order.append(name)

    await asyncio.gather(take("a"), take("b"))
    assert order in (["a", "a", "b", "b"], ["b", "b", "a", "a"])
    monkeypatch.setattr(session_book, "TURN_SECONDS", 0.05)
    async with book_of(tmp_path).turn():
        with pytest.raises(Busy, match="SESSION_IN_USE"):
            await take("c")


async def test_two_terminals_that_open_a_session_at_once_end_up_in_the_same(
    client: Client, state: State, tmp_path: Path
) -> None:
    async def opened() -> str:
        kept = KeptSession(client, book_of(tmp_path))

        async def work(session: object) -> str:
            return session.session_id

        return await kept.call(work)

    ids = await asyncio.gather(*(opened() for _ in range(4)))
    assert len(set(ids)) == 1
    assert state.calls.count("CloseVideoProcessSession") == state.calls.count("CreateVideoProcessSession") - 1


async def test_settings_of_two_terminals_do_not_mix(client: Client, state: State, tmp_path: Path) -> None:
    """Whatever order they come in, each job has the settings that were committed last before it."""

    async def process(number: int) -> None:
        kept = KeptSession(client, book_of(tmp_path))
        async with client.session() as session:
            await session.prepare(f"v{number}")
        await kept.process(f"v{number}", 0, 0, StreamSettings(width=number, height=number))

    await asyncio.gather(*(process(number) for number in range(1, 5)))
    calls = [call for call in state.calls if call in ("CreateStreams", "CommitStreams", "ProcessVideo")]
    assert calls == ["CreateStreams", "CommitStreams", "ProcessVideo"] * 4
    assert [f"v{info.width}" for info in state.streams] == [request.video_id for request in state.processed]
