"""The page of the reference's cases stays true: no case is missing, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "docs" / "reference-cases.md").read_text()
CASES = {*range(1, 16), *range(36, 74), 81, *range(96, 113)}
WEAKNESSES = [f"W{number}" for number in range(1, 19)]
FEATURES = [f"F{number}" for number in range(51, 70)]
TABLES = [
    [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)
]
ROWS = [row for table in TABLES for row in table]


def _names(path: Path) -> set[str]:
    """What pytest collects of a file: functions, methods and classes, one of them made by assignment."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


def test_the_tables_are_three_and_every_row_is_whole() -> None:
    cases, weaknesses, features = TABLES
    assert {len(row) for row in ROWS} == {4}
    assert all(all(row[:3]) for row in ROWS)
    numbers = [row[0] for row in cases]
    assert len(set(numbers)) == len(numbers)
    assert CASES <= {int(number) for number in numbers if number != "054"}
    assert "054" in numbers
    assert [row[0] for row in weaknesses] == WEAKNESSES
    assert [row[0] for row in features] == FEATURES


def test_a_case_is_the_same_or_different_or_does_not_apply() -> None:
    for row in TABLES[0]:
        assert re.match(r"the same\b|differently: |does not apply: ", row[2]), row


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_is_claimed_names_tests_that_are_there(row: list[str]) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row[3])
    assert bool(named) is not row[2].startswith("does not apply")
    assert row[3] == " ".join(f"`{path}::{name}`" for path, name in named)
    for path, name in named:
        assert name in _names(TESTS / path), f"{path} has no {name}"
