"""The page and the chart that go beside the JSON: what was aimed at and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benches import fixed, growth, overhead
from benches.chart import Ratio, chart

HEAD = """# Measured speed

<!-- Made by scripts/bench.py (make bench). -->

All figures are in [bench.json](bench.json); what each part does is told by `python scripts/bench.py --help` and by the head of
its file in `scripts/benches`. A part can be measured alone (`make bench BENCH=speed`), so each has its own machine.

| part | date | CPUs | Python | load at its start |
|---|---|---|---|---|
"""
GOALS = """
| part | what | measured | at most | met |
|---|---|---|---|---|
"""
SPEED = """
## Beside the ffmpeg program

![ratios](bench.svg)

Medians of the ratios of neighbouring runs, least and most in brackets; of wall and CPU seconds and peak memory, the service with
its workers to the program with its own choice of threads. "Unchecked" is without the final check, which decodes the result. Memory
allowed is {workers} times the program's with one thread and 250 MB.

| case | frames | segments | wall | CPU | CPU unchecked | memory | of memory allowed |
|---|---|---|---|---|---|---|---|
"""
STAGES = """
Where the service's time goes: wall and CPU seconds of each phase in the last run. ANALYZE measures the noise, PLAN reads the
packet index, ENHANCE decodes, filters, encodes, measures and checks all segments, JOIN writes the file, VERIFY compares the result with plan
and source; the CPU seconds of decoding the segments are told there, their wall seconds are within ENHANCE. PLAN does not tell its CPU seconds.

| case | ANALYZE | PLAN | ENHANCE | JOIN | VERIFY |
|---|---|---|---|---|---|
"""
_SHOWN = {"wall": "wall", "cpu": "CPU", "memory": "memory"}


def page(results: Mapping[str, Any]) -> str:
    """Return Markdown of the results of all parts.

    Args:
        results: the JSON object, a part by its name.
    """
    machines = [
        _machine_row(part, result["machine"]) for part, result in results.items() if "machine" in result
    ]
    rows = [
        f"| {part} | {name.replace('_', ' ')} | {goal['measured']} | {goal['at_most']} | {'yes' if goal['met'] else 'no'} |"
        for part, result in results.items()
        for name, goal in result.get("goals", {}).items()
    ]
    text = HEAD + "\n".join(machines) + "\n" + GOALS + "\n".join(rows) + "\n"
    tables = {
        "speed": _speed,
        fixed.NAME: fixed.table,
        growth.NAME: growth.table,
        overhead.NAME: overhead.table,
    }
    return text + "".join(table(results[part]) for part, table in tables.items() if part in results)


def ratios_chart(speed: Mapping[str, Any]) -> str:
    """Return an SVG chart of the part `speed`."""
    rows = [(case["case"], [_ratio(case, name) for name in _SHOWN]) for case in speed["cases"]]
    return chart("The service to the ffmpeg program", list(_SHOWN.values()), rows)


def _machine_row(part: str, machine: Mapping[str, Any]) -> str:
    load = machine["load_at_start"][0]
    return f"| {part} | {machine['date']} | {machine['cores']} | {machine['python']} | {load} |"


def _speed(speed: Mapping[str, Any]) -> str:
    cases = [
        f"| {case['case']} | {case['frames']} | {case['segments']} | "
        + " | ".join(_spread(_ratio(case, name)) for name in ("wall", "cpu", "unchecked_cpu", "memory"))
        + f" | {case['memory_of_what_is_allowed']} |"
        for case in speed["cases"]
    ]
    stages = [
        f"| {case['case']} | " + " | ".join(_stage_cells(case["stages"])) + " |" for case in speed["cases"]
    ]
    head = SPEED.format(workers=speed["workers"])
    return head + "\n".join(cases) + "\n" + STAGES + "\n".join(stages) + "\n"


def _stage_cells(stages: list[dict[str, Any]]) -> list[str]:
    return [f"{stage['wall_seconds']}, {stage['cpu_seconds'] or '?'}" for stage in stages]


def _ratio(case: Mapping[str, Any], name: str) -> Ratio:
    values = case[f"{name}_ratios"]
    return Ratio(least=min(values), median=case[f"{name}_ratio_median"], most=max(values))


def _spread(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})"
