"""Where Ray is not installed, nothing but one line comes of asking for it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from videoprocess_server.execution.ray_executor import ClusterUnfitError
from videoprocess_server.executors import EXECUTORS, examine_ray
from videoprocess_server.settings import Settings


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed: make test-scale has been here")
def test_the_missing_extra_is_told_in_a_line_and_nothing_is_started(tmp_path: Path) -> None:
    before = psutil.Process().children()  # servers of other tests
    with pytest.raises(ClusterUnfitError, match="pip install"):
        examine_ray(Settings(data_dir=tmp_path, executor="ray"))
    assert psutil.Process().children() == before


def test_every_executor_of_the_settings_is_there() -> None:
    assert set(EXECUTORS) == set(Settings.model_fields["executor"].annotation.__args__)


def test_choosing_an_executor_imports_nothing_of_ray() -> None:
    code = "import sys, videoprocess_server.executors; sys.exit('ray' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
