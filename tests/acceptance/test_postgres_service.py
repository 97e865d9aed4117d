"""The service with its rows in PostgreSQL: the same bytes as with SQLite, killed, cut off, and moved over from SQLite too."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from media_factory import shrink_clip
from postgres_server import PostgresServer
from service_harness import PATIENCE_SECONDS, SERVER, Api, Server, assert_each_ends_once, connect
from videoprocess.v1 import video_pb2 as video
from videoprocess_server.store.sql.postgres import MIGRATIONS

pytestmark = pytest.mark.scale

CLIP = "dog.mp4"
FLAGS = ("--segment-seconds", "0.5", "--longest-gop-seconds", "1", "--workers", "2")
#: what the database's server is away for
AWAY_SECONDS = 10.0


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    root = tmp_path_factory.mktemp("root")
    shrink_clip(clips / "dog_720p30_10s.mp4", root / CLIP, width=384, height=216, gop=15)
    return root


@pytest.fixture(name="embedded", scope="module")
def _embedded(tmp_path_factory: pytest.TempPathFactory, root: Path) -> str:
    """SHA-256 of what a service with SQLite makes of the clip."""

    async def made() -> str:
        async with connect(server) as api:
            return await _sha256(api, await _accepted(api, "v"))

    with Server(
        tmp_path_factory.mktemp("embedded") / "data", *FLAGS, "--shared-root", f"media={root}"
    ) as server:
        return asyncio.run(made())


@pytest.fixture(name="database")
def _database() -> Iterator[PostgresServer]:
    """A server of the test's own, which may be killed."""
    server = PostgresServer(durable=True).start()
    yield server
    server.remove()


def _server(tmp_path: Path, root: Path, database: PostgresServer) -> Server:
    return Server(
        tmp_path / "data", *FLAGS, "--shared-root", f"media={root}", "--database-url", database.url()
    )


async def _accepted(api: Api, video_id: str) -> Any:
    session_id = await api.open_session()
    await api.prepare_path(session_id, video_id, CLIP)
    await api.commit_video(session_id)
    return await api.process(session_id, video_id)


async def _sha256(api: Api, accepted: Any) -> str:
    return str((await api.terminal(accepted)).on_process_done.report.artifacts[0].sha256)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@dataclass
class Work:
    """A job in the middle of its segments."""

    api: Api
    accepted: Any

    async def has_begun(self) -> bool:
        return bool((await self.api.video("v")).progress.segments_done >= 2)


@asynccontextmanager
async def _in_the_middle(server: Server) -> AsyncIterator[Work]:
    async with connect(server) as api:
        work = Work(api, await _accepted(api, "v"))
        await _until(work.has_begun)
        yield work


async def _assert_one_end(api: Api, accepted: Any, expected: str) -> None:
    """The expected bytes, and one terminal event."""
    assert await _sha256(api, accepted) == expected
    await assert_each_ends_once(api, [accepted])


async def test_undisturbed_it_makes_the_same_bytes(
    tmp_path: Path, root: Path, database: PostgresServer, embedded: str
) -> None:
    with _server(tmp_path, root, database) as server:
        async with connect(server) as api:
            accepted = await _accepted(api, "v")
            await _assert_one_end(api, accepted, embedded)
        assert server.stop() == 0
    assert not (tmp_path / "data" / "videoprocess.sqlite3").exists()
    assert database.execute("SELECT count(*) FROM videoprocess.writers") == [(0,)]


async def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(
    tmp_path: Path, root: Path, database: PostgresServer, embedded: str
) -> None:
    with _server(tmp_path, root, database) as server:
        async with _in_the_middle(server) as work:
            server.kill()
        server.start()
        async with connect(server) as api:
            await _assert_one_end(api, work.accepted, embedded)
        assert server.stop() == 0


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
async def test_without_its_database_a_job_waits_and_goes_on_to_the_same_bytes(
    tmp_path: Path, root: Path, database: PostgresServer, embedded: str, end: Callable[[PostgresServer], None]
) -> None:
    with _server(tmp_path, root, database) as server:
        async with _in_the_middle(server) as work:
            await asyncio.to_thread(end, database)
            await asyncio.sleep(AWAY_SECONDS)
            assert server.exit_code is None
            await asyncio.to_thread(database.start)
            now = await work.api.video("v")
            assert now.state in {video.VIDEO_STATE_QUEUED, video.VIDEO_STATE_RUNNING}
            await _assert_one_end(work.api, work.accepted, embedded)
        assert server.stop() == 0


# -- moving over


