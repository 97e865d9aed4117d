"""Sends the same clips through ffmpeg and HandBrakeCLI and judges their results as ours: docs/results/others.

    python scripts/compare_tools.py WORK [--jobs 2] [--without NAME...] [--kept docs/results/kept.json] [--out docs/results/others]

WORK is what `kept_table.py --work` left, and KEPT what it wrote. These tools have no report, so what they do not keep counts
as lost.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from kept import programs
from kept.columns import TABLE
from kept.results import Made, read_results
from kept.verdict import KEPT, LOST, NAMED, Row, judge

ROOT = Path(__file__).parent.parent
PATIENCE_SECONDS = 1200.0
OURS = "videoprocess"


@dataclass(frozen=True)
class Tool:
    """Another tool: the commands a user tries, one after the other until one makes a file, and its containers."""

    package: str
    version: tuple[str, ...]
    #: source and output → commands
    commands: Callable[[Path, Path], Sequence[Sequence[str]]]
    #: suffix of the source → of the output, where it is another
    suffixes: Mapping[str, str]


def _ffmpeg(source: Path, output: Path) -> Sequence[Sequence[str]]:
    head = ("ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source))
    copy = ("-map", "0", "-c", "copy", "-c:v", "libx264", "-preset", "veryfast")
    return (
        (*head, *copy, str(output)),
        (*head, *copy, "-map", "-0:d", str(output)),
        (*head, "-map", "0:v:0", "-map", "0:a?", *copy[2:], str(output)),
    )


def _handbrake(source: Path, output: Path) -> Sequence[Sequence[str]]:
    kept = ("--all-audio", "--all-subtitles", "--markers", "--aencoder", "copy", "--vfr", "--crop", "0:0:0:0")
    encoder = ("-e", "x264", "--encoder-preset", "veryfast")
    return (("HandBrakeCLI", "-i", str(source), "-o", str(output), *encoder, *kept),)


#: H.264 goes into Matroska, not into WebM
TOOLS: Mapping[str, Tool] = {
    "ffmpeg": Tool("ffmpeg", ("ffmpeg", "-version"), _ffmpeg, {".webm": ".mkv"}),
    "HandBrakeCLI": Tool(
        "handbrake-cli",
        ("HandBrakeCLI", "--version"),
        _handbrake,
        {".mov": ".mp4", ".3gp": ".mp4", ".webm": ".mkv"},
    ),
}


def main(argv: Sequence[str]) -> int:
    """Make the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Tells what other tools keep of the same clips.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="files at a time")
    parser.add_argument("--without", nargs="*", default=(), metavar="NAME", help="clips that are left out")
    parser.add_argument("--kept", type=Path, default=ROOT / "docs" / "results" / "kept.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "others")
    arguments = parser.parse_args(argv)
    absent = [tool.package for tool in TOOLS.values() if shutil.which(tool.version[0]) is None]
    if absent or programs.missing():
        sys.stderr.write(f"install first: apt-get install {' '.join({*absent, *programs.missing()})}\n")
        return 2
    ours = [made for made in read_results(arguments.work) if made.source.name not in arguments.without]
    judged = {row["name"]: row for row in json.loads(arguments.kept.read_text())["clips"]}
    rows = {OURS: [Row.of_plain(judged[made.source.name]) for made in ours]}
    for name, tool in TOOLS.items():
        with ThreadPoolExecutor(arguments.jobs) as pool:
            made = list(pool.map(partial(_made, name, tool, arguments.work), ours))
        rows[name] = _judged(made, arguments.jobs)
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: _version(tool) for name, tool in TOOLS.items()},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(page(rows, facts))
    plain = {name: [row.plain() for row in made_rows] for name, made_rows in rows.items() if name != OURS}
    arguments.out.with_suffix(".json").write_text(
        json.dumps({**facts, **plain}, indent=1, ensure_ascii=False) + "\n"
    )
    return 0


def _judged(made: Sequence[Made], jobs: int) -> list[Row]:
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(judge, made))


def _made(name: str, tool: Tool, work: Path, ours: Made) -> Made:
    """Have a tool make its result of a source; one that is there stays."""
    folder = work / name
    folder.mkdir(exist_ok=True)
    suffix = tool.suffixes.get(ours.source.suffix.lower(), ours.source.suffix)
    output = folder / ours.source.with_suffix(suffix).name
    failures = []
    if not output.exists():
        part = output.with_name(f"part-{output.name}")
        for command in tool.commands(ours.source, part):
            run = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
            if run.returncode == 0 and part.exists() and part.stat().st_size:
                part.rename(output)
                break
            lines = run.stderr.decode(errors="replace").strip().splitlines()
            failures.append(lines[-1] if lines else f"exit code {run.returncode}")
    print(f"{name} {ours.source.name}: {'; '.join(failures) or 'made'}", flush=True)
    return Made(ours.source, output if output.exists() else None, {"failure": "; ".join(failures)})


def _version(tool: Tool) -> str:
    run = subprocess.run(tool.version, capture_output=True, text=True, check=False)
    lines = [line for line in (*run.stdout.splitlines(), *run.stderr.splitlines()) if line]
    told = next((line for line in lines if line.startswith(("ffmpeg", "HandBrake"))), "unknown")
    return told.partition(" Copyright")[0]


def page(rows: Mapping[str, Sequence[Row]], facts: Mapping[str, Any]) -> str:
    """Write the counts in Markdown, and what each tool loses of each clip."""
    names = list(rows)
    software = ", ".join(facts["versions"].values())
    lines = [
        "# What other tools keep of the same clips",
        "",
        "<!-- Made by scripts/compare_tools.py. -->",
        "",
        f"{len(rows[OURS])} clips; {facts['date']}; {software}; judged as in [what results keep](kept.md).",
        "",
        "- **ffmpeg**: `ffmpeg -i IN -map 0 -c copy -c:v libx264 -preset veryfast OUT`; where it refuses a track, the same without data tracks, then with",
        "  the first picture track and the sound only.",
        "- **HandBrakeCLI**: `-e x264 --encoder-preset veryfast --all-audio --all-subtitles --markers --aencoder copy --vfr --crop 0:0:0:0`.",
        "",
        "The measure is ours, and strict: sample descriptions of copied tracks byte for byte, every tag, every time. Both tools turn rotated",
        "pictures upright, so that players show them right although rotation, size and pictures are others; ffmpeg has options for some",
        "of what it loses here. What exactly differs is in the JSON file beside this page.",
        "",
        "Clips of which a thing is kept / named / lost, of those that have it:",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {column.name} | {' | '.join(_counts(rows[name], column.name) for name in names)} |"
            for column in TABLE
        ),
        f"| no result | {' | '.join(str(sum(bool(row.failure) for row in rows[name])) for name in names)} |",
        "",
        "What is lost of each clip:",
        "",
        f"| clip | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {both[0].name} | {' | '.join(_lost(row) for row in both)} |"
            for both in zip(*rows.values(), strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


def _counts(rows: Sequence[Row], column: str) -> str:
    counts = Counter(row.cells[column].verdict for row in rows if column in row.cells)
    lost = f"**{counts[LOST]}**" if counts[LOST] else "0"
    return f"{counts[KEPT]} / {counts[NAMED]} / {lost}"


def _lost(row: Row) -> str:
    told = row.failure or ", ".join(row.lost) or "nothing"
    return told.replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
