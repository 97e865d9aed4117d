"""Certificates, tokens and the files that a server reads them from: made anew for each test."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

ISSUER = "https://issuer.example"
AUDIENCE = "videoprocess-test"
LEEWAY_SECONDS = 30  # of the service
LOCALHOST = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, both in PEM form."""

    chain: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both, as an operator would; a file that is there is replaced."""
        return (
            replace_file(folder / f"{name}.crt", self.chain, 0o644),
            replace_file(folder / f"{name}.key", self.key, 0o600),
        )


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "test authority", lifetime: dt.timedelta = dt.timedelta(days=1)) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _sign(name, self._key, self._key, None, (), lifetime, is_authority=True)
        self.pem = _pem(self._certificate)

    def issue(
        self,
        name: str,
        alternatives: Sequence[x509.GeneralName] = (),
        lifetime: dt.timedelta = dt.timedelta(days=1),
    ) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(name, key, self._key, self._certificate, alternatives, lifetime)
        return Certificate(_pem(certificate), key_pem(key))


def _sign(
    name: str,
    key: Any,
    signer: Any,
    issuer: x509.Certificate | None,
    alternatives: Sequence[x509.GeneralName],
    lifetime: dt.timedelta,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: Any, passphrase: bytes | None = None) -> bytes:
    protection: Any = serialization.NoEncryption()
    if passphrase is not None:
        protection = serialization.BestAvailableEncryption(passphrase)
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    return pem


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def replace_file(path: Path, content: bytes | str, mode: int = 0o600) -> Path:
    """Replace a file as a whole, with its mode."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.chmod(mode)
    part.replace(path)
    return path


def new_token() -> str:
    return secrets.token_urlsafe(32)


def sha256_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def identity(name: str, users: object, tokens: Sequence[str] = (), certificates: Sequence[str] = ()) -> str:
    """A table of the token file."""
    lines = [f"[identities.{json.dumps(name)}]", f"users = {json.dumps(users)}"]
    if tokens:
        lines.append(f"token_sha256 = {json.dumps([sha256_of(token) for token in tokens])}")
    if certificates:
        lines.append(f"certificate_names = {json.dumps(list(certificates))}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class SigningKey:
    """A key of an issuer of JSON web tokens."""

    key_id: str
    key: Any
    algorithm: str

    @classmethod
    def make(cls, key_id: str, algorithm: str = "ES256") -> SigningKey:
        kinds: Mapping[str, Any] = {
            "RS": lambda: rsa.generate_private_key(65537, 2048),
            "PS": lambda: rsa.generate_private_key(65537, 2048),
            "ES": lambda: ec.generate_private_key(ec.SECP256R1()),
            "Ed": ed25519.Ed25519PrivateKey.generate,
        }
        return cls(key_id, kinds[algorithm[:2]](), algorithm)

    def public(self, **more: Any) -> dict[str, Any]:
        """Its entry of a key set."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        entry: dict[str, Any] = json.loads(algorithm.to_jwk(self.key.public_key()))  # type: ignore[attr-defined]
        return entry | {"kid": self.key_id, "use": "sig"} | more

    def token(self, subject: str, user_ids: object, /, lasts_seconds: float = 3600, **more: Any) -> str:
        """A token; a claim that is given as None is left out."""
        claims = {
            "sub": subject,
            "user_ids": user_ids,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": int(time.time() + lasts_seconds),
        } | more
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.key, self.algorithm, headers={"kid": self.key_id})


def key_set(*keys: SigningKey) -> str:
    return json.dumps({"keys": [key.public() for key in keys]})


def token_of_parts(header: object, claims: object, signature: bytes = b"") -> str:
    """A token of whatever somebody would like it to be made of."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed_with_public_key(key: SigningKey, claims: object) -> str:
    """The trick that takes a public key, which everybody knows, for a shared secret."""
    header = {"alg": "HS256", "typ": "JWT", "kid": key.key_id}
    signed = token_of_parts(header, claims).rpartition(".")[0]
    return token_of_parts(header, claims, hmac.digest(public_pem(key.key), signed.encode(), "sha256"))


def jwt_flags(path: Path) -> tuple[str, ...]:
    return ("--jwks-file", str(path), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
