"""Sends every video of a folder through the installed server and compares results with sources: docs/results/clips.

    python scripts/clips_table.py MEDIA_DIR [--out docs/results/clips]

Segments are of one second, so that short clips have several. What is compared, and how, is in tests/clip_checks.py.
Writes OUT.md, a table, and OUT.json, all that was found; the exit code is 1 where a result is not what was promised.
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
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from clip_checks import ClipRow, examine  # noqa: E402
from service_harness import Server  # noqa: E402
from videoprocess.v1 import report_pb2  # noqa: E402
from videoprocess_client import Client, VideoProcessError, shared  # noqa: E402

SEGMENT_SECONDS, LONGEST_GOP_SECONDS = "1", "2"
SUFFIXES = {".mp4", ".mov", ".3gp", ".mkv", ".webm", ".m4v"}


@dataclass(frozen=True)
class Outcome:
    """One clip: its row, or why there is none."""

    name: str
    row: ClipRow | None
    failure: str
    seconds: float
    versions: dict[str, str]

    @property
    def faults(self) -> Sequence[str]:
        """What is not as promised."""
        return [self.failure] if self.row is None else self.row.faults


def main(argv: Sequence[str]) -> int:
    """Makes the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Examines results of all videos in a folder.")
    parser.add_argument("media_dir", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "clips")
    arguments = parser.parse_args(argv)
    work = Path(tempfile.mkdtemp(prefix="videoprocess-clips-"))
    try:
        sources = [
            path
            for path in sorted(arguments.media_dir.resolve().iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
        outcomes = asyncio.run(examine_all(sources, work))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    facts = machine_facts(outcomes)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(page(outcomes, facts))
    arguments.out.with_suffix(".json").write_text(
        json.dumps({**facts, "clips": [_plain(asdict(outcome)) for outcome in outcomes]}, indent=1) + "\n"
    )
    return int(any(outcome.faults for outcome in outcomes))


async def examine_all(sources: Sequence[Path], work: Path) -> list[Outcome]:
    """Runs one server over all clips, which lie in one folder, one after the other."""
    flags = ("--shared-root", f"media={sources[0].parent}")
    flags += ("--segment-seconds", SEGMENT_SECONDS, "--longest-gop-seconds", LONGEST_GOP_SECONDS)
    outcomes = []
    with Server(work / "data", *flags) as server:
        async with Client(server.address) as client:
            for source in sources:
                outcome = await examine_one(client, source, work / f"result-{source.name}")
                told = "; ".join(outcome.faults) or "as promised"
                print(f"{source.name}: {told} ({outcome.seconds:.1f} s)", flush=True)
                outcomes.append(outcome)
    return outcomes


async def examine_one(client: Client, source: Path, output: Path) -> Outcome:
    """Has one clip processed and compares."""
    started = time.monotonic()
    try:
        made = await client.enhance(shared("media", source.name), output)
    except VideoProcessError as error:
        return Outcome(source.name, None, str(error), time.monotonic() - started, {})
    seconds = time.monotonic() - started
    try:
        row = await asyncio.to_thread(examine, source, output, made.report)
    except (AssertionError, ValueError, OSError) as error:
        return Outcome(source.name, None, f"not comparable: {error!r}", seconds, {})
    return Outcome(source.name, row, "", seconds, _versions(made.report))


def _versions(report: report_pb2.ProcessReport) -> dict[str, str]:
    return {version.name: version.version for version in report.versions}


def machine_facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """When, on what and with what."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": next((outcome.versions for outcome in outcomes if outcome.versions), {}),
        "independent_ffmpeg": _independent_version(),
        "segment_seconds": SEGMENT_SECONDS,
        "longest_gop_seconds": LONGEST_GOP_SECONDS,
    }


def _independent_version() -> str:
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_version())


def page(outcomes: Sequence[Outcome], facts: dict[str, Any]) -> str:
    """The table in Markdown."""
    rows = [outcome.row for outcome in outcomes if outcome.row is not None]
    well = sum(not outcome.faults for outcome in outcomes)
    many = sum(row.segments >= 3 for row in rows)
    software = ", ".join(
        f"{name} {version}" for name, version in facts["versions"].items() if name in {"libavcodec", "pyav"}
    )
    summary = (
        f"{len(outcomes)} clips, {well} as promised; {many} with three segments or more."
        f" Segments of {facts['segment_seconds']} s; {facts['date']}, {facts['cpus']} CPUs, Python {facts['python']},"
        f" {software}; checked with PyAV and with a separate ffmpeg {facts['independent_ffmpeg']}."
    )
    lines = [
        "# Results on real clips",
        "",
        "<!-- Made by scripts/clips_table.py. -->",
        "",
        summary,
        "",
        "- **frames**: shown by a player of the source → of the result. **other times**: frames whose presentation time is not",
        "  exactly that of the source, compared as fractions.",
        "- **pictures**: frames whose neighbours look different, so that a swap would show / of these, frames of the result that",
        "  are more like a neighbour.",
        "- **sound**: packets in → out, compared by SHA-256 and time stamp; hidden by the source's edit list = named by the report.",
        "- **sound after picture**: seconds from the first frame to the first packet of sound, in the source and in the result.",
        "- **ffmpeg**: whether the separate program decodes all pictures and sound of the result without a message.",
        "",
        "| clip | what it is | segments | frames | other times | pictures | sound | sound after picture | rotation | ffmpeg | not kept | as promised |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_line(outcome) for outcome in outcomes),
    ]
    return "\n".join(lines) + "\n"


def _line(outcome: Outcome) -> str:
    row = outcome.row
    if row is None:
        return f"| {outcome.name} |" + " |" * 10 + f" **no**: {_cell(outcome.failure)} |"
    picture = row.picture_in
    coded = (
        picture.codec
        if picture.codec == row.picture_out.codec
        else f"{picture.codec} → {row.picture_out.codec}"
    )
    what = ", ".join((f"{coded} {picture.width}x{picture.height}", *row.traits))
    cells = (
        row.name,
        what,
        str(row.segments),
        f"{row.frames_in} → {row.frames_out}",
        str(row.other_times),
        f"{row.compared_pictures} / {row.other_pictures}",
        _sound(row),
        _offsets(row),
        str(row.picture_out.rotation),
        _cell(row.messages) or ("silent" if not row.source_messages else "silent; not so on the source"),
        _cell("; ".join(loss.split(". ")[0] for loss in row.not_kept)) or "—",
        f"**no**: {_cell('; '.join(row.faults))}" if row.faults else "yes",
    )
    return "| " + " | ".join(cells) + " |"


def _sound(row: ClipRow) -> str:
    told = []
    for track in row.sound:
        same = "same bytes" if track.same_bytes else "**other bytes**"
        hidden = f", {track.hidden} hidden" if track.hidden else ""
        told.append(f"{track.codec} {track.packets_in} → {track.packets_out}, {same}{hidden}")
    return "; ".join(told) or "none"


def _offsets(row: ClipRow) -> str:
    if row.sound_after_picture_in is None:
        return "—"
    if row.sound_after_picture_in == row.sound_after_picture_out:
        return f"{row.sound_after_picture_in} = {row.sound_after_picture_out}"
    return f"**{row.sound_after_picture_in} → {row.sound_after_picture_out}**"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Fraction) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
