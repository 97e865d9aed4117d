"""Fixtures of more than one folder."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from service_harness import Api, Server, connect
from soaking import SOAKING

CLIPS = Path(__file__).parent / "clips"
RESULTS = Path(__file__).parent.parent / "docs" / "results"
#: a machine under load draws slowly, which says nothing about the code; other runs draw other examples only in a soak
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("sample", parent=settings.get_profile("default"), max_examples=20, derandomize=True)
settings.load_profile("default" if SOAKING else "sample")
_kills: Counter[str] = Counter()
_counts: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects what the tests print: the phases that random kills hit, and lines that say "count NAME = NUMBER"."""
    printed = report.capstdout if report.when == "call" else ""
    for phase, count in re.findall(r"'JOB_PHASE_(\w+)': (\d+)", printed):
        _kills[phase.lower()] += int(count)
    for name, count in re.findall(r"^count (\w+) = (\d+)$", printed, re.MULTILINE):
        _counts[name] += int(count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Keeps what a soak found."""
    if not SOAKING or "PYTEST_XDIST_WORKER" in os.environ:
        return
    counts = {
        name: len(terminalreporter.stats.get(name, ())) for name in ("passed", "failed", "error", "skipped")
    }
    found = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "arch": platform.machine()},
        "tests": counts,
        "kill_9_of_the_service_by_phase": dict(sorted(_kills.items())),
        "counts": dict(sorted(_counts.items())),
    }
    (RESULTS / "soak.json").write_text(json.dumps(found, indent=1) + "\n")


@pytest.fixture(autouse=True)
def _no_product_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set must not change a test."""
    for name in [
        name for name in os.environ if name.startswith("VIDEOPROCESS_") and name != "VIDEOPROCESS_SOAK"
    ]:
        monkeypatch.delenv(name)


@pytest.fixture(name="clips", scope="session")
def _clips() -> Path:
    return CLIPS


@pytest.fixture(name="media_root", scope="module")
def _media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared root with the clips of the project in it; tests may add theirs."""
    root = tmp_path_factory.mktemp("media")
    shutil.copytree(CLIPS, root, dirs_exist_ok=True)
    return root


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory, media_root: Path) -> Iterator[Server]:
    """One running service for the tests of a module."""
    data_dir = tmp_path_factory.mktemp("service") / "data"
    with Server(data_dir, "--shared-root", f"media={media_root}", "--workers", "1") as server:
        yield server


@pytest.fixture(name="api")
async def _api(server: Server) -> AsyncIterator[Api]:
    async with connect(server) as api:
        yield api
