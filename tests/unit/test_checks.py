"""What `videoprocess-server check` makes of what it finds; how it is told: tests/acceptance/test_postgres_service.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from postgres_server import PostgresServer
from videoprocess_server.checks import Verdict, find
from videoprocess_server.settings import Settings
from videoprocess_server.store import postgres_inspection


def test_clocks_apart_are_a_warning(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_inspection, "MOST_CLOCK_DIFFERENCE_US", 0)
    findings = find(Settings(data_dir=tmp_path, database_url=postgres.url()))
    (database,) = [finding for finding in findings if finding.name == "database"]
    assert database.verdict is Verdict.WARNING
    assert database.text.endswith("set both clocks by NTP")


def test_too_little_space_is_not_fit(tmp_path: Path) -> None:
    findings = find(Settings(data_dir=tmp_path, disk_reserve_bytes=1 << 60))
    assert [finding.name for finding in findings if finding.verdict is Verdict.UNFIT] == ["free space"]
