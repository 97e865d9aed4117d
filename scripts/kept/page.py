"""The table in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kept.columns import TABLE
from kept.tags import DESCRIBES_THE_FILE
from kept.verdict import KEPT, LOST, NAMED, NOTHING, Row

_SIGNS = {KEPT: "kept", NAMED: "named", LOST: "**LOST**", NOTHING: "-"}


def page(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """Write the whole page."""
    names = [column.name for column in TABLE]
    lines = [
        "# What results keep",
        "",
        "<!-- Made by scripts/kept_table.py. -->",
        "",
        _summary(rows, facts),
        "",
        "**kept**: as in the source, exactly. **named**: otherwise, and the report says so. **LOST**: otherwise, and the report does not",
        "say so. **-**: the source has nothing of it.",
        "",
        f"| clip | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(_line(row, names) for row in rows),
        "",
        *_section("Lost", rows, LOST),
        *_section("Named", rows, NAMED),
        *_section("Otherwise, and no loss", rows, KEPT),
        *_what_is_compared(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _summary(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    counts = Counter(cell.verdict for row in rows for cell in row.cells.values())
    failed = sum(bool(row.failure) for row in rows)
    software = ", ".join(f"{name} {version}" for name, version in facts["programs"].items())
    found = f"{counts[KEPT]} kept, {counts[NAMED]} named, **{counts[LOST]} lost**, {failed} without a result"
    made = f"{facts['date']}, {facts['cpus']} CPUs. Read by {software}, none of them ours, of source and result alike."
    return f"{len(rows)} clips: {found}. {made}"


def _line(row: Row, names: Sequence[str]) -> str:
    if row.failure:
        return f"| {row.name} | **no result**: {_plain(row.failure)} |" + " |" * (len(names) - 1)
    return f"| {row.name} | " + " | ".join(_SIGNS[row.cells[name].verdict] for name in names) + " |"


def _section(title: str, rows: Sequence[Row], verdict: str) -> Iterator[str]:
    yield from (f"## {title}", "")
    found = [
        f"- {row.name}, {name}: {_plain('; '.join(cell.details))}"
        for row in rows
        for name, cell in row.cells.items()
        if cell.verdict == verdict and cell.details
    ]
    yield from (*(found or ["Nothing."]), "")


def _what_is_compared() -> Iterator[str]:
    yield from (
        "## What is compared",
        "",
        "- Frames, their times, side data and colours are those that ffprobe decodes; packets are compared by SHA-256 and time,",
        "  with the edit list and without. Pictures are compared with their own and with their neighbours, reduced to 64x36.",
        "- **durations**: the last picture's end is worked out from the sample tables and the edit list, of a file without them from",
        "  its packets. Of a file in fragments the headers tell no lengths, and of Matroska its header's is the writer's estimate:",
        "  where the end is such a file's, the packets of each track are compared and the headers are not.",
        "- A container that counts milliseconds moves the end of a packet by up to one of them: that is no difference.",
        "- Sample descriptions and references are compared byte for byte, at the places where MediaInfo's trace finds the boxes.",
        "- **readable**: what ffmpeg says while it decodes, and MediaInfo's conformance errors, where the source has none such.",
        "- **file size**: not more than 1.5 times the source's.",
        "- Every tag that exiftool, ffprobe and MediaInfo read is compared, but for those that describe the file and its encoder,",
        "  and not the recording. These are the patterns of what is not compared (tool, place, name):",
        "",
        *(f"  - `{pattern.replace('|', chr(92) + '|')}`" for pattern in DESCRIBES_THE_FILE),
    )


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
