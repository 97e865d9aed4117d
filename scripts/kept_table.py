"""Sends clips through a real server and asks ffprobe, MediaInfo and exiftool what the results kept: docs/results/kept.

    python scripts/kept_table.py MEDIA_FOLDER... [--work FOLDER] [--jobs 2] [--out docs/results/kept]

Takes the videos of the folders and clips that it makes itself. `--work` keeps clips, results and reports for the other
scripts, and does not make anew what is there. Writes OUT.md, a table, and OUT.json, all that was found. The exit code
is 1 where anything is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from kept import page, programs
from kept.made_clips import make_clips
from kept.results import Made, clips_of, make_results
from kept.verdict import Row, judge

ROOT = Path(__file__).parent.parent


def main(argv: Sequence[str]) -> int:
    """Make the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Tells what results keep of their sources.")
    parser.add_argument("folders", type=Path, nargs="*", metavar="MEDIA_FOLDER")
    parser.add_argument("--work", type=Path, help="keep clips, results and reports here")
    parser.add_argument("--jobs", type=int, default=2, help="videos at a time")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="only clips of these names")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "kept")
    arguments = parser.parse_args(argv)
    if missing := programs.missing():
        sys.stderr.write(f"install first: apt-get install {' '.join(missing)}\n")
        return 2
    work = arguments.work or Path(tempfile.mkdtemp(prefix="videoprocess-kept-"))
    try:
        made = asyncio.run(make_results(list(_sources(arguments, work)), work.resolve(), arguments.jobs))
        rows = judge_all(made, arguments.jobs)
    finally:
        if arguments.work is None:
            shutil.rmtree(work, ignore_errors=True)
    facts = machine_facts()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(page.page(rows, facts))
    arguments.out.with_suffix(".json").write_text(
        json.dumps({**facts, "clips": [row.plain() for row in rows]}, indent=1, ensure_ascii=False) + "\n"
    )
    return int(any(row.lost for row in rows))


def _sources(arguments: argparse.Namespace, work: Path) -> Iterator[Path]:
    clips = (*clips_of(arguments.folders), *make_clips(work.resolve() / "made"))
    return (path for path in clips if not arguments.only or path.name in arguments.only)


def judge_all(made: Sequence[Made], jobs: int) -> list[Row]:
    """Compare each result with its source."""
    with ThreadPoolExecutor(jobs) as pool:
        rows = []
        for row in pool.map(judge, made):
            print(f"{row.name}: {row.summary}", flush=True)
            rows.append(row)
    return rows


def machine_facts() -> dict[str, object]:
    """When, on what and with what."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "programs": programs.versions(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
