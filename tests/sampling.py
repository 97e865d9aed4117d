"""`pytest --sample SEED` passes one test of each file, of those that are selected, drawn with the seed."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=int, metavar="SEED", help="of each file one test, drawn with the seed")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Come after what else selects."""
    seed = config.getoption("--sample")
    if seed is None:
        return
    by_file: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        by_file[item.nodeid.partition("::")[0]].append(item)
    drawn = {id(random.Random(f"{seed} {name}").choice(tests)) for name, tests in by_file.items()}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in drawn])
    items[:] = [item for item in items if id(item) in drawn]
