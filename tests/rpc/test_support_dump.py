"""The file for support: of a service that runs, and of one that was killed."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from media_factory import make_clip
from service_harness import PATIENCE_SECONDS, SERVER, Server, connect
from videoprocess_server.engine.gates import GATES
from videoprocess_server.store.sql import MIGRATIONS
from videoprocess_server.support.redaction import log_line, pseudonym

VIDEO_ID = "aunt-emmas-birthday"
FILE_NAME = "IMG_birthday.mp4"


def dumped(path: Path) -> Mapping[str, str]:
    """The files of an archive, by name."""
    data = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name.removeprefix("support/"): archive.read(name).decode() for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            entry.name.removeprefix("support/"): archive.extractfile(entry).read().decode()  # type: ignore[union-attr]
            for entry in archive
        }


def dump(data_dir: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [*SERVER, "support-dump", "--data-dir", str(data_dir), "-o", str(output), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def files_of(data_dir: Path) -> set[str]:
    return {str(path.relative_to(data_dir)) for path in data_dir.rglob("*")}


def part(files: Mapping[str, str], name: str) -> Any:
    return json.loads(files[f"{name}.json"])


@pytest.mark.slow
async def test_it_tells_of_a_running_and_of_a_killed_service_and_nothing_of_its_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    make_clip(media / FILE_NAME, frames=48, gop=12, width=320, height=240)
    tokens = tmp_path / "tokens.toml"
    tokens.write_text('secret = "0123-never-told"')
    flags = ("--workers", "1", "--metrics-listen", "0", "--segment-seconds", "0.4", "--log-level", "debug")
    data_dir, digest = tmp_path / "data", pseudonym(VIDEO_ID)
    with Server(data_dir, *flags, "--shared-root", f"media={media}") as server:
        (data_dir / "gates" / "manual").write_text("closed")
        async with connect(server) as api:
            session_id = await api.open_session()
            await api.prepare_path(session_id, VIDEO_ID, FILE_NAME)
            await api.commit_video(session_id)
            high = 2
            accepted = await api.process(session_id, VIDEO_ID, priority=high)
            await api.terminal(accepted)
            (data_dir / "gates" / "manual").unlink()
            (data_dir / "gates" / "quiet_hours").write_text("closed")
            alive = dump(data_dir, tmp_path / "alive.tar.gz", "--log", str(server.log_path))
        before = files_of(data_dir)
        server.kill()
        monkeypatch.setenv("VIDEOPROCESS_TOKEN_FILE", str(tokens))
        dead = dump(data_dir, tmp_path / "dead.zip")
    assert ("", 0) == (alive.stderr, alive.returncode)
    assert ("", 0) == (dead.stderr, dead.returncode)
    assert 0o600 == (tmp_path / "alive.tar.gz").stat().st_mode & 0o777
    running, killed = dumped(tmp_path / "alive.tar.gz"), dumped(tmp_path / "dead.zip")
    assert part(running, "about")["service_runs"]
    assert not part(killed, "about")["service_runs"]
    assert files_of(data_dir) <= before  # a look at a dead service leaves nothing behind
    for files in (running, killed):
        assert {} == part(files, "problems")
        (job,) = part(files, "jobs")
        assert (accepted.job_id, "completed", digest) == (job["job_id"], job["state"], job["video"])
        assert job["running_seconds"] > 0
        assert 4 == job["result"]["segments"]
        assert "enhance" in job["result"]["stages"]
        told = part(files, "database")
        assert MIGRATIONS[-1].version == told["schema_version"]
        assert "ok" == told["check"]
        assert {"completed": 1} == told["rows"]["jobs"]
        assert {kind.name for kind in GATES} == part(files, "gates").keys()
        assert "closed by the operator" == part(files, "gates")["quiet_hours"]["closed"]
        assert part(files, "disk")["folders"]["results"]["files"] > 0
        settings = part(files, "service")["settings"]
        assert 0.4 == settings["segment_seconds"]
        together = "".join(files.values())
        for name in (VIDEO_ID, FILE_NAME, tokens.name, "0123-never-told"):
            assert name not in together
    assert 3 == len(part(running, "machine")["processes"])  # the service, its worker, and the one that probes
    assert "(set)" == part(killed, "settings")["token_file"]
    assert [] == part(killed, "machine")["processes"]
    assert "videoprocess_can_accept_job 1.0" in running["metrics.txt"]
    assert accepted.job_id in running["log.txt"]
    assert digest in running["log.txt"]


@pytest.mark.slow
def test_of_a_directory_that_no_service_ever_had_it_says_what_is_missing(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    ended = dump(data_dir, tmp_path / "x.zip")
    assert 0 == ended.returncode
    files = dumped(tmp_path / "x.zip")
    assert {"database.json", "jobs.json"} == part(files, "problems").keys()
    assert "database.json is missing" in ended.stderr
    assert [] == list(data_dir.iterdir())


@pytest.mark.slow
def test_of_a_newer_database_it_tells_the_version_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with sqlite3.connect(data_dir / "videoprocess.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert 0 == dump(data_dir, tmp_path / "x.tar.gz").returncode
    files = dumped(tmp_path / "x.tar.gz")
    assert 99 == part(files, "database")["schema_version"]
    assert [] == part(files, "jobs")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "said"), [("x.txt", "must end in .tar.gz"), ("there.zip", "is there already")]
)
def test_a_name_it_cannot_write_is_told_in_one_line(tmp_path: Path, output: str, said: str) -> None:
    (tmp_path / "there.zip").write_text("mine")
    ended = dump(tmp_path, tmp_path / output)
    assert 2 == ended.returncode
    (line,) = ended.stderr.splitlines()
    assert said in line
    assert "mine" == (tmp_path / "there.zip").read_text()


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "rpc", "headers": "authorization: Bearer S3CRET"}',
        '{"event": "x", "nested": {"list": ["token=S3CRET"]}}',
        "not JSON, with Authorization: Basic S3CRET==",
        "a key -----BEGIN PRIVATE KEY-----S3CRET",
        '{"event": "a web token eyJS3CRET.eyJhIjoxfQ.c2ln"}',
        '{"event": "rpc", "reason": "VIDEO_EXISTS", "message": "there is a video \'S3CRET\' already"}',
        "2026-01-01 [info] job_failed video_id=S3CRET user_id=7 error=\"no 'S3CRET'\"",
        '{"event": "bytes_not_deleted", "key": "{\\"name\\": \\"S3CRET.mp4\\"}"}',
        '{"video_id": "S3CRET", "file_name": "S3CRET.mp4", "path": "/home/S3CRET"}',
    ],
)
def test_credentials_and_names_are_taken_out_of_log_lines(line: str) -> None:
    cleaned = log_line(line)
    assert "S3CRET" not in cleaned
    assert cleaned


def test_a_line_without_any_stays_as_it_is() -> None:
    line = '{"event": "job_completed", "job_id": "ab12", "files": 2}'
    assert line == log_line(line)
