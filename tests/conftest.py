"""Fixtures of more than one folder."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from postgres_server import VARIABLE, PostgresServer
from s3_server import s3_server  # noqa: F401  a fixture
from service_harness import Api, Server, connect
from soaking import SOAKING

CLIPS = Path(__file__).parent / "clips"
RESULTS = Path(__file__).parent.parent / "docs" / "results"
#: a machine under load draws slowly, which says nothing about the code; other runs draw other examples only in a soak
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("sample", parent=settings.get_profile("default"), max_examples=20, derandomize=True)
settings.load_profile("default" if SOAKING else "sample")
#: what a soak found, by test file
_found: defaultdict[str, Counter[str]] = defaultdict(Counter)

# What a shell runs in the background ignores Ctrl-C, and so would all programs that tests start there and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects outcomes, and what tests print: phases that random kills hit, lines that say "count NAME = NUMBER"."""
    found = _found[report.nodeid.partition("::")[0]]
    found["seconds"] += report.duration  # type: ignore[assignment]
    if report.when == "call" or not report.passed:
        found[report.outcome] += 1
    if report.when == "call":
        for phase, count in re.findall(r"'JOB_PHASE_(\w+)': (\d+)", report.capstdout):
            found[f"kill_9_in_{phase.lower()}"] += int(count)
        for name, count in re.findall(r"^count (\w+) = (\d+)$", report.capstdout, re.MULTILINE):
            found[name] += int(count)


def pytest_terminal_summary() -> None:
    """Keeps what a soak found: of each test file what its newest soak did."""
    if not SOAKING or "PYTEST_XDIST_WORKER" in os.environ:
        return
    kept = RESULTS / "soak.json"
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "arch": platform.machine()}
    told = json.loads(kept.read_text()) if kept.exists() else {}
    for name, found in _found.items():
        counts = {key: round(found[key]) for key in sorted(found)}
        told[name] = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine, **counts}
    kept.write_text(json.dumps(dict(sorted(told.items())), indent=1) + "\n")


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


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a process; where none is installed they are skipped."""
    server = PostgresServer().start()
    os.environ[VARIABLE] = server.url()
    yield server
    del os.environ[VARIABLE]
    server.remove()


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
