"""Certificates: the service's own, and those that clients show."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from videoprocess_server.rpc.auth.access_file import AccessFile, AccessFileError, Reloaded, Secrecy

log = structlog.get_logger(__name__)

Now = Callable[[], dt.datetime]
#: between a look at the files and gRPC's use of what it brought lie microseconds
SETTLE_SECONDS = 0.25
#: kinds of names by which a client's certificate is known
_NAME_KINDS = (x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name)


@dataclass(frozen=True)
class TlsFiles:
    """Where the service's certificate is."""

    certificate: Path
    key: Path
    #: certificates of those who sign clients' certificates; None: clients need none
    client_ca: Path | None = None


@dataclass(frozen=True)
class ClientCertificate:
    """What a client's certificate says."""

    names: tuple[str, ...]
    expire_time: float


def server_credentials(
    files: TlsFiles, now: Now | None = None, pause: Callable[[float], None] = time.sleep
) -> grpc.ServerCredentials:
    """Return credentials whose files are looked at again for each new connection; open ones live on.

    Args:
        files: where they are.
        now: tells whether they are valid.
        pause: lets time pass.

    Raises:
        AccessFileError: the files cannot be used.
    """
    reloaded = Reloaded(*_parts(files, now or _now))
    told = reloaded.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        latest = reloaded.current()
        if latest is told:
            return None  # nothing new
        # gRPC calls this under a lock, but what it makes of the answer is used outside of it, and freed when there is another
        # one: two connections at once end the process (grpc/grpc#36693). So whoever was here before gets time to go on.
        pause(SETTLE_SECONDS)
        told = latest
        return latest

    fetcher: Any = fetch  # the stubs know nothing of None
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        told, fetcher, require_client_authentication=files.client_ca is not None
    )
    return credentials


@lru_cache(maxsize=1024)
def client_certificate(pem: bytes) -> ClientCertificate:
    """Return what the certificate of a connection says, which TLS has verified."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = tuple(str(attribute.value) for attribute in common)
    else:
        names = tuple(str(entry.value) for entry in alternatives if isinstance(entry, _NAME_KINDS))
    return ClientCertificate(names, certificate.not_valid_after_utc.timestamp())


def _parts(
    files: TlsFiles, now: Now
) -> tuple[list[AccessFile], Callable[[Sequence[bytes]], grpc.ServerCertificateConfiguration]]:
    parts = [AccessFile(files.certificate, Secrecy.PUBLIC), AccessFile(files.key, Secrecy.SECRET)]
    if files.client_ca is not None:
        parts.append(AccessFile(files.client_ca, Secrecy.PUBLIC))

    def parse(contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
        chain, key, *client_ca = contents
        certificate = _certificates(files.certificate, chain)[0]
        _check_time(files.certificate, [certificate], now())
        _check_key(files.key, key, certificate)
        if files.client_ca is not None:
            _check_time(files.client_ca, _certificates(files.client_ca, client_ca[0]), now())
        log.info("certificate", expires=certificate.not_valid_after_utc.isoformat())
        configuration: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
            [(key, chain)], root_certificates=client_ca[0] if client_ca else None
        )
        return configuration

    return parts, parse


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise AccessFileError(path, "is not a certificate in PEM form") from error


def _check_time(path: Path, certificates: Sequence[x509.Certificate], now: dt.datetime) -> None:
    """Return if one of the certificates is valid now: a bundle of authorities may have some that are over."""
    problems = [_problem_of_time(certificate, now) for certificate in certificates]
    if all(problems):
        raise AccessFileError(path, problems[0])


def _problem_of_time(certificate: x509.Certificate, now: dt.datetime) -> str:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        return f"expired at {end.isoformat()}: give a new certificate"
    return f"is not valid before {begin.isoformat()}: is the clock right?" if now < begin else ""


def _check_key(path: Path, content: bytes, certificate: x509.Certificate) -> None:
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise AccessFileError(path, "has a passphrase: give a key without one") from error
    except ValueError as error:
        raise AccessFileError(path, "is not a private key in PEM form") from error
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise AccessFileError(path, "is neither an RSA nor an EC key: give one of these")
    if key.public_key() != certificate.public_key():
        raise AccessFileError(path, "is the key of another certificate")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
