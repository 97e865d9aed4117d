"""Measures pictures against known truth and against other programs; prints one JSON object, progress goes to stderr.

    python scripts/bench_quality.py [--only PART] [--clips FILE …] [--out FOLDER]

`make bench-quality` runs all parts on the clips that come with the tests and keeps each part's numbers and plot under
docs/results. Goals stand beside what was measured; a goal that is missed is told, and is no error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
#: threads that wait for each other count as CPU; read once, when numpy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from quality import PARTS  # noqa: E402 - the line above says where it is


def main() -> None:
    """Print the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", action="append", choices=list(PARTS), help="run this part; repeatable")
    parser.add_argument(
        "--clips", nargs="+", type=Path, default=None, help="measure these clips instead of the tests' own"
    )
    parser.add_argument("--out", type=Path, default=None, help="write PART.json, and plots, into this folder")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": _machine()}
    for name in options.only or PARTS:
        part = PARTS[name]
        print(f"{name}: begins", file=sys.stderr, flush=True)
        began, cpu = time.monotonic(), os.times()
        clips = options.clips or [ROOT / "tests" / "clips" / clip for clip in part.DEFAULT_CLIPS]
        with tempfile.TemporaryDirectory(prefix=f"quality-{name}-") as folder:
            measured = part.run(Path(folder), clips)
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                _write(options.out, name, measured)
        results[name] = measured
        spent = sum(os.times()[:4]) - sum(cpu[:4])
        print(
            f"{name}: {time.monotonic() - began:.0f} s, {spent:.0f} s of CPU; goals missed: "
            f"{', '.join(_missed(measured)) or 'none'}",
            file=sys.stderr,
            flush=True,
        )
    print(json.dumps(results, indent=1))


def _write(folder: Path, name: str, measured: dict[str, Any]) -> None:
    (folder / f"quality-{name}.json").write_text(
        json.dumps({"machine": _machine(), name: measured}, indent=1) + "\n"
    )
    PARTS[name].plot(measured, folder / f"quality-{name}")


def _missed(value: object, path: Sequence[str] = ()) -> list[str]:
    """Name the goals that are not met, wherever they stand."""
    if not isinstance(value, dict):
        return []
    if value.get("met") is False:
        return ["/".join(path)]
    return [name for key, inner in value.items() for name in _missed(inner, (*path, str(key)))]


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "arch": platform.machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


if __name__ == "__main__":
    main()
