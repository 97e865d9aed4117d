"""Measures the service; prints one JSON object, and on stderr how far it is. `make bench` runs all parts.

    python scripts/bench.py [--only PART] [--seed N] [options of the parts]

Machines are shared, so CPU seconds stand beside wall seconds wherever something is compared. Goals stand beside what was
measured; a goal that is missed is told, and is no error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from benches import control, cost, fixed, forward, growth, interrupt, peer, scale
from benches.figures import say
from benches.page import page

#: in the order they run in
PARTS = {part.NAME: part for part in (peer, fixed, control, interrupt, forward, cost, growth, scale)}


def main() -> None:
    """Print the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", action="append", choices=list(PARTS), help="run this part; repeatable")
    parser.add_argument("--seed", type=int, default=None, help="of all random moments; drawn if not given")
    parser.add_argument(
        "--work-dir", type=Path, default=None, help="where data directories are made: a real disk"
    )
    parser.add_argument(
        "--out", type=Path, default=None, help="write OUT.json and OUT.md too, once all is measured"
    )
    for name, part in PARTS.items():
        summary = (part.__doc__ or "").splitlines()[0]
        part.add_options(parser.add_argument_group(name, summary))
    options = parser.parse_args()
    options.seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    say(f"seed {options.seed}")
    results: dict[str, Any] = {"seed": options.seed, "machine": _machine()}
    for name in options.only or PARTS:
        say(f"{name}: begins")
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=options.work_dir) as folder:
            results[name] = PARTS[name].run(options, Path(folder))
        results[name]["seconds"] = round(time.monotonic() - begin, 1)
        for goal_name, goal in results[name].get("goals", {}).items():
            say(f"{name}: {goal_name} {goal['measured']}, goal {goal['at_most']}: {goal['met']}")
    print(json.dumps(results, indent=1))
    if options.out is not None:
        options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(page(results))


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
