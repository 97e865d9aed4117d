"""docs/grpcurl.md as a program: its shell blocks in order, and what they are said to answer."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "grpcurl.md"
TOOLS = ROOT / "build" / "tools"
BUILD_SECONDS = 1200.0
_BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_METHOD = re.compile(r"\b([a-z][\w.]*\.[A-Z]\w*/[A-Z]\w*)")
_INSTALLED = re.compile(r"`go install (github\.com/fullstorydev/grpcurl/\S+)`")


@dataclass(frozen=True)
class Recipe:
    """A block of commands, and lines that must be in what they print; `…` in one stands for anything."""

    commands: str
    answers: tuple[str, ...]

    def unanswered(self, printed: str) -> list[str]:
        """Lines that are not there, in any order."""
        lines = {line.strip() for line in printed.splitlines()}
        return [answer for answer in self.answers if not any(_fits(answer, line) for line in lines)]


def _fits(answer: str, line: str) -> bool:
    """Whether they are the same line; a comma at the end is no matter, nor which spelling a field's name has."""
    pattern = ".*".join(re.escape(part) for part in _spelt_as_in_json(answer).rstrip(",").split("…"))
    return re.fullmatch(pattern, _spelt_as_in_json(line).rstrip(",")) is not None


def _spelt_as_in_json(line: str) -> str:
    """`"session_id": …` becomes `"sessionId": …`: grpcurl has written one or the other."""
    name, colon, value = line.partition(":")
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name) + colon + value


def read_recipes() -> list[Recipe]:
    """The page's recipes in order."""
    recipes: list[Recipe] = []
    for language, text in _BLOCK.findall(PAGE.read_text()):
        if language == "sh":
            recipes.append(Recipe(text, ()))
        else:
            answers = tuple(line.strip() for line in text.splitlines() if line.strip())
            recipes[-1] = Recipe(recipes[-1].commands, answers)
    return recipes


def called_methods() -> set[str]:
    """Methods that the recipes call, as `package.Service/Method`."""
    return {method for recipe in read_recipes() for method in _METHOD.findall(recipe.commands)}


def find_grpcurl() -> str:
    """A grpcurl: that of the PATH, or one made by Go as the page says; empty when there is neither."""
    if found := shutil.which("grpcurl"):
        return found
    module = _INSTALLED.search(PAGE.read_text())
    assert module is not None
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = TOOLS / "grpcurl"
        if not made.exists() and shutil.which("go") is not None:
            done = subprocess.run(
                ("go", "install", module[1]),
                env={**os.environ, "GOBIN": str(TOOLS)},
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
            )
            assert done.returncode == 0, done.stderr
    return str(made) if made.exists() else ""
