"""A fake service and a client of it, both quick to try again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fake_service import FakeService, State

from client_command import Command
from videoprocess_client import Client, RetryPolicy

QUICK = RetryPolicy(
    patience_seconds=10.0, first_contact_seconds=5.0, initial_pause_seconds=0.01, max_pause_seconds=0.05
)


@pytest.fixture(name="state_home", autouse=True)
def _state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the command remembers stays in the test."""
    state_home = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home))
    return state_home


@pytest.fixture(name="left")
def _left(tmp_path: Path) -> Callable[[], list[str]]:
    """The names of the files that there are now."""
    return lambda: sorted(path.name for path in tmp_path.iterdir())


@pytest.fixture(name="state")
async def _state() -> State:
    return State()


@pytest.fixture(name="fake")
async def _fake(state: State) -> AsyncIterator[FakeService]:
    fake = await FakeService(state).start()
    yield fake
    await fake.stop()


@pytest.fixture(name="client")
async def _client(fake: FakeService) -> AsyncIterator[Client]:
    async with Client(fake.target, retry=QUICK) as client:
        yield client


@pytest.fixture(name="command")
def _command(fake: FakeService, tmp_path: Path) -> Command:
    (tmp_path / "in.mp4").write_bytes(b"abc")
    return Command(fake.target, tmp_path)
