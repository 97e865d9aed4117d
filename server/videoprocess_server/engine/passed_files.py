"""Open files that callers on this machine have passed, and the tokens they are named by until Prepare takes them."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.errors import VideoProcessError

TOKEN_SECONDS = 60.0
TOKEN_BYTES = 16  # 128 bits, as of all ids
MAX_WAITING = 256
MAX_WAITING_PER_USER = 16

_READABLE = frozenset({os.O_RDONLY, os.O_RDWR})


@dataclass(frozen=True, kw_only=True)
class PassedFile:
    """A descriptor that waits for its token to be used."""

    descriptor: int
    user_id: int
    #: as the caller calls it, without directories; "" where nobody said
    file_name: str
    #: who passed it, as the policy knows callers; "" where it does not
    identity: str
    #: monotonic seconds
    expires_at: float

    def close(self) -> None:
        """Close the descriptor."""
        with suppress(OSError):  # of a file system that only now tells of what went wrong earlier
            os.close(self.descriptor)


class PassedFiles:
    """Keeps descriptors, few and for a short time. Thread-safe.

    Args:
        policy: who may act for whom.
        monotonic: seconds that never jump.
        token_seconds: how long a token is good for.
    """

    def __init__(
        self, policy: Policy, monotonic: Callable[[], float], token_seconds: float = TOKEN_SECONDS
    ) -> None:
        self.token_seconds = token_seconds
        self._policy = policy
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: dict[str, PassedFile] = {}
        self._place: Path | None = None

    @property
    def place(self) -> Path | None:
        """Where callers pass files; None: nowhere."""
        return self._place

    def open(self, place: Path) -> None:
        """Begin to take descriptors."""
        self._place = place

    def close(self) -> None:
        """Take no more, and close those that wait."""
        with self._lock:
            self._place = None
            dropped = list(self._waiting.values())
            self._waiting.clear()
        _close_all(dropped)

    def offer(self, caller: Caller, user_id: int, file_name: str, descriptor: int) -> str:
        """Take a descriptor and return its token, which one Prepare of this user and caller may use.

        Args:
            caller: who passes it.
            user_id: for whom.
            file_name: without directories.
            descriptor: taken in any case: where it is refused, it is closed.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, FILE_UNREADABLE, NOT_A_REGULAR_FILE, FD_TOKEN_LIMIT, FD_TOKENS_UNAVAILABLE.
        """
        file = PassedFile(
            descriptor=descriptor,
            user_id=user_id,
            file_name=file_name,
            identity=caller.identity,
            expires_at=self._monotonic() + self.token_seconds,
        )
        try:
            authorise(self._policy, caller, user_id)
            _check_kind(descriptor)
            return self._keep(file)
        except BaseException:
            file.close()
            raise

    def _keep(self, file: PassedFile) -> str:
        self.expire()
        token = secrets.token_hex(TOKEN_BYTES)
        with self._lock:
            if self._place is None:
                raise _unavailable()
            of_users = Counter(waiting.user_id for waiting in self._waiting.values())
            if len(self._waiting) >= MAX_WAITING or of_users[file.user_id] >= MAX_WAITING_PER_USER:
                raise VideoProcessError(
                    "FD_TOKEN_LIMIT", "too many passed files wait for Prepare", retry_after_seconds=5
                )
            self._waiting[token] = file
        return token

    def take(self, caller: Caller, user_id: int, tokens: Sequence[str]) -> list[PassedFile]:
        """Return the files of all tokens, which are used up then; none is where one of them is unknown.

        The caller closes them.

        Raises:
            VideoProcessError: UNKNOWN_FD_TOKEN: never given, used, too old, or another user's or caller's: nobody learns which;
                FD_TOKENS_UNAVAILABLE.
        """
        self.expire()
        with self._lock:
            if self._place is None:
                raise _unavailable()
            for token in tokens:
                file = self._waiting.get(token)
                if file is None or (file.user_id, file.identity) != (user_id, caller.identity):
                    raise VideoProcessError(
                        "UNKNOWN_FD_TOKEN", "the token was used, is too old, or was never given to you"
                    )
            return [self._waiting.pop(token) for token in tokens]

    def expire(self) -> None:
        """Close what nobody came for."""
        now = self._monotonic()
        with self._lock:
            old = [token for token, file in self._waiting.items() if now >= file.expires_at]
            dropped = [self._waiting.pop(token) for token in old]
        _close_all(dropped)


def _check_kind(descriptor: int) -> None:
    """Return if bytes can be read from any place of it, without waiting for somebody to write them."""
    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        mode = os.fstat(descriptor).st_mode
    except OSError as error:
        raise VideoProcessError("FILE_UNREADABLE", "nothing can be told about the descriptor") from error
    if not stat.S_ISREG(mode):
        raise VideoProcessError("NOT_A_REGULAR_FILE", "the descriptor is not of a regular file")
    if flags & os.O_PATH or flags & os.O_ACCMODE not in _READABLE:
        raise VideoProcessError("FILE_UNREADABLE", "the descriptor is not open for reading")


def _close_all(files: Sequence[PassedFile]) -> None:
    for file in files:
        file.close()


def _unavailable() -> VideoProcessError:
    return VideoProcessError("FD_TOKENS_UNAVAILABLE", "this service takes no open files")
