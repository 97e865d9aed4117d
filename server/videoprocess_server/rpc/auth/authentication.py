"""Who a call comes from: its token, or else its connection's certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol

from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.auth.access_file import Reloaded
from videoprocess_server.rpc.auth.certificates import client_certificate
from videoprocess_server.rpc.auth.identities import Identities
from videoprocess_server.rpc.auth.web_tokens import WebTokens

TOKEN_METADATA = "authorization"  # noqa: S105 - a name
_SCHEME = "bearer"
_CERTIFICATE = "x509_pem_cert"  # gRPC's name of it
_WEB_TOKEN_DOTS = 2


class Access(Enum):
    """Who may call a service at all."""

    EVERYBODY = "everybody"
    LOCAL_OR_KNOWN = "callers on this machine, and whoever has credentials"
    KNOWN = "whoever has credentials, once any are configured"


#: services with a rule of their own
ACCESS: Mapping[str, Access] = {
    health.SERVICE_NAME: Access.EVERYBODY,
    reflection.SERVICE_NAME: Access.LOCAL_OR_KNOWN,
}


class Connection(Protocol):
    """What is asked of a call's context."""

    def peer(self) -> str:
        """Return the other end."""
        ...

    def invocation_metadata(self) -> Any:  # noqa: ANN401 - gRPC's type
        """Return the metadata."""
        ...

    def auth_context(self) -> Mapping[str, Any]:
        """Return what TLS knows."""
        ...


class Authentication:
    """Tells who calls. Without identities and web tokens nobody is asked for credentials: the policy decides.

    Args:
        identities: the operator's file of tokens and certificates.
        web_tokens: what checks JSON web tokens.
        wall_seconds: seconds since the epoch.
    """

    def __init__(
        self,
        identities: Reloaded[Identities] | None,
        web_tokens: WebTokens | None,
        wall_seconds: Callable[[], float],
    ) -> None:
        self._identities = identities
        self._web_tokens = web_tokens
        self._wall_seconds = wall_seconds

    @property
    def asks_for_credentials(self) -> bool:
        """Whether callers need any."""
        return self._identities is not None or self._web_tokens is not None

    def caller(self, method: str, connection: Connection) -> Caller:
        """Return who calls a method.

        Args:
            method: as HTTP/2 names it, /SERVICE/METHOD.
            connection: the call's context.

        Raises:
            VideoProcessError: NO_CREDENTIALS, BAD_CREDENTIALS, CREDENTIALS_EXPIRED.
        """
        access = ACCESS.get(method.split("/")[1], Access.KNOWN)
        nobody = Caller(peer=connection.peer())
        if access is Access.EVERYBODY:
            return nobody
        found = self._known(nobody.peer, connection) if self.asks_for_credentials else None
        if found is not None:
            return found
        if access is Access.LOCAL_OR_KNOWN:
            if nobody.is_local:
                return nobody
        elif not self.asks_for_credentials:
            return nobody
        raise VideoProcessError(
            "NO_CREDENTIALS", "send a bearer token, or show a certificate that is known here"
        )

    def _known(self, peer: str, connection: Connection) -> Caller | None:
        """Return whom the credentials name; a token that is sent counts, whatever the certificate says."""
        token = _bearer_token(connection)
        if token is None:
            return self._of_certificate(peer, connection)
        identity = self._identities.current().of_token(token) if self._identities is not None else None
        if identity is not None:
            return Caller(peer=peer, identity=identity.name, users=identity.users)
        if self._web_tokens is not None and token.count(".") == _WEB_TOKEN_DOTS:
            return self._web_tokens.caller(peer, token)
        raise VideoProcessError("BAD_CREDENTIALS", "the token is unknown here")

    def _of_certificate(self, peer: str, connection: Connection) -> Caller | None:
        shown = connection.auth_context().get(_CERTIFICATE)
        if not shown or self._identities is None:
            return None
        certificate = client_certificate(shown[0])
        identity = self._identities.current().of_certificate(certificate.names)
        if identity is None:
            return None
        if certificate.expire_time < self._wall_seconds():  # the connection is older
            raise VideoProcessError("CREDENTIALS_EXPIRED", "the client's certificate has expired")
        return Caller(
            peer=peer, identity=identity.name, users=identity.users, expire_time=certificate.expire_time
        )


def _bearer_token(connection: Connection) -> str | None:
    values = [value for key, value in connection.invocation_metadata() or () if key == TOKEN_METADATA]
    if not values:
        return None
    scheme, _, token = str(values[0]).partition(" ")
    if len(values) > 1 or scheme.lower() != _SCHEME or not token.strip():
        raise VideoProcessError("BAD_CREDENTIALS", "send one authorization, of the form: Bearer TOKEN")
    return token.strip()
