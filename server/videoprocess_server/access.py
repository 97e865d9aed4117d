"""Settings → who gets in, and how. Part of the composition root, like `app`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc

from videoprocess_server.engine.authorisation import (
    Policy,
    TrustCredentials,
    TrustEveryCaller,
    TrustLocalCallers,
)
from videoprocess_server.rpc.auth.authentication import Authentication
from videoprocess_server.rpc.auth.certificates import TlsFiles, server_credentials
from videoprocess_server.rpc.auth.guard import Guard
from videoprocess_server.rpc.auth.identities import read_identities
from videoprocess_server.rpc.auth.web_tokens import Expected, WebTokens
from videoprocess_server.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who gets in."""

    policy: Policy
    authentication: Authentication
    guard: Guard
    #: None: plain text
    credentials: grpc.ServerCredentials | None

    def add_port(self, server: grpc.aio.Server, address: str) -> int:
        """Let the server listen; returns the port.

        Raises:
            RuntimeError: it cannot listen there.
        """
        if self.credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self.credentials)


def load_access(settings: Settings) -> Access:
    """Read all files that decide who gets in.

    Raises:
        AccessFileError: one cannot be used.
    """
    authentication = Authentication(
        read_identities(settings.token_file) if settings.token_file else None,
        _web_tokens(settings),
        time.time,
    )
    return Access(
        policy=_policy(settings, authentication),
        authentication=authentication,
        guard=Guard(authentication, time.time),
        credentials=_server_credentials(settings),
    )


def _policy(settings: Settings, authentication: Authentication) -> Policy:
    if authentication.asks_for_credentials:
        return TrustCredentials()
    return TrustEveryCaller() if settings.insecure_listen_anywhere else TrustLocalCallers()


def _web_tokens(settings: Settings) -> WebTokens | None:
    if settings.jwks_file is None:
        return None
    return WebTokens(
        settings.jwks_file,
        Expected(settings.jwt_issuer, settings.jwt_audience, settings.jwt_users_claim),
    )


def _server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return server_credentials(TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca))
