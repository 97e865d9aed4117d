"""Which settings of TLS and credentials go together; what does not is refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from videoprocess_server.access import load_access
from videoprocess_server.bounds import access_facts
from videoprocess_server.engine.authorisation import TrustEveryCaller, TrustLocalCallers
from videoprocess_server.rpc.capability_facts import AuthMode
from videoprocess_server.settings import Settings

LOOPBACK, ANYWHERE = "127.0.0.1:0", "0.0.0.0:50051"
TLS = {"tls_cert": "a.crt", "tls_key": "a.key"}
TOKENS = {"token_file": "tokens.toml"}
WEB_TOKENS = {"jwks_file": "jwks.json", "jwt_issuer": "i", "jwt_audience": "a"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tls_cert": "a.crt"}, "tls_cert and tls_key go together"),
        ({"tls_key": "a.key"}, "tls_cert and tls_key go together"),
        ({"tls_client_ca": "ca.crt", **TOKENS}, "tls_client_ca needs tls_cert"),
        ({"tls_client_ca": "ca.crt", **TLS}, "tls_client_ca needs a token_file"),
        ({"jwks_file": "jwks.json"}, "go together"),
        ({"jwks_file": "jwks.json", "jwt_issuer": "i"}, "go together"),
        ({"jwt_issuer": "i", "jwt_audience": "a"}, "go together"),
        ({"insecure_listen_anywhere": True, **TLS}, "contradicts"),
        ({"insecure_listen_anywhere": True, **TOKENS}, "contradicts"),
        ({"insecure_listen_anywhere": True, **WEB_TOKENS}, "contradicts"),
        ({"listen": ANYWHERE}, "--tls-cert and --tls-key, or --insecure-listen-anywhere"),
        ({"listen": ANYWHERE, **TOKENS}, "--tls-cert and --tls-key, or --insecure-listen-anywhere"),
        ({"listen": ANYWHERE, **TLS}, "--token-file or --jwks-file"),
    ],
)
def test_what_would_let_in_nobody_or_everybody_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Settings(**({"listen": LOOPBACK} | given))


@pytest.mark.parametrize(
    "given",
    [
        {},
        TLS,
        TOKENS,
        WEB_TOKENS,
        {**TLS, **TOKENS, **WEB_TOKENS, "tls_client_ca": "ca.crt", "listen": ANYWHERE},
        {**TLS, **WEB_TOKENS, "listen": ANYWHERE},
        {"insecure_listen_anywhere": True, "listen": ANYWHERE},
    ],
)
def test_what_goes_together_is_taken(given: dict[str, Any]) -> None:
    Settings(**({"listen": LOOPBACK} | given))


def test_without_credentials_this_machine_is_trusted_unless_everybody_is() -> None:
    local = load_access(Settings(listen=LOOPBACK))
    assert isinstance(local.policy, TrustLocalCallers)
    assert local.credentials is None
    assert isinstance(load_access(Settings(insecure_listen_anywhere=True)).policy, TrustEveryCaller)


@pytest.mark.parametrize(
    ("given", "modes", "certificate"),
    [
        ({}, [AuthMode.LOCAL_CALLERS], False),
        ({"listen": ANYWHERE, "insecure_listen_anywhere": True}, [AuthMode.EVERY_CALLER], False),
        (TOKENS, [AuthMode.TOKEN], False),
        ({**TLS, **TOKENS, **WEB_TOKENS}, [AuthMode.TOKEN, AuthMode.WEB_TOKEN], False),
        (
            {**TLS, **TOKENS, "tls_client_ca": "ca.crt"},
            [AuthMode.TOKEN, AuthMode.CLIENT_CERTIFICATE],
            True,
        ),
    ],
)
def test_callers_are_told_how_they_get_in(
    given: dict[str, Any], modes: list[AuthMode], certificate: bool
) -> None:
    told = access_facts(Settings(**({"listen": LOOPBACK} | given)))
    assert (tuple(modes), certificate) == (told.modes, told.needs_client_certificate)
    assert ("tls_cert" in given) == told.tls
