"""The documents: what they link to and name is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from videoprocess_server.errors import CATALOGUE

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("proto/*.md"), *ROOT.glob("examples/*.md")]
)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_NAMED = re.compile(r"`((?:tests|scripts|docs)/[\w./*-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_and_names_is_there(page: Path) -> None:
    text = page.read_text()
    linked = [target for target in _LINK.findall(text) if "://" not in target]
    missing = [target for target in linked if not (page.parent / target).exists()]
    missing += [name for name in _NAMED.findall(text) if not list(ROOT.glob(name.rstrip("/")))]
    assert [] == missing


def test_every_reason_has_advice_and_all_advice_a_reason() -> None:
    troubleshooting = runpy.run_path(str(ROOT / "scripts" / "troubleshooting.py"))
    advice = troubleshooting["ADVICE"]
    told = re.findall(
        r"^\| <a id=\"\w+\"></a>`(\w+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE
    )
    assert sorted(told) == sorted(CATALOGUE)
    for wrong in (
        {**advice, "Any call": {}},
        {**advice, "More": {"NO_SUCH_REASON": "x"}},
        {**advice, "More": {"INTERNAL": "x"}},
    ):
        with pytest.raises(troubleshooting["AdviceError"]):
            troubleshooting["check"](wrong)
