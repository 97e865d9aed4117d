"""Where Ray is not installed, nothing but one line comes of asking for it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from videoprocess_server.executors import CHECKS, EXECUTORS, check_ray
from videoprocess_server.settings import Settings


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed: make test-scale has been here")
def test_the_missing_extra_is_told_in_a_line_and_nothing_is_started(tmp_path: Path) -> None:
    before = psutil.Process().children()  # servers of other tests
    (line,) = check_ray(Settings(data_dir=tmp_path, executor="ray"))
    assert "pip install" in line
    assert psutil.Process().children() == before


def test_every_executor_of_the_settings_is_there() -> None:
    assert set(EXECUTORS) == set(CHECKS) == set(Settings.model_fields["executor"].annotation.__args__)


def test_choosing_an_executor_imports_nothing_of_ray() -> None:
    assert "ray" not in sys.modules
