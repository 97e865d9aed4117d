"""The file of identities: whose token or certificate it is, and which users its owner may act for.

[identities.camera-import]
users = [100, 101]
token_sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]

[identities."spiffe://example.org/backup"]
users = "*"
certificate_names = ["spiffe://example.org/backup"]
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videoprocess_server.engine.authorisation import UserSet
from videoprocess_server.rpc.auth.access_file import AccessFile, AccessFileError, Reloaded, Secrecy

MAX_IDENTITY_CHARACTERS = 256
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = frozenset({"users", "token_sha256", "certificate_names"})


@dataclass(frozen=True)
class Identity:
    """Somebody whom the operator knows."""

    name: str
    users: UserSet


class Identities:
    """All of them, by token and by certificate.

    Tokens are looked up under a secret of this process, so that the time it takes tells nothing of the digests.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._by_token: dict[bytes, tuple[bytes, Identity]] = {}
        self._by_certificate: dict[str, Identity] = {}

    def of_token(self, token: str) -> Identity | None:
        """Return whose token it is."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = self._by_token.get(self._blinded(digest))
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        return found[1]

    def of_certificate(self, names: Iterable[str]) -> Identity | None:
        """Return whose certificate has one of these names."""
        return next((self._by_certificate[name] for name in names if name in self._by_certificate), None)

    def add(self, identity: Identity, digests: Iterable[bytes], certificate_names: Iterable[str]) -> None:
        """Add one.

        Raises:
            ValueError: a token or a certificate is somebody else's already.
        """
        for digest in digests:
            if self._by_token.setdefault(self._blinded(digest), (digest, identity))[1] is not identity:
                raise ValueError("has a token of another identity")
        for name in certificate_names:
            if self._by_certificate.setdefault(name, identity) is not identity:
                raise ValueError(f"has the certificate name {name!r} of another identity")

    def _blinded(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._key, digest_size=32).digest()


def read_identities(path: Path) -> Reloaded[Identities]:
    """Read the file, and again when it changes.

    Raises:
        AccessFileError: it cannot be used.
    """

    def parse(contents: Sequence[bytes]) -> Identities:
        try:
            return _parse(contents[0])
        except ValueError as error:  # of TOML and of text too
            raise AccessFileError(path, str(error)) from error

    return Reloaded([AccessFile(path, Secrecy.SECRET)], parse)


def _parse(content: bytes) -> Identities:
    document = tomllib.loads(content.decode())
    tables = document.pop("identities", None)
    if document or not isinstance(tables, dict) or not tables:
        raise ValueError("must hold tables [identities.NAME], and nothing else")
    identities = Identities()
    for name, table in tables.items():
        try:
            _add(identities, name, table)
        except ValueError as error:
            raise ValueError(f"identity {name!r}: {error}") from error
    return identities


def _add(identities: Identities, name: str, table: Any) -> None:  # noqa: ANN401 - whatever the file holds
    if not (name and name.isprintable() and len(name) <= MAX_IDENTITY_CHARACTERS):
        raise ValueError(f"a name has 1 to {MAX_IDENTITY_CHARACTERS} printable characters")
    if not isinstance(table, dict) or not table.keys() <= _KEYS:
        raise ValueError(f"may have {', '.join(sorted(_KEYS))} only")
    try:
        users = UserSet.parse(table.get("users"))
    except ValueError as error:
        raise ValueError(f"users {error}") from error
    digests, certificate_names = _texts(table, "token_sha256"), _texts(table, "certificate_names")
    if not all(_DIGEST.fullmatch(digest) for digest in digests):
        raise ValueError("token_sha256 must be SHA-256 digests of 64 lower-case hex digits, never the tokens")
    if not digests and not certificate_names:
        raise ValueError("needs token_sha256 or certificate_names")
    identities.add(Identity(name, users), [bytes.fromhex(digest) for digest in digests], certificate_names)


def _texts(table: dict[str, Any], key: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry for entry in value):
        raise ValueError(f"{key} must be a list of strings")
    return value
