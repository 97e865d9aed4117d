"""A proxy before a PostgreSQL server that cuts a connection at a statement: before the server has it, or before its answer is told."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Self

from postgres_server import PostgresServer

_NAME = ".s.PGSQL.5432"
_READ_BYTES = 1 << 20


class Cut(Enum):
    NO = "passed on"
    BEFORE = "the server never gets it"
    AFTER = "the server gets it, and its answer is lost"


class PostgresProxy:
    """Passes on what it is not told to cut.

    Args:
        server: where connections go.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        #: asked for each message of a client
        self.decide: Callable[[bytes], Cut] = lambda _message: Cut.NO
        self.folder = Path(tempfile.mkdtemp(prefix="pg-proxy-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / _NAME))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return self._server.url().replace(str(self._server.folder), str(self.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.folder)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        answer_is_lost = threading.Event()
        with client, server:
            try:
                server.connect(str(self._server.folder / _NAME))
            except OSError:
                return
            answers = threading.Thread(
                target=self._answer, args=(server, client, answer_is_lost), daemon=True
            )
            answers.start()
            with suppress(OSError):
                while message := client.recv(_READ_BYTES):
                    cut = self.decide(message)
                    if cut is Cut.BEFORE:
                        break
                    if cut is Cut.AFTER:
                        answer_is_lost.set()
                    server.sendall(message)
            for end in (server, client):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            answers.join()

    @staticmethod
    def _answer(server: socket.socket, client: socket.socket, answer_is_lost: threading.Event) -> None:
        with suppress(OSError):
            while message := server.recv(_READ_BYTES):
                if answer_is_lost.is_set():
                    break
                client.sendall(message)
        for end in (server, client):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
