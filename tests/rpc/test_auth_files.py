"""The files that decide who gets in: what is taken, what is refused and with which words, and what a change does."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from credentials import Authority, identity, key_pem, new_token, replace_file, sha256_of
from videoprocess_server.rpc.auth.access_file import AccessFile, AccessFileError, Reloaded, Secrecy
from videoprocess_server.rpc.auth.certificates import (
    SETTLE_SECONDS,
    TlsFiles,
    client_certificate,
    server_credentials,
)
from videoprocess_server.rpc.auth.identities import read_identities


def _texts(path: Path, wall: int = 2**62) -> Reloaded[str]:
    def parse(contents: object) -> str:
        (content,) = contents  # type: ignore[misc]
        if content == b"bad":
            raise AccessFileError(path, "is bad")
        if content == b"odd":
            raise ZeroDivisionError
        return str(content.decode())

    return Reloaded([AccessFile(path, Secrecy.SECRET)], parse, lambda: wall)


def test_a_change_is_seen_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    path = replace_file(tmp_path / "f", "one")
    texts = _texts(path)
    assert texts.current() == "one"
    replace_file(path, "two")
    assert texts.current() == "two"
    replace_file(path, "bad")
    assert texts.current() == "two"
    replace_file(path, "odd")
    assert texts.current() == "two"
    with pytest.raises(AccessFileError, match=r"f: cannot be understood \(ZeroDivisionError\)"):
        _texts(path)
    path.unlink()
    assert texts.current() == "two"
    replace_file(path, "three", 0o644)
    assert texts.current() == "two"
    path.chmod(0o600)
    assert texts.current() == "three"


def test_a_change_that_leaves_no_other_stamp_is_seen_while_it_may_still_come(tmp_path: Path) -> None:
    path = replace_file(tmp_path / "f", "one")
    recent, settled = _texts(path, wall=path.stat().st_ctime_ns), _texts(path)
    same = path.stat()
    path.write_text("two")
    os.utime(path, ns=(same.st_atime_ns, same.st_mtime_ns))
    assert recent.current() == "two"
    assert settled.current() == "two"  # the change time tells


@pytest.mark.parametrize(
    ("mode", "secrecy", "better"),
    [
        (0o604, Secrecy.SECRET, "600"),
        (0o620, Secrecy.SECRET, "600"),
        (0o666, Secrecy.PUBLIC, "644"),
        (0o664, Secrecy.PUBLIC, "644"),
    ],
)
def test_a_file_that_is_open_to_others_is_refused(
    tmp_path: Path, mode: int, secrecy: Secrecy, better: str
) -> None:
    path = replace_file(tmp_path / "f", "x", mode)
    with pytest.raises(AccessFileError, match=rf"f: is open to others \(mode {mode:o}\): chmod {better} it"):
        AccessFile(path, secrecy).read()
    path.chmod(int(better, 8))
    assert b"x" == AccessFile(path, secrecy).read()


def test_what_is_no_file_is_refused_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name, problem in {
        "fifo": "is not a regular file",
        "folder": "Is a directory",
        "absent": "No such file",
    }.items():
        with pytest.raises(AccessFileError, match=f"{name}: {problem}"):
            AccessFile(tmp_path / name, Secrecy.SECRET).read()


def test_tokens_and_certificates_lead_to_their_identity(tmp_path: Path) -> None:
    old, new = new_token(), new_token()
    path = replace_file(
        tmp_path / "tokens.toml",
        identity("alice", [1, 2], [old, new]) + identity("backup", "*", certificates=["backup.example"]),
    )
    identities = read_identities(path).current()
    for token in (old, new):
        found = identities.of_token(token)
        assert found is not None
        assert ("alice", True, False) == (found.name, 2 in found.users, 3 in found.users)
    backup = identities.of_certificate(["who.example", "backup.example"])
    assert backup is not None
    assert 3 in backup.users
    assert identities.of_token(sha256_of(old)) is None
    assert identities.of_token("") is None
    assert identities.of_token("\udcff") is None
    assert identities.of_certificate(["alice"]) is None


TOKEN = sha256_of("t")
FILES_THAT_ARE_NO_GOOD = {
    "": "must hold tables",
    "identities = 1": "must hold tables",
    "other = 1": "must hold tables",
    "[identities.a\n": "Expected",
    "[identities.a]": "identity 'a': users must be a list of user ids",
    "[identities.a]\nusers = [1]": "identity 'a': needs token_sha256 or certificate_names",
    "[identities.a]\nusers = [1]\ntoken = 'x'": "identity 'a': may have certificate_names, token_sha256, users only",
    "[identities.a]\nusers = [1]\ntoken_sha256 = ['secret']": "never the tokens",
    f"[identities.a]\nusers = [1]\ntoken_sha256 = '{TOKEN}'": "token_sha256 must be a list",
    f"[identities.a]\nusers = [true]\ntoken_sha256 = ['{TOKEN}']": "users must be a list",
    f"[identities.a]\nusers = [2147483648]\ntoken_sha256 = ['{TOKEN}']": "users must be a list",
    f'[identities."a\\n"]\nusers = [1]\ntoken_sha256 = ["{TOKEN}"]': "printable",
    f"[identities.a]\nusers=[1]\ntoken_sha256=['{TOKEN}']\n[identities.b]\nusers=[2]\ntoken_sha256=['{TOKEN}']": "another",
    "[identities.a]\nusers=[1]\ncertificate_names=['x']\n[identities.b]\nusers=[2]\ncertificate_names=['x']": "another",
}


@pytest.mark.parametrize(("content", "problem"), FILES_THAT_ARE_NO_GOOD.items())
def test_a_token_file_with_a_mistake_is_refused_in_one_line(
    tmp_path: Path, content: str, problem: str
) -> None:
    path = replace_file(tmp_path / "tokens.toml", content)
    with pytest.raises(AccessFileError, match=problem) as caught:
        read_identities(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


AUTHORITY = Authority()


def _tls(folder: Path, name: str = "server", lifetime: dt.timedelta = dt.timedelta(days=1)) -> TlsFiles:
    return TlsFiles(*AUTHORITY.issue(name, lifetime=lifetime).write(folder, name))


def _tls_problem(files: TlsFiles) -> str:
    with pytest.raises(AccessFileError) as caught:
        server_credentials(files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_good_files_make_credentials(tmp_path: Path) -> None:
    files = _tls(tmp_path)
    assert server_credentials(files)
    client_ca = replace_file(tmp_path / "ca.crt", AUTHORITY.pem, 0o644)
    assert server_credentials(TlsFiles(files.certificate, files.key, client_ca))


def test_connections_at_once_have_time_to_begin_before_a_certificate_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC uses what another connection's look may free meanwhile; tests/acceptance/test_tls.py has many at once."""
    fetchers: list[Callable[[], object]] = []
    pauses: list[float] = []
    monkeypatch.setattr(
        grpc, "dynamic_ssl_server_credentials", lambda _first, fetch, **_more: fetchers.append(fetch)
    )
    authority = Authority()
    files = TlsFiles(*authority.issue("one").write(tmp_path, "server"))
    server_credentials(files, pause=pauses.append)
    (fetch,) = fetchers
    assert (fetch(), pauses) == (None, [])
    authority.issue("two").write(tmp_path, "server")
    assert fetch() is not None
    assert pauses == [SETTLE_SECONDS]
    assert (fetch(), pauses) == (None, [SETTLE_SECONDS])


