"""Where `videoprocess-server health` asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from videoprocess_server.cli import EXIT_UNHEALTHY, EXIT_USAGE, app
from videoprocess_server.probe_settings import ProbeSettings
from videoprocess_server.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, Settings

RUNNER = CliRunner()


def _set(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}{name.upper()}", value)


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ({}, "127.0.0.1:50051"),
        ({"listen": "0.0.0.0:7000"}, "127.0.0.1:7000"),
        ({"listen": "[::]:7000"}, "[::1]:7000"),
        ({"listen": "unix:/run/v.sock"}, "unix:/run/v.sock"),
        ({"listen": "10.0.0.1:7000", "health_listen": "0.0.0.0:7001", "tls_cert": "a.crt"}, "127.0.0.1:7001"),
    ],
)
def test_it_asks_where_the_service_listens(
    values: dict[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, **values)
    assert target == ProbeSettings().target(has_tls_ca=False)


def test_the_file_tells_it_too_and_the_rest_of_it_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags of `serve` may complete what would not do alone."""
    file = tmp_path / "service.toml"
    file.write_text('listen = "0.0.0.0:7000"\nworkers = 2\n')
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert "127.0.0.1:7000" == ProbeSettings().target(has_tls_ca=False)
    with pytest.raises(ValueError, match="--tls-cert"):
        Settings()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"listen": "127.0.0.1:0"}, "--target"),
        ({"tls_cert": "a.crt"}, "--tls-ca"),
        ({"config": "/nowhere.toml"}, "No such file"),
    ],
)
def test_what_it_cannot_know_is_told(
    values: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, **values)
    told = RUNNER.invoke(app, ["health"])
    assert EXIT_USAGE == told.exit_code
    assert problem in told.stderr


def test_where_nobody_listens_it_fails() -> None:
    told = RUNNER.invoke(app, ["health", "--target", "127.0.0.1:1"])
    assert EXIT_UNHEALTHY == told.exit_code
    assert "no answer from 127.0.0.1:1: UNAVAILABLE\n" == told.stdout


@pytest.mark.parametrize("address", ["50052", "host:", "host:70000", "unix:/run/v.sock"])
def test_an_address_for_probes_is_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="health_listen"):
        Settings(health_listen=address)
