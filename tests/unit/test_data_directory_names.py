"""A data directory that was made survives a power loss, with all folders above it that were made with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from videoprocess_server.datadir import DataDirectory


def test_every_folder_that_is_made_has_its_name_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    with DataDirectory(tmp_path / "one" / "two" / "data"):
        assert {tmp_path, tmp_path / "one", tmp_path / "one" / "two"} == set(synced)
