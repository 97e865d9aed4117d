"""Measures uploads, downloads and Prepare of shared files; prints one JSON object, progress goes to stderr.

    python scripts/bench_transfer.py [--only PART] [options of the parts]

`make bench-transfer` runs all parts and keeps docs/results/transfer.json. Goals stand beside what was measured; a goal that is
missed is told, and is no error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from benches.figures import say
from transfers import memory, prepare, rates

#: in the order they run in
PARTS = {part.NAME: part for part in (rates, memory, prepare)}


def main() -> None:
    """Print the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", action="append", choices=list(PARTS), help="run this part; repeatable")
    parser.add_argument(
        "--work-dir", type=Path, default=None, help="where data directories are made: a real disk"
    )
    parser.add_argument(
        "--out", type=Path, default=None, help="write each part into OUT.json, whose other parts stay"
    )
    for name, part in PARTS.items():
        summary = (part.__doc__ or "").splitlines()[0]
        part.add_options(parser.add_argument_group(name, summary))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.only or PARTS:
        say(f"{name}: begins")
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=options.work_dir) as folder:
            machine = _machine()
            results[name] = {"machine": machine, **PARTS[name].run(options, Path(folder))}
        for goal_name, goal in results[name]["goals"].items():
            say(f"{name}: {goal_name} {json.dumps(goal)}")
        if options.out is not None:
            _keep(options.out.with_suffix(".json"), name, results[name])
    print(json.dumps(results, indent=1))


def _keep(path: Path, name: str, result: dict[str, Any]) -> None:
    """Write a part's result beside those of the others."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**kept, name: result}, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "arch": platform.machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


if __name__ == "__main__":
    main()
