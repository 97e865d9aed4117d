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
    parser.add_argument("--out", type=Path, default=None, help="write OUT.json too, once all is measured")
    for name, part in PARTS.items():
        summary = (part.__doc__ or "").splitlines()[0]
        part.add_options(parser.add_argument_group(name, summary))
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": _machine()}
    for name in options.only or PARTS:
        say(f"{name}: begins")
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=options.work_dir) as folder:
            results[name] = PARTS[name].run(options, Path(folder))
        for goal_name, goal in results[name]["goals"].items():
            say(f"{name}: {goal_name} {json.dumps(goal)}")
    print(json.dumps(results, indent=1))
    if options.out is not None:
        options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


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
