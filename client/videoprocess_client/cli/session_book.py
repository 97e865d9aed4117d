"""What this command remembers of a server and a user between two runs, in a file of the user's state directory."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec

from videoprocess_client.cli.stream_settings import StreamSettings
from videoprocess_client.enums import CamRetCode
from videoprocess_client.errors import Busy

FILE_NAME = "sessions.json"
# The oldest entries go; a user has a few servers, and a few interrupted enhancements.
MAX_ENTRIES = 50
MAX_ENHANCING = 100
MAX_UPLOADS = 100
# The file is locked for a few milliseconds at a time.
LOCK_SECONDS = 5.0
# An acceptance waits for a server that is away; another terminal need not wait with it for ever.
TURN_SECONDS = 30.0
_POLL_SECONDS = 0.02


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered for one server and user."""

    #: the open session; empty: none
    session_id: str = ""
    #: what `process` was last asked for
    settings: StreamSettings | None = None
    #: whether the session has `settings` committed
    committed: bool = False
    #: videos that `enhance` works on or was interrupted on -> whether `enhance` brought them
    enhancing: Mapping[str, bool] = msgspec.field(default_factory=dict)
    #: digests of what is being uploaded → id of the upload, and of the process that does it or was killed
    uploads: Mapping[str, tuple[str, int]] = msgspec.field(default_factory=dict)


Change: TypeAlias = Callable[[Entry], Entry]
_Entries: TypeAlias = dict[str, Entry]


class SessionBook:
    """The entry of one server and user. Safe to use from several terminals at once.

    A file that cannot be read or written spoils no command: what is remembered then ends with it.
    """

    def __init__(
        self, directory: Path | None, target: str, user_id: int, on_failure: Callable[[OSError], None]
    ) -> None:
        """Read and write nothing yet.

        Args:
            directory: Where the file lies. None: there is none, nothing outlives this object.
            target: Address of the server, as it was typed.
            user_id: The user.
            on_failure: Called with the error when something could not be remembered, once.
        """
        self._directory = directory
        self._key = f"{user_id}@{target}"
        self._on_failure = on_failure
        self._failed = directory is None
        self._entry = Entry()

    def read(self) -> Entry:
        """What is remembered now."""
        if self._directory is not None and not self._failed:
            try:
                self._entry = _read(self._directory / FILE_NAME).get(self._key, Entry())
            except OSError as error:
                self._fail(error)
        return self._entry

    def change(self, change: Change) -> Entry:
        """Replace the entry by what `change` makes of it; returns the new one."""
        if self._directory is not None and not self._failed:
            try:
                self._entry = self._change_file(self._directory, change)
            except OSError as error:
                self._fail(error)
            else:
                return self._entry
        self._entry = change(self._entry)
        return self._entry

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until no other terminal changes the session's streams, and keep others from it.

        Raises:
            Busy: Another terminal took too long.
        """
        descriptor = self._open_turn()
        try:
            deadline = asyncio.get_running_loop().time() + TURN_SECONDS
            while descriptor is not None and not _locked(descriptor):
                if asyncio.get_running_loop().time() > deadline:
                    raise Busy(
                        "SESSION_IN_USE",
                        "Another terminal has been starting work in this session for too long: stop it, or try again.",
                        cam_ret_code=CamRetCode.CAMERA_BUSY,
                    )
                await asyncio.sleep(_POLL_SECONDS)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _open_turn(self) -> int | None:
        if self._directory is None or self._failed:
            return None
        name = hashlib.sha256(self._key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        try:
            return _open_lock(self._directory, f"{name}.lock")
        except OSError as error:
            self._fail(error)
            return None

    def _change_file(self, directory: Path, change: Change) -> Entry:
        with _lock(directory):
            path = directory / FILE_NAME
            entries = _read(path)
            entry = change(entries.pop(self._key, Entry()))
            if entry != Entry():
                entries[self._key] = entry
            _write(path, dict(list(entries.items())[-MAX_ENTRIES:]))
        return entry

    def _fail(self, error: OSError) -> None:
        self._failed = True
        self._on_failure(error)


def state_directory() -> Path | None:
    """The directory for what this command remembers, as the XDG specification has it; None without a home."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():
        return given / "videoprocess"
    try:
        return Path.home() / ".local" / "state" / "videoprocess"
    except RuntimeError:
        return None


def with_enhancing(entry: Entry, video_id: str, *, brought: bool) -> Entry:
    """The entry with a video that `enhance` works on."""
    others = [(other, value) for other, value in entry.enhancing.items() if other != video_id]
    kept = dict([*others, (video_id, brought)][-MAX_ENHANCING:])
    return msgspec.structs.replace(entry, enhancing=kept)


def without_enhancing(entry: Entry, video_id: str) -> Entry:
    """The entry without a video that `enhance` has done with, or that is the user's own from now on."""
    kept = {other: value for other, value in entry.enhancing.items() if other != video_id}
    return msgspec.structs.replace(entry, enhancing=kept)


def with_upload(entry: Entry, key: str, upload_id: str, process_id: int) -> Entry:
    """The entry with an upload that has begun, or is gone on with."""
    others = [(other, value) for other, value in entry.uploads.items() if other != key]
    kept = dict([*others, (key, (upload_id, process_id))][-MAX_UPLOADS:])
    return msgspec.structs.replace(entry, uploads=kept)


def without_upload(entry: Entry, key: str) -> Entry:
    """The entry without an upload that is finished, or of no more use."""
    kept = {other: value for other, value in entry.uploads.items() if other != key}
    return msgspec.structs.replace(entry, uploads=kept)


def _read(path: Path) -> _Entries:
    """The entries; none if the file is not there or is not ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Entries)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _write(path: Path, entries: _Entries) -> None:
    temp = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(
            os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        ) as file:
            file.write(msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    descriptor = _open_lock(directory, f"{FILE_NAME}.lock")
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{directory / FILE_NAME} is locked by another program")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _open_lock(directory: Path, name: str) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