def _move(data_dir: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [*SERVER, "move-database", "--data-dir", str(data_dir), "--to", url, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


async def test_an_embedded_installation_is_moved_over_in_the_middle_of_its_work(
    tmp_path: Path, root: Path, database: PostgresServer, embedded: str
) -> None:
    data_dir = tmp_path / "data"
    with Server(data_dir, *FLAGS, "--shared-root", f"media={root}") as server:
        async with _in_the_middle(server) as work:
            assert _move(data_dir, database.url()).returncode == 3  # it runs
            server.kill()
    moved = _move(data_dir, database.url())
    assert (moved.returncode, moved.stderr) == (0, "")
    assert "jobs: 1" in moved.stdout.splitlines()
    with _server(tmp_path, root, database) as server:
        async with connect(server) as api:
            done = database.execute("SELECT count(*) FROM videoprocess.segments WHERE state = 'done'")
            assert done[0][0] >= 2  # type: ignore[operator]
            await _assert_one_end(api, work.accepted, embedded)
            report = (await api.terminal(work.accepted)).on_process_done.report
            assert report.reused_segment_count >= 2
        assert server.stop() == 0


def _cannot_start(data_dir: Path, *flags: str) -> str:
    """What `serve` says that cannot start: one line."""
    command = [
        *SERVER,
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        str(data_dir),
        "--log-format",
        "json",
    ]
    ended = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("videoprocess-server: ")]
    assert "Traceback" not in ended.stderr
    return line


def _has_schema(database: PostgresServer, name: str) -> bool:
    return database.execute("SELECT to_regnamespace(%s) IS NOT NULL", name) == [(True,)]


def test_files_are_served_with_the_rows_they_belong_to_only(tmp_path: Path, database: PostgresServer) -> None:
    """With others all of them would be swept."""
    data_dir = tmp_path / "data"
    with Server(data_dir, "--workers", "1") as server:
        assert server.stop() == 0
    assert "move-database" in _cannot_start(data_dir, "--database-url", database.url())
    assert not _has_schema(database, "videoprocess")
    assert _move(data_dir, database.url()).returncode == 0
    assert "are in PostgreSQL" in _cannot_start(data_dir)
    other = ("--database-schema", "other")
    assert "belong to other rows" in _cannot_start(data_dir, "--database-url", database.url(), *other)
    assert not _has_schema(database, "other")
    told = _check("--data-dir", str(data_dir), "--database-url", database.url(), *other)
    assert "belong to other rows" in told.stdout
    with Server(data_dir, "--workers", "1", "--database-url", database.url()) as server:
        assert server.stop() == 0


async def test_rows_are_moved_into_an_empty_schema_only(tmp_path: Path, database: PostgresServer) -> None:
    data_dir = tmp_path / "data"
    with Server(data_dir, "--workers", "1") as server:
        async with connect(server) as api:
            await api.open_session()
        assert server.stop() == 0
    assert _move(data_dir, database.url(), "--to-schema", "mine").returncode == 0
    (data_dir / "database-id").unlink()
    again = _move(data_dir, database.url(), "--to-schema", "mine")
    assert again.returncode == 3
    assert "there are sessions already" in again.stderr
    assert database.execute("SELECT count(*) FROM mine.sessions") == [(1,)]


# -- what it cannot start with


@pytest.fixture(name="locked")
def _locked(database: PostgresServer) -> str:
    """An address whose user needs a password."""
    database.execute("CREATE ROLE locked LOGIN PASSWORD 'right' NOSUPERUSER")
    database.execute("GRANT CREATE ON DATABASE postgres TO locked")
    rules = database.folder / "data" / "pg_hba.conf"
    rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
    database.execute("SELECT pg_reload_conf()")
    return database.url().replace("postgres@", "locked@")


def test_a_wrong_password_is_told_in_one_line_that_does_not_hold_it(tmp_path: Path, locked: str) -> None:
    url = locked.replace("locked@", "locked:S3CRET@")
    line = _cannot_start(tmp_path / "data", "--database-url", url)
    assert 'password authentication failed for user "locked"' in line
    assert "S3CRET" not in line
    assert not (tmp_path / "data").exists()


def test_a_password_is_told_nowhere(tmp_path: Path, locked: str) -> None:
    url = locked.replace("locked@", "locked:right@")
    data_dir = tmp_path / "data"
    with Server(data_dir, "--workers", "1", "--database-url", url, "--log-level", "debug") as server:
        dump = tmp_path / "dump.zip"
        command = [*SERVER, "support-dump", "--data-dir", str(data_dir), "--output", str(dump)]
        ended = subprocess.run(
            command, capture_output=True, env={**os.environ, "VIDEOPROCESS_DATABASE_URL": url}
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        told = json.loads((data_dir / "service.json").read_text())["settings"]["database_url"]
        assert told == "postgresql:///postgres"
        assert server.stop() == 0
        for path in (server.log_path, data_dir / "service.json"):
            assert ":right@" not in path.read_text()
    with zipfile.ZipFile(dump) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert ":right@" not in "".join(parts.values())
    rows = json.loads(parts["support/database.json"])
    assert rows["schema_version"] == MIGRATIONS[-1].version
    assert rows["check"].startswith("PostgreSQL ")


def test_a_password_may_come_from_where_libpq_looks(
    tmp_path: Path, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "pgpass"
    passwords.write_text("*:*:*:locked:right\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    monkeypatch.setenv("VIDEOPROCESS_DATABASE_URL", locked)
    with Server(tmp_path / "data", "--workers", "1") as server:
        assert server.stop() == 0


def test_a_schema_of_a_newer_build_is_told_in_one_line(tmp_path: Path, database: PostgresServer) -> None:
    flags = ("--database-url", database.url(), "--workers", "1")
    with Server(tmp_path / "data", *flags) as server:
        assert server.stop() == 0
    database.execute("UPDATE videoprocess.installation SET schema_version = 1000")
    line = _cannot_start(tmp_path / "other", *flags)
    assert "schema version 1000" in line
    assert "start the newer build again" in line
    assert not (tmp_path / "other").exists()


def test_a_second_service_with_files_of_its_own_is_refused(tmp_path: Path, database: PostgresServer) -> None:
    flags = ("--database-url", database.url(), "--workers", "1")
    with Server(tmp_path / "data", *flags) as server:
        line = _cannot_start(tmp_path / "other", *flags)
        assert "another service has these rows" in line
        assert "--blob-url" in line
        assert server.stop() == 0
    with Server(tmp_path / "data", *flags) as server:
        assert server.stop() == 0


def test_a_missing_extra_is_told_in_one_line(
    tmp_path: Path, database: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["psycopg"] = None\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line = _cannot_start(tmp_path / "data", "--database-url", database.url())
    assert "pip install 'videoprocess[postgres]'" in line


def test_without_an_address_psycopg_is_not_imported(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--workers", "1") as server:
        assert "psycopg" not in Path(f"/proc/{server.pid}/maps").read_text()


# -- check


def _check(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVER, "check", *flags], capture_output=True, text=True, timeout=60)


def test_check_tells_what_is_fit_and_changes_nothing(tmp_path: Path, database: PostgresServer) -> None:
    flags = ("--data-dir", str(tmp_path / "data"), "--database-url", database.url())
    fit = _check(*flags)
    assert (fit.returncode, fit.stderr) == (0, "")
    lines = fit.stdout.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "data directory",
        "free space",
        "encoders",
        "database",
        "blobs",
        "executor",
    ]
    assert all(line.startswith("ok: ") for line in lines)
    assert "schema videoprocess will be made" in lines[3]
    assert not (tmp_path / "data").exists()
    assert not _has_schema(database, "videoprocess")
    with Server(tmp_path / "data", "--workers", "1", "--database-url", database.url()):
        running = _check(*flags)
    assert running.returncode == 3
    assert "not fit: data directory" in running.stdout
    assert f"schema videoprocess version {MIGRATIONS[-1].version}" in running.stdout


def test_check_tells_what_is_not_fit_in_a_line_each(tmp_path: Path, database: PostgresServer) -> None:
    database.stop()
    (tmp_path / "file").touch()
    ended = _check("--data-dir", str(tmp_path / "file"), "--database-url", database.url())
    assert ended.returncode == 3
    unfit = [line.split(":")[1].strip() for line in ended.stdout.splitlines() if line.startswith("not fit: ")]
    assert unfit == ["data directory", "database"]
    assert "Traceback" not in ended.stderr


def test_check_without_a_server_looks_at_the_file(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    assert "will be made" in _check("--data-dir", str(data_dir)).stdout
    with Server(data_dir, "--workers", "1") as server:
        assert server.stop() == 0
    ended = _check("--data-dir", str(data_dir))
    assert ended.returncode == 0
    assert "has schema version" in ended.stdout
    (data_dir / "videoprocess.sqlite3").write_bytes(b"no database" * 1000)
    ended = _check("--data-dir", str(data_dir))
    assert ended.returncode == 3
    assert "not fit: database" in ended.stdout
