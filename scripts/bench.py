"""Measures the service; prints one JSON object, and on stderr how far it is. `make bench` runs all parts.

    python scripts/bench.py [--only PART] [--seed N] [options of the parts]
    make bench [BENCH=PART] [JSON=1]

Of one part alone its own object is printed, with the seed and the machine beside its figures. What `--out` names keeps the
other parts' results from before.

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
from benches import control, cost, figures, fixed, forward, growth, interrupt, overhead, scale, speed
from benches.figures import say
from benches.page import page, ratios_chart

#: in the order they run in
PARTS = {
    part.NAME: part for part in (speed, fixed, control, interrupt, forward, cost, growth, scale, overhead)
}
#: what needs more than `make setup` installs is run by its name only
ASKED_FOR = (overhead.NAME,)


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
        "--out", type=Path, default=None, help="write OUT.json, OUT.md and OUT.svg too, once all is measured"
    )
    parser.add_argument("--quiet", action="store_true", help="do not tell how far it is")
    for name, part in PARTS.items():
        summary = (part.__doc__ or "").splitlines()[0]
        part.add_options(parser.add_argument_group(name, summary))
    options = parser.parse_args()
    options.seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    figures.quiet = options.quiet
    run = {"seed": options.seed, "machine": _machine()}
    results: dict[str, Any] = {}
    for name in options.only or [name for name in PARTS if name not in ASKED_FOR]:
        say(f"{name}: begins")
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=options.work_dir) as folder:
            results[name] = {**run, **PARTS[name].run(options, Path(folder))}
        results[name]["seconds"] = round(time.monotonic() - begin, 1)
        for goal_name, goal in results[name].get("goals", {}).items():
            say(f"{name}: {goal_name} {goal['measured']}, goal {goal['at_most']}: {goal['met']}")
    print(json.dumps(next(iter(results.values())) if len(results) == 1 else results, indent=1))
    if options.out is not None:
        _keep(options.out, results)


def _keep(out: Path, results: dict[str, Any]) -> None:
    """Write the files of all parts: those measured now, and what was measured of the others before."""
    kept = out.with_suffix(".json")
    before = json.loads(kept.read_text()) if kept.exists() else {}
    merged = {name: {**before, **results}[name] for name in PARTS if name in before or name in results}
    kept.write_text(json.dumps(merged, indent=1) + "\n")
    out.with_suffix(".md").write_text(page(merged))
    if "speed" in merged:
        out.with_suffix(".svg").write_text(ratios_chart(merged["speed"]))


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
