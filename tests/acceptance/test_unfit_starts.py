"""What the service cannot start with: `check` and the start say the same in one line, and nothing is half done."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from postgres_server import PostgresServer
from s3_server import S3Server, credentials
from service_harness import SERVER, Server
from videoprocess_server.model.records import Replica
from videoprocess_server.store.postgres import PostgresRepository

pytestmark = pytest.mark.slow

SCHEMA = "unfit"
AN_HOUR_AHEAD = "import time\nours = time.time_ns\ntime.time_ns = lambda: ours() + 3_600_000_000_000\n"


def _install(postgres: PostgresServer, replica: Replica | None = None) -> None:
    with closing(PostgresRepository(postgres.url(), schema=SCHEMA)) as repository:
        if replica is not None:
            with repository.transaction() as tx:
                tx.put_replica(replica)


def _no_such_role(postgres: PostgresServer) -> str:
    return postgres.url().replace("postgres@", "nobody@")


def _no_such_database(postgres: PostgresServer) -> str:
    return postgres.url("nowhere")


def _no_right(postgres: PostgresServer) -> str:
    if not postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = 'guest'"):
        postgres.execute("CREATE ROLE guest LOGIN")
    return postgres.url().replace("postgres@", "guest@")


def _something_else(postgres: PostgresServer) -> str:
    postgres.execute(f"CREATE SCHEMA {SCHEMA}")
    postgres.execute(f"CREATE TABLE {SCHEMA}.jobs (name TEXT)")
    return postgres.url()


def _newer(postgres: PostgresServer) -> str:
    _install(postgres)
    postgres.execute(f"UPDATE {SCHEMA}.installation SET schema_version = 1000")
    return postgres.url()


def _in_company(postgres: PostgresServer) -> str:
    _install(postgres, Replica(replica_id="another", expire_time_us=1 << 60))
    return postgres.url()


#: makes what is wrong, returns the address; and what the line says
DATABASES: Mapping[str, tuple[Callable[[PostgresServer], str], str]] = {
    "no such role": (_no_such_role, 'role "nobody" does not exist'),
    "no such database": (_no_such_database, 'database "nowhere" does not exist'),
    "no right": (_no_right, f"CREATE SCHEMA {SCHEMA} AUTHORIZATION guest"),
    "something else": (_something_else, f"the schema {SCHEMA} holds something else"),
    "newer": (_newer, "start the newer build again"),
    "in company": (_in_company, "another service has these rows"),
}


@pytest.fixture(autouse=True)
def _schema(postgres: PostgresServer) -> None:
    postgres.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def _run(command: str, *flags: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*before, *SERVER, command, *flags], capture_output=True, text=True, timeout=60)


def _unfit(part: str, *flags: str, before: Sequence[str] = ()) -> str:
    """Return the line that both say."""
    check = _run("check", *flags, before=before)
    assert (check.returncode, check.stderr) == (3, "")
    (line,) = [line for line in check.stdout.splitlines() if not line.startswith("ok: ")]
    text = line.removeprefix(f"not fit: {part}: ")
    start = _run("serve", *flags, "--listen", "127.0.0.1:0", before=before)
    assert (start.returncode, start.stdout, start.stderr) == (3, "", f"videoprocess-server: {text}\n")
    return text


def _tables(postgres: PostgresServer) -> Sequence[object]:
    return postgres.execute("SELECT schemaname, tablename FROM pg_tables ORDER BY 1, 2")


@pytest.mark.parametrize(("spoil", "told"), DATABASES.values(), ids=list(DATABASES))
def test_a_database_that_is_not_fit(
    postgres: PostgresServer, tmp_path: Path, spoil: Callable[[PostgresServer], str], told: str
) -> None:
    flags = ("--database-url", spoil(postgres), "--database-schema", SCHEMA)
    before = _tables(postgres)
    assert told in _unfit("database", "--data-dir", str(tmp_path / "data"), *flags)
    assert not (tmp_path / "data").exists()
    assert _tables(postgres) == before


def test_clocks_apart_are_told_and_it_serves(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AN_HOUR_AHEAD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    flags = ("--database-url", postgres.url(), "--database-schema", SCHEMA)
    check = _run("check", "--data-dir", str(tmp_path / "data"), *flags)
    assert check.returncode == 0
    (line,) = [line for line in check.stdout.splitlines() if not line.startswith("ok: ")]
    assert line.startswith("warning: database: ")
    assert line.endswith("set both clocks by NTP")
    with Server(tmp_path / "data", "--workers", "1", *flags) as server:
        assert server.stop() == 0
    told = [line for line in server.log_path.read_text().splitlines() if "clocks_apart" in line]
    assert len(told) == 1
    assert "set both clocks by NTP" in told[0]


def test_a_clock_that_s3_does_not_believe(s3_server: S3Server, tmp_path: Path) -> None:
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("no faketime is installed (Debian: apt-get install faketime)")
    settings = [f"{name}={value}" for name, value in credentials().items()]
    before = ["env", *settings, faketime, "-f", "+1h"]
    data_dir = tmp_path / "data"
    told = _unfit("blobs", "--data-dir", str(data_dir), *s3_server.flags("late"), before=before)
    assert "set this machine's clock" in told
    assert not data_dir.exists()
    assert not os.path.lexists(s3_server.objects / "late")
