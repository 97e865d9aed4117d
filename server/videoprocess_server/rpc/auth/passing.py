"""Who passes an open file: the same credentials as of a Prepare, in a line of JSON instead of metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.rpc.auth.authentication import TOKEN_METADATA, Authentication

#: the method whose callers pass files
_METHOD = "/videoprocess.v1.VideoProcessSessionService/Prepare"


class _Passing:
    """A connection of the Unix socket, as a call's context."""

    def __init__(self, token: str) -> None:
        self._token = token

    def peer(self) -> str:
        """Return the other end."""
        return "unix:"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata."""
        return ((TOKEN_METADATA, f"Bearer {self._token}"),) if self._token else ()

    def auth_context(self) -> Mapping[str, Any]:
        """Return what TLS knows."""
        return {}


def identify_by(authentication: Authentication) -> Callable[[str], Caller]:
    """Return what tells by a bearer token who passes a file; it raises what a call with that token is refused with."""
    return lambda token: authentication.caller(_METHOD, _Passing(token))
