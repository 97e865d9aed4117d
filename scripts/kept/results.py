"""A folder of sources, of results and of reports: made by a real server, read by every script that compares."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.service import Service
from google.protobuf.json_format import MessageToDict

from kept import programs
from videoprocess_client import Client, VideoProcessError

SUFFIXES = {".mp4", ".mov", ".3gp", ".mkv", ".webm", ".m4v"}
#: short segments, so that short clips have several; longer clips have several as it is
SHORT_SEGMENTS = ("--segment-seconds", "1", "--longest-gop-seconds", "2")
LONG_SECONDS = 60


@dataclass(frozen=True)
class Made:
    """What became of one source."""

    source: Path
    #: the published file; None where the job failed
    result: Path | None
    #: the job's report as JSON; where it failed, why, as `failure`
    report: dict[str, Any]


def clips_of(folders: Sequence[Path]) -> list[Path]:
    """Return the videos of folders, each folder in alphabetical order."""
    return [
        path
        for folder in folders
        for path in sorted(folder.resolve().iterdir())
        if path.suffix.lower() in SUFFIXES
    ]


async def make_results(sources: Sequence[Path], folder: Path, jobs: int) -> list[Made]:
    """Send each source through a server, `jobs` at a time; what a folder has already is not made anew."""
    for name in ("results", "reports"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    short = [source for source in sources if _seconds(source) < LONG_SECONDS]
    made = await _made_by(short, folder, jobs, SHORT_SEGMENTS)
    made |= await _made_by([source for source in sources if source not in short], folder, jobs, ())
    return [made[source] for source in sources]


async def _made_by(
    sources: Sequence[Path], folder: Path, jobs: int, flags: Sequence[str]
) -> dict[Path, Made]:
    if not sources:
        return {}
    turns = asyncio.Semaphore(jobs)

    async def make(client: Client, source: Path) -> Made:
        async with turns:
            return await _make(client, source, folder)

    with Service(folder / "service", folder, *flags) as service:
        async with Client(service.address) as client:
            made = await asyncio.gather(*(make(client, source) for source in sources))
    return dict(zip(sources, made, strict=True))


def _seconds(path: Path) -> float:
    return float(programs.ffprobe_format(path).get("duration", 0))


def read_results(folder: Path) -> list[Made]:
    """Return what `make_results` left in a folder."""
    return [_read(path) for path in sorted((folder / "reports").glob("*.json"))]


async def _make(client: Client, source: Path, folder: Path) -> Made:
    kept = folder / "reports" / f"{source.name}.json"
    if kept.exists() and (earlier := _read(kept)).result is not None:
        return earlier
    result = folder / "results" / source.name
    try:
        made = await client.enhance(source, result)
    except VideoProcessError as error:
        written: dict[str, Any] = {"failure": str(error)}
    else:
        written = MessageToDict(made.report)
        result = _with_suffix_of(result, made.artifact.file_name)
        written["result"] = f"results/{result.name}"
    written["source"] = str(source)
    kept.write_text(json.dumps(written, indent=1))
    return _read(kept)


def _with_suffix_of(result: Path, file_name: str) -> Path:
    """Rename a result whose container is another than the source's."""
    suffix = Path(file_name).suffix
    return result if suffix == result.suffix else result.rename(result.with_name(result.name + suffix))


def _read(kept: Path) -> Made:
    report = json.loads(kept.read_text())
    result = report.get("result")
    return Made(Path(report["source"]), kept.parent.parent / result if result else None, report)
