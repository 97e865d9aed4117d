"""Whom a client trusts, and what it shows of itself: TLS and tokens."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from grpc import aio

from videoprocess_client.enums import CamRetCode
from videoprocess_client.errors import VideoProcessError

TOKEN_METADATA = "authorization"  # noqa: S105 - a name
MAX_FILE_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
_TLS_SCHEMES = ("grpcs://", "https://")
_LOCAL_HOST = r"(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d{1,5})?"
#: one address or a list of them, all of this machine
_LOCAL = re.compile(rf"(ipv4:|ipv6:|dns:(///)?)?{_LOCAL_HOST}(,{_LOCAL_HOST})*|unix:.*|unix-abstract:.*")

#: a token, or what tells it before each call: tokens may be renewed while a client lives
Token: TypeAlias = str | Callable[[], str]


@dataclass(frozen=True)
class Tls:
    """How a client checks the service, and what it proves itself with.

    Attributes:
        ca: PEM file of the authorities that may sign the service's certificate. None: those that gRPC knows.
        certificate: PEM file of the client's own certificate. None: it has none.
        key: PEM file of that certificate's key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            OSError: One cannot be read.
            ValueError: A certificate without a key, or the other way round.
        """
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together")
        read = [None if path is None else path.read_bytes() for path in (self.ca, self.key, self.certificate)]
        credentials: grpc.ChannelCredentials = grpc.ssl_channel_credentials(*read)
        return credentials


def split_target(target: str) -> tuple[str, bool]:
    """Return an address as gRPC takes it, and whether it asks for TLS: `grpcs://host:port`, `https://host:port`."""
    for scheme in _TLS_SCHEMES:
        if target.startswith(scheme):
            return target.removeprefix(scheme).rstrip("/"), True
    return target, False


def is_private(target: str) -> bool:
    """Whether nobody between sees what is sent to an address: it asks for TLS, or is this machine's own."""
    return split_target(target)[1] or is_local(target)


def is_local(target: str) -> bool:
    """Whether an address is this machine's own."""
    return _LOCAL.fullmatch(split_target(target)[0]) is not None


def token_of_file(path: Path) -> Callable[[], str]:
    """Return what reads a token from a file, anew for each call: whoever renews tokens replaces the file.

    Args:
        path: Its only content is the token. Nobody else may read it.
    """

    def read() -> str:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IRWXO:
                raise PermissionError(errno.EACCES, "Is open to others: chmod 600 it", str(path))
            return file.read(MAX_FILE_BYTES).decode("ascii", "replace").strip()

    return read


class Bearer:
    """A token on its way into calls; it never stands in an error or a text."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._refused = ""

    def current(self) -> str:
        """Return the token of now.

        Raises:
            VideoProcessError: It is no token.
        """
        token = self._token() if callable(self._token) else self._token
        if _TOKEN.fullmatch(token) is None:
            raise VideoProcessError(
                "NO_TOKEN",
                "The token is empty, or has characters that no token has.",
                cam_ret_code=CamRetCode.NO_PERMISSION,
            )
        return token

    def metadata(self) -> tuple[str, str]:
        """Return what a call carries."""
        return TOKEN_METADATA, f"Bearer {self.current()}"

    def may_be_renewed(self) -> bool:
        """Whether a call that was refused is worth one more try: there may be another token by now."""
        if not callable(self._token):
            return False
        token = self.current()
        last, self._refused = self._refused, token
        return token != last

    def accepted(self) -> None:
        """Note that the service took a call."""
        self._refused = ""


class BearerChannel:
    """A channel whose calls carry a token; otherwise they are the channel's own. What stubs need of one, no more."""

    def __init__(self, channel: aio.Channel, bearer: Bearer) -> None:
        self._channel = channel
        self._bearer = bearer

    def unary_unary(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - gRPC's types
        """Return what makes such calls."""
        return self._with_token(self._channel.unary_unary(*arguments, **more))

    def unary_stream(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - gRPC's types
        """Return what makes such calls."""
        return self._with_token(self._channel.unary_stream(*arguments, **more))

    def stream_unary(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - gRPC's types
        """Return what makes such calls."""
        return self._with_token(self._channel.stream_unary(*arguments, **more))

    def stream_stream(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - gRPC's types
        """Return what makes such calls."""
        return self._with_token(self._channel.stream_stream(*arguments, **more))

    def _with_token(self, make_call: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, metadata: Any = None, **more: Any) -> Any:  # noqa: ANN401 - gRPC's types
            return make_call(*arguments, metadata=(*(metadata or ()), self._bearer.metadata()), **more)

        return call
