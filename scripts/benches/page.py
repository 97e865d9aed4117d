"""The page that goes beside the JSON: what was aimed at and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benches import fixed, growth

HEAD = """# Measured speed

<!-- Made by scripts/bench.py (make bench). -->

{machine}; seed {seed}. All figures are in [bench.json](bench.json); what each part does is told by
`python scripts/bench.py --help` and by the head of its file in `scripts/benches`.
"""
TABLE = "\n| part | what | measured | at most | met |\n|---|---|---|---|---|\n"


def page(results: Mapping[str, Any]) -> str:
    """Return Markdown of a run's results.

    Args:
        results: the JSON object.
    """
    machine = results["machine"]
    told = f"{machine['date']}, {machine['cores']} CPUs, Python {machine['python']}, load {machine['load_at_start'][0]} at its start"
    rows = [
        f"| {part} | {name.replace('_', ' ')} | {goal['measured']} | {goal['at_most']} | {'yes' if goal['met'] else 'no'} |"
        for part, result in results.items()
        if isinstance(result, dict)
        for name, goal in result.get("goals", {}).items()
    ]
    text = HEAD.format(machine=told, seed=results["seed"]) + TABLE + "\n".join(rows) + "\n"
    if "peer" in results:
        peer = results["peer"]
        text += (
            f"\nBeside the ffmpeg program with the same filters and encoder ({peer['clip']}, {peer['frames']} frames): "
            f"{peer['wall_ratio_median']} times its wall seconds, {peer['cpu_ratio_median']} times its CPU seconds.\n"
        )
    for part in (fixed, growth):
        if part.NAME in results:
            text += part.table(results[part.NAME])
    return text