def test_a_certificate_that_is_over_or_not_there_is_refused(tmp_path: Path) -> None:
    assert "expired at" in _tls_problem(_tls(tmp_path, lifetime=dt.timedelta(hours=-1)))
    files = _tls(tmp_path)
    later = dt.datetime.now(dt.UTC) - dt.timedelta(days=30)
    with pytest.raises(AccessFileError, match="is not valid before"):
        server_credentials(files, lambda: later)
    replace_file(files.certificate, "no certificate", 0o644)
    assert "is not a certificate in PEM form" in _tls_problem(files)
    files.certificate.unlink()
    assert "No such file" in _tls_problem(files)


def test_a_key_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    files, key = _tls(tmp_path), ec.generate_private_key(ec.SECP256R1())
    for content, problem in (
        (key_pem(key), "is the key of another certificate"),
        (key_pem(key, b"secret"), "has a passphrase"),
        (key_pem(ed25519.Ed25519PrivateKey.generate()), "is neither an RSA nor an EC key"),
        (b"no key", "is not a private key in PEM form"),
    ):
        replace_file(files.key, content)
        assert problem in _tls_problem(files)
    replace_file(files.key, key_pem(key), 0o644)
    assert "is open to others" in _tls_problem(files)


def test_an_authority_that_is_none_is_refused(tmp_path: Path) -> None:
    files = _tls(tmp_path)
    client_ca = replace_file(tmp_path / "ca.crt", "none", 0o644)
    problem = _tls_problem(TlsFiles(files.certificate, files.key, client_ca))
    assert "ca.crt: is not a certificate in PEM form" in problem


def test_a_bundle_of_authorities_needs_one_that_is_valid(tmp_path: Path) -> None:
    over = Authority(lifetime=dt.timedelta(hours=-1)).pem
    files, client_ca = _tls(tmp_path), replace_file(tmp_path / "ca.crt", over, 0o644)
    assert "ca.crt: expired at" in _tls_problem(TlsFiles(files.certificate, files.key, client_ca))
    replace_file(client_ca, over + AUTHORITY.pem, 0o644)
    assert server_credentials(TlsFiles(files.certificate, files.key, client_ca))


def test_a_clients_certificate_is_known_by_its_alternative_names_else_by_its_common_name() -> None:
    alternatives = [
        x509.DNSName("a.example"),
        x509.UniformResourceIdentifier("spiffe://example.org/a"),
        x509.RFC822Name("a@example.org"),
    ]
    named = client_certificate(AUTHORITY.issue("common", alternatives).chain)
    assert ("a.example", "spiffe://example.org/a", "a@example.org") == named.names
    assert ("common",) == client_certificate(AUTHORITY.issue("common").chain).names
