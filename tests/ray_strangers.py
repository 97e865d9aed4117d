"""Machines of a Ray cluster that are not as the service's, for tests: Ray started by another Python environment, on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import psutil

_INSTALLED = Path(sysconfig.get_path("purelib"))
#: in a machine's folder
_HOME = "python"
_RAY = "from ray.scripts.scripts import main; main()"


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """What is different on such a machine."""

    #: whether our package is installed
    has_package: bool = True
    #: versions of distributions of ours or others', as they tell them; the code is what is installed here
    versions: tuple[tuple[str, str], ...] = ()
    #: really installed there, for pip: others than here
    installs: tuple[str, ...] = ()
    #: run by each of its Python processes first
    first: str = ""
    #: of Ray's variables
    niceness: str = "0"


@contextmanager
def started(stranger: Stranger, folder: Path, *arguments: str) -> Iterator[None]:
    """Have it run `ray start` with these arguments; the test waits until it is seen."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            [_python(stranger, folder), "-c", _RAY, "start", *arguments, "--disable-usage-stats", "--block"],
            env={**environment, "RAY_worker_niceness": stranger.niceness},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        for one in (*psutil.Process(process.pid).children(recursive=True), process):
            one.kill()
        process.wait()
        shutil.rmtree(folder / _HOME)


def _python(stranger: Stranger, folder: Path) -> str:
    """Make its environment, which sees what is installed here behind what is its own."""
    home = folder / _HOME
    venv.EnvBuilder(symlinks=True).create(home)
    (own,) = home.glob("lib/python*/site-packages")
    for name, version in stranger.versions:
        _pretend(own, name, version)
    if stranger.installs:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(own)]
        subprocess.run([*command, *stranger.installs], check=True)
    site = f"import site; site.addsitedir({str(_INSTALLED)!r})" if stranger.has_package else str(_INSTALLED)
    (own / "installed.pth").write_text(f"{site}\n")
    (own / "sitecustomize.py").write_text(stranger.first)
    return str(home / "bin" / Path(sys.executable).name)


def _pretend(own: Path, name: str, version: str) -> None:
    """Put a distribution of another version first: its files are links to what is installed, but for what tells the version."""
    (own / f"{name}-{version}.dist-info").mkdir()
    (own / f"{name}-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    files: Sequence[Path] = [Path(str(file)) for file in distribution(name).files or ()]
    for file in files:
        if file.parts[0] in (name, f"{name}.libs"):
            (own / file).parent.mkdir(parents=True, exist_ok=True)
            (own / file).symlink_to(_INSTALLED / file)
    about = own / name / "about.py"
    if about.exists():
        about.unlink()
        about.write_text(f"__version__ = {version!r}\n")
