"""JSON web tokens: what is taken, and every known trick that is not."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from credentials import (
    AUDIENCE,
    ISSUER,
    SigningKey,
    key_set,
    replace_file,
    signed_with_public_key,
    token_of_parts,
)
from videoprocess_server.engine.authorisation import Caller, UserSet
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.auth.access_file import AccessFileError
from videoprocess_server.rpc.auth.web_tokens import LEEWAY_SECONDS, Expected, WebTokens

EXPECTED = Expected(ISSUER, AUDIENCE, "user_ids")
PEER = "ipv4:192.0.2.7:1"
ES256, RS256 = SigningKey.make("es"), SigningKey.make("rs", "RS256")


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return replace_file(tmp_path / "jwks.json", key_set(ES256, RS256))


@pytest.fixture(name="tokens")
def _tokens(path: Path) -> WebTokens:
    return WebTokens(path, EXPECTED)


def _refusal(tokens: WebTokens, token: str) -> str:
    with pytest.raises(VideoProcessError) as caught:
        tokens.caller(PEER, token)
    return caught.value.reason


def _claims(**more: Any) -> dict[str, Any]:
    claims = {"sub": "a", "user_ids": [1], "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 3600}
    return claims | more


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "EdDSA"])
def test_a_good_token_names_its_owner_and_their_users(tmp_path: Path, algorithm: str) -> None:
    key = SigningKey.make("k", algorithm)
    tokens = WebTokens(replace_file(tmp_path / "keys.json", key_set(key)), EXPECTED)
    expire_time = int(time.time()) + 600
    caller = tokens.caller(PEER, key.token("alice", [7, -1], exp=expire_time))
    users = UserSet(frozenset({7, -1}))
    assert caller == Caller(
        peer=PEER, identity="alice", users=users, expire_time=expire_time + LEEWAY_SECONDS
    )


def test_a_token_may_name_all_users(tokens: WebTokens) -> None:
    assert 12345 in tokens.caller(PEER, ES256.token("operator", "*")).users


def test_the_clock_of_the_issuer_may_differ_a_little(tokens: WebTokens) -> None:
    assert tokens.caller(PEER, ES256.token("a", [1], lasts_seconds=-LEEWAY_SECONDS + 5)).identity == "a"
    assert _refusal(tokens, ES256.token("a", [1], lasts_seconds=-LEEWAY_SECONDS - 2)) == "CREDENTIALS_EXPIRED"


CLAIMS_THAT_ARE_NO_GOOD: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "somebody-else"},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example"},
    "no issuer": {"iss": None},
    "no end": {"exp": None},
    "an end that is no number": {"exp": "soon"},
    "an end beyond all numbers": {"exp": 10**400},
    "an infinite end": {"exp": float("inf")},
    "not yet valid": {"nbf": 2**33},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "no users": {"user_ids": None},
    "users as text": {"user_ids": "1"},
    "a user that is text": {"user_ids": ["1"]},
    "a user that is true": {"user_ids": [True]},
    "a user of more than 32 bits": {"user_ids": [2**31]},
}


@pytest.mark.parametrize("claims", CLAIMS_THAT_ARE_NO_GOOD.values(), ids=CLAIMS_THAT_ARE_NO_GOOD)
def test_a_token_with_wrong_claims_is_refused(tokens: WebTokens, claims: dict[str, Any]) -> None:
    assert _refusal(tokens, ES256.token("a", [1], **claims)) == "BAD_CREDENTIALS"


def _with_own_key() -> str:
    """A token that brings the key it is to be checked with."""
    other = SigningKey.make("es")
    headers = {"kid": "es", "jwk": other.public(), "jku": "https://evil.example/jwks.json"}
    return jwt.encode(_claims(), other.key, "ES256", headers=headers)


FORGED: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: token_of_parts({"alg": "none", "kid": "es"}, _claims()),
    "no algorithm, in other letters": lambda: token_of_parts({"alg": "nOnE", "kid": "es"}, _claims()),
    "no algorithm and no key": lambda: token_of_parts({"alg": "none"}, _claims()),
    "HS256 with the public key": lambda: signed_with_public_key(RS256, _claims()),
    "a key of its own": _with_own_key,
    "a stranger's key": lambda: SigningKey.make("es").token("a", [1]),
    "an unknown key": lambda: SigningKey.make("who").token("a", [1]),
    "another key's algorithm": lambda: token_of_parts({"alg": "RS256", "kid": "es"}, _claims(), b"x" * 256),
    "an algorithm that is no text": lambda: token_of_parts({"alg": ["ES256"], "kid": "es"}, _claims()),
    "a key id that is no text": lambda: token_of_parts(
        {"alg": "ES256", "kid": {"a": 1}}, _claims(), b"x" * 64
    ),
    "an empty signature": lambda: token_of_parts({"alg": "ES256", "kid": "es"}, _claims()),
    "a signature of zeros": lambda: token_of_parts({"alg": "ES256", "kid": "es"}, _claims(), bytes(64)),
    "an unknown demand": lambda: jwt.encode(
        _claims(), ES256.key, "ES256", headers={"kid": "es", "crit": ["exp"], "exp": 1}
    ),
    "claims that are a list": lambda: token_of_parts({"alg": "ES256", "kid": "es"}, [1]),
    "deep nesting": lambda: token_of_parts({"alg": "ES256"}, 1).replace(".", "." + "Ww" * 4000, 1),
    "nothing": lambda: "..",
    "no base64": lambda: "é.é.é",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused(tokens: WebTokens, forge: Callable[[], str]) -> None:
    assert _refusal(tokens, forge()) == "BAD_CREDENTIALS"


def test_a_changed_token_is_refused_wherever_it_is_changed(tokens: WebTokens) -> None:
    token = ES256.token("a", [1])
    for place in range(0, len(token), 3):
        other = "A" if token[place] != "A" else "B"
        changed = token[:place] + other + token[place + 1 :]
        try:
            caller = tokens.caller(PEER, changed)
        except VideoProcessError:
            continue
        # the last letter of a part has bits that mean nothing
        assert tokens.caller(PEER, token) == caller


def test_refusals_tell_nothing_of_the_token(tokens: WebTokens) -> None:
    token = ES256.token("a-secret-name", [1], aud="somebody-else")
    with pytest.raises(VideoProcessError) as caught:
        tokens.caller(PEER, token)
    assert "the token is meant for another audience" == caught.value.message


def test_keys_that_are_rotated_count_at_once_and_those_taken_away_no_more(
    tokens: WebTokens, path: Path
) -> None:
    new = SigningKey.make("new")
    assert _refusal(tokens, new.token("a", [1])) == "BAD_CREDENTIALS"
    replace_file(path, key_set(ES256, new))
    assert tokens.caller(PEER, new.token("a", [1])).identity == "a"
    assert tokens.caller(PEER, ES256.token("a", [1])).identity == "a"
    replace_file(path, key_set(new))
    assert _refusal(tokens, ES256.token("a", [1])) == "BAD_CREDENTIALS"


def test_a_token_without_a_key_id_needs_a_single_key_of_its_algorithm(tokens: WebTokens, path: Path) -> None:
    unnamed = jwt.encode(_claims(), ES256.key, "ES256")
    assert tokens.caller(PEER, unnamed).identity == "a"
    replace_file(path, key_set(ES256, SigningKey.make("second")))
    assert _refusal(tokens, unnamed) == "BAD_CREDENTIALS"


WEAK_RSA = SigningKey("weak", rsa.generate_private_key(65537, 1024), "RS256")
KEYS_NOBODY_SHOULD_USE: dict[str, dict[str, Any]] = {
    "a secret": {
        "kty": "oct",
        "k": base64.urlsafe_b64encode(hashlib.sha256(b"").digest()).decode(),
        "kid": "s",
    },
    "a short RSA key": WEAK_RSA.public(),
    "a key to encrypt with": ES256.public(use="enc"),
    "a key to sign with only": ES256.public(key_ops=["sign"]),
    "a key of another algorithm": ES256.public(alg="HS256"),
}


@pytest.mark.parametrize("entry", KEYS_NOBODY_SHOULD_USE.values(), ids=KEYS_NOBODY_SHOULD_USE)
def test_a_set_without_a_key_to_check_with_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = replace_file(tmp_path / "keys.json", json.dumps({"keys": [entry]}))
    with pytest.raises(AccessFileError, match=r"keys\.json: has no key for RS256"):
        WebTokens(path, EXPECTED)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"keys": 1}',
        '{"keys": [1]}',
        '{"keys": [{"kty": "EC", "crv": "P-256"}]}',
        "[" * 99999,
    ],
)
def test_what_is_no_set_of_keys_is_refused(tmp_path: Path, content: str) -> None:
    path = replace_file(tmp_path / "keys.json", content)
    with pytest.raises(AccessFileError, match=r"keys\.json: is not a JSON web key set"):
        WebTokens(path, EXPECTED)
