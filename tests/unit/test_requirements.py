"""The locked requirements: what pyproject.toml asks for, each at one version, each file with its hash."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_EXTRAS = PROJECT["project"]["optional-dependencies"]
_GROUPS = PROJECT["dependency-groups"]
ASKED_FOR = {
    "runtime": [*PROJECT["project"]["dependencies"], *_GROUPS["build"]],
    "dev": [
        *PROJECT["project"]["dependencies"],
        *_GROUPS["build"],
        *_EXTRAS["stabilise"],
        *_EXTRAS["tracing"],
        *_EXTRAS["direct"],
        *_EXTRAS["plots"],
        *_EXTRAS["dev"],
    ],
    "audit": _GROUPS["audit"],
    "build": _GROUPS["build"],
    "manifests": _GROUPS["manifests"],
    "service": [*PROJECT["project"]["dependencies"], *_EXTRAS["tracing"]],
    "service-stabilise": [*PROJECT["project"]["dependencies"], *_EXTRAS["stabilise"], *_EXTRAS["tracing"]],
}


def _locked(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package of a file; one version for each mark of an environment is enough."""
    found: dict[str, tuple[str, int]] = {}
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==(\S+)", line):
            found[canonicalize_name(match[1])] = (match[2], line.count("--hash=sha256:"))
    return found


def _asked(name: str) -> Iterator[Requirement]:
    for text in ASKED_FOR[name]:
        requirement = Requirement(text)
        if requirement.name != "videoprocess":
            yield requirement


@pytest.mark.parametrize("name", ASKED_FOR)
def test_what_the_project_asks_for_is_locked_as_it_asks(name: str) -> None:
    locked = _locked(name)
    for requirement in _asked(name):
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: make lock"


@pytest.mark.parametrize("name", ASKED_FOR)
def test_every_package_has_hashes(name: str) -> None:
    assert all(hashes for _, hashes in _locked(name).values())


@pytest.mark.parametrize("name", ["runtime", "build", "service", "service-stabilise"])
def test_one_version_in_all_files(name: str) -> None:
    dev = _locked("dev")
    assert {package: version for package, (version, _) in _locked(name).items()}.items() <= {
        package: version for package, (version, _) in dev.items()
    }.items()


def test_what_makes_a_wheel_is_what_the_build_system_asks_for() -> None:
    assert set(PROJECT["build-system"]["requires"]) <= set(_GROUPS["build"])
