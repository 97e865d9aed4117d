"""Chromium's <video>, without a screen: a page plays each file, seeks in it and posts what it saw to a server here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from players.playing import Playing

PROGRAMS = ("chromium",)
PATIENCE_SECONDS = 120.0
#: a file is played no longer than this; a longer one faster
LONGEST_SECONDS = 12.0
_PAGE = Path(__file__).parent / "player.html"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--disable-dev-shm-usage")
_MORE = ("--autoplay-policy=no-user-gesture-required", "--no-first-run", "--disable-background-networking")
#: Chromium looks at what a file is called before it looks into it.
_TYPES = {".webm": "video/webm", ".mkv": "video/x-matroska"}


def version() -> str:
    """Tell Chromium's version."""
    said = subprocess.run(["chromium", "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"Chromium (\S+)", said)
    return number[1] if number else "unknown"


def play(path: Path, seconds: float) -> Playing:
    """Play a file to its end, seek to the middle, and play on.

    Args:
        path: the file.
        seconds: its length.
    """
    with _serving(path) as (address, answer), tempfile.TemporaryDirectory(prefix="videoprocess-web-") as home:
        rate = max(1.0, seconds / LONGEST_SECONDS)
        command = ["chromium", *_FLAGS, *_MORE, f"--user-data-dir={home}", f"{address}/?rate={rate:.2f}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            seen = answer.wait(PATIENCE_SECONDS)
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
        shutil.rmtree(home, ignore_errors=True)
    return _playing(answer.told if seen else {"error": "no answer"})


def _playing(told: Mapping[str, Any]) -> Playing:
    pictures = bool(told.get("width"))  # of a codec it has not it plays the sound alone
    return Playing(
        ended=pictures and bool(told.get("ended")),
        seeked=pictures and bool(told.get("seeked")),
        told={name: told.get(name) for name in ("duration", "width", "height", "end")},
        errors=(str(told["error"]),) if told.get("error") else (),
    )


class _Answer:
    """What the page posts."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self._come = threading.Event()

    def give(self, told: dict[str, Any]) -> None:
        self.told = told
        self._come.set()

    def wait(self, seconds: float) -> bool:
        return self._come.wait(seconds)


@contextmanager
def _serving(path: Path) -> Iterator[tuple[str, _Answer]]:
    answer = _Answer()

    class Handler(BaseHTTPRequestHandler):
        """Serves the page and the file, in ranges."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/?"):
                self._send(_PAGE.read_bytes(), "text/html")
            elif self.path == "/video":
                self._send_range()
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            answer.give(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._send(b"", "text/plain")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _send_range(self) -> None:
            size = path.stat().st_size
            asked = _RANGE.match(self.headers.get("Range", "")) or _RANGE.match("bytes=0-")
            assert asked is not None
            begin, end = int(asked[1]), min(int(asked[2] or size), size - 1)
            with path.open("rb") as file:
                file.seek(begin)
                body = file.read(end - begin + 1)
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Type", _TYPES.get(path.suffix.lower(), "video/mp4"))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {begin}-{end}/{size}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # the browser has enough
                return

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", answer
    finally:
        server.shutdown()
        server.server_close()
