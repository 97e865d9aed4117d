"""A PostgreSQL server of the tests' own, on a Unix socket in a temporary directory."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

#: where Debian keeps its programs, the newest version last
_DEBIAN = Path("/usr/lib/postgresql")
#: where the address of the server of this test process is told to its children
VARIABLE = "POSTGRES_OF_TESTS"
_USER = "postgres"
_SECONDS = 60.0
#: of a server whose machine never loses power
_FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")


def _programs() -> Path | None:
    """The folder of initdb and postgres; None where there is none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(_DEBIAN.glob("*/bin"), key=lambda folder: int(folder.parent.name), default=None)


class PostgresServer:
    """A server; may be killed and started again.

    Args:
        durable: it syncs what it commits, as one must that is killed.
    """

    def __init__(self, *, durable: bool = False) -> None:
        programs = _programs()
        if programs is None:
            pytest.skip("no PostgreSQL is installed (Debian: apt-get install postgresql)")
        self._programs = programs
        self._options = () if durable else _FAST
        self._user = pwd.getpwnam("postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        initdb = ("initdb", "--username", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        subprocess.run(
            self._command(*initdb, "--pgdata", str(self._data)), check=True, stdout=subprocess.DEVNULL
        )

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _command(self, program: str, *arguments: str) -> list[str]:
        """A command line that does not run as root, which PostgreSQL refuses."""
        user, group = self._user.pw_uid, self._user.pw_gid
        drop = (
            ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"] if os.geteuid() == 0 else []
        )
        return [*drop, str(self._programs / program), *arguments]

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_USER}@/{database}?host={self.folder}"

    def start(self) -> PostgresServer:
        sockets = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}")
        sizes = ("-c", "max_connections=200", "-c", "shared_buffers=32MB")
        command = self._command("postgres", "-D", str(self._data), *sockets, *sizes, *self._options)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return self

    def execute(
        self, statement: str, *parameters: object, database: str = "postgres"
    ) -> list[tuple[object, ...]]:
        """Run a statement as the administrator."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """kill -9, the server and all of its sessions."""
        processes = self._send(signal.SIGKILL)
        psutil.wait_procs(processes, _SECONDS)
        assert self._process is not None
        self._process.wait(_SECONDS)
        self._process = None

    def freeze(self) -> None:
        """Have it answer nothing."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have a frozen server go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> list[psutil.Process]:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return processes

    def stop(self) -> None:
        """End it at once, sessions and all, in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Kill it, and take away what it kept."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder)
