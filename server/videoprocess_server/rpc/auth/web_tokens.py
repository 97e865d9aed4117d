"""JSON web tokens, checked with the public keys of a local file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from videoprocess_server.engine.authorisation import Caller, UserSet
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.auth.access_file import AccessFile, AccessFileError, Reloaded, Secrecy

LEEWAY_SECONDS = 30.0
MIN_RSA_BITS = 2048
REQUIRED_CLAIMS = ("exp", "sub", "iss", "aud")

#: key type and curve -> what such a key may have signed with. A secret key has no row: nobody here may know one
ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}

#: what is wrong with a token -> what its sender is told; the first that fits
_PROBLEMS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.InvalidAudienceError, "the token is meant for another audience"),
    (jwt.InvalidIssuerError, "the token has another issuer"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.MissingRequiredClaimError, f"the token lacks one of the claims {', '.join(REQUIRED_CLAIMS)}"),
    (jwt.InvalidSignatureError, "the token's signature is wrong"),
    (Exception, "the token is not one of this service's"),
)


@dataclass(frozen=True)
class Expected:
    """What tokens must say of themselves."""

    issuer: str
    audience: str
    #: the claim that holds the users their owner may act for
    users_claim: str


@dataclass(frozen=True)
class _Key:
    key_id: str | None
    #: algorithm -> the key as it is used with it
    usable: Mapping[str, jwt.PyJWK]


class WebTokens:
    """Tells who a token names.

    Args:
        path: a JSON web key set (RFC 7517); read again when it changes.
        expected: what tokens must say.

    Raises:
        AccessFileError: the file cannot be used.
    """

    def __init__(self, path: Path, expected: Expected) -> None:
        self._expected = expected
        self._keys = _read_keys(path)

    def caller(self, peer: str, token: str) -> Caller:
        """Return whom the token names.

        Raises:
            VideoProcessError: BAD_CREDENTIALS, CREDENTIALS_EXPIRED.
        """
        try:
            claims = self._claims(token)
            return Caller(
                peer=peer,
                identity=_subject(claims),
                users=UserSet.parse(claims.get(self._expected.users_claim)),
                expire_time=float(claims["exp"]) + LEEWAY_SECONDS,
            )
        except jwt.ExpiredSignatureError as error:
            raise VideoProcessError("CREDENTIALS_EXPIRED", "the token has expired") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            problem = next(text for kind, text in _PROBLEMS if isinstance(error, kind))
            raise VideoProcessError("BAD_CREDENTIALS", problem) from error

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        key, algorithm = self._key(header.get("kid"), header.get("alg")), str(header.get("alg"))
        return jwt.decode(
            token,
            key=key.usable[algorithm],
            algorithms=[algorithm],
            audience=self._expected.audience,
            issuer=self._expected.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": list(REQUIRED_CLAIMS)},
        )

    def _key(self, key_id: object, algorithm: object) -> _Key:
        """Return the one key that the token can be signed with; without a name it must be the only one."""
        fitting = [
            key
            for key in self._keys.current()
            if algorithm in key.usable and (key_id is None or key.key_id == key_id)
        ]
        if len(fitting) != 1:
            raise jwt.InvalidKeyError("no such key")
        return fitting[0]


def _subject(claims: Mapping[str, Any]) -> str:
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise jwt.InvalidTokenError("no subject")
    return claims["sub"]


def _read_keys(path: Path) -> Reloaded[Sequence[_Key]]:
    def parse(contents: Sequence[bytes]) -> Sequence[_Key]:
        try:
            document = json.loads(contents[0])
            entries = document["keys"]
            keys = [_key(entry) for entry in entries]
        except (ValueError, TypeError, KeyError, RecursionError, jwt.PyJWTError) as error:
            raise AccessFileError(path, "is not a JSON web key set with public keys") from error
        usable = [key for key in keys if key.usable]
        if not usable:
            raise AccessFileError(path, f"has no key for {', '.join(sum(ALGORITHMS.values(), ()))}")
        names = [key.key_id for key in usable]
        if len(names) != len(set(names)):
            raise AccessFileError(path, "has two keys with the same kid")
        return usable

    return Reloaded([AccessFile(path, Secrecy.PUBLIC)], parse)


def _key(entry: Mapping[str, Any]) -> _Key:
    """Return a key of the set; one that is for something else, or weak, is usable for nothing."""
    algorithms = ALGORITHMS.get((entry["kty"], entry.get("crv", "")), ())
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        algorithms = ()
    if "alg" in entry:
        algorithms = tuple(algorithm for algorithm in algorithms if algorithm == entry["alg"])
    usable = {algorithm: jwt.PyJWK(dict(entry), algorithm) for algorithm in algorithms}
    return _Key(entry.get("kid"), {name: key for name, key in usable.items() if _is_strong(key)})


def _is_strong(key: jwt.PyJWK) -> bool:
    return not isinstance(key.key, RSAPublicKey) or key.key.key_size >= MIN_RSA_BITS
