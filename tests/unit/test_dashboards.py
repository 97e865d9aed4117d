"""What Prometheus and Grafana are given: every metric that it asks for is in the table, with labels that it has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from videoprocess_server.telemetry.metric_table import METRICS, PREFIX, Kind

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_ENDINGS = ("_bucket", "_sum", "_count")
_KNOWN = {row.full_name: {*row.labels} for row in METRICS} | {
    row.full_name + ending: {*row.labels, *(["le"] if ending == "_bucket" else [])}
    for row in METRICS
    if row.kind is Kind.HISTOGRAM
    for ending in _ENDINGS
}


def _dashboard() -> Iterator[str]:
    for panel in json.loads((DEPLOY / "grafana/dashboards/videoprocess.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def _texts() -> Iterator[tuple[str, str]]:
    yield from (("dashboard", text) for text in _dashboard())
    yield from (
        ("alerts.yml", text) for text in re.findall(r"expr: (.*)", (DEPLOY / "alerts.yml").read_text())
    )
    page = (ROOT / "docs" / "observability.md").read_text()
    yield from (("observability.md", text) for text in re.findall(r"`([^`]*videoprocess_[^`]*)`", page))


TEXTS = sorted({*_texts()})


@pytest.mark.parametrize(("where", "text"), TEXTS)
def test_what_is_asked_for_is_told(where: str, text: str) -> None:
    for name, matchers in re.findall(rf"({PREFIX}\w+)(?:\{{([^}}]*)\}})?", text):
        assert name in _KNOWN, where
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= _KNOWN[name], where
    for label in re.findall(r"by \(([\w, ]+)\)", text):
        (name, *_) = re.findall(rf"{PREFIX}\w+", text)
        assert set(label.split(", ")) <= _KNOWN[name], where


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for text in _dashboard() for name in re.findall(rf"{PREFIX}\w+", text)}
    hidden = {row.full_name for row in METRICS if not {row.full_name, f"{row.full_name}_bucket"} & shown}
    assert {"videoprocess_store_up", "videoprocess_stage_seconds_total"} == hidden
