"""Plays results, and their sources beside them, in players that are not FFmpeg: docs/results/playback.

    python scripts/play_elsewhere.py WORK [--jobs 2] [--out docs/results/playback]

WORK is what `kept_table.py --work` left. Each file is played to its end and from the middle in GStreamer, VLC and
Chromium's <video>. The exit code is 1 where a result plays worse than its source.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kept import programs
from kept.results import Made, read_results
from players import chromium, gstreamer, vlc
from players.explained import EXPLAINED
from players.playing import Playing, Verdict, compare

#: seconds that a container rounds times to
TICKS: Mapping[str, float] = {".mkv": 1e-3, ".webm": 1e-3}
ROOT = Path(__file__).parent.parent
PACKAGES = "gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad} gstreamer1.0-libav vlc-bin vlc-plugin-base vlc-plugin-video-output chromium"


@dataclass(frozen=True)
class Player:
    """A player: the programs it needs, and how it plays a file of so many seconds."""

    programs: tuple[str, ...]
    play: Callable[[Path, float], Playing]
    version: Callable[[], str]


PLAYERS: Mapping[str, Player] = {
    "GStreamer": Player(gstreamer.PROGRAMS, gstreamer.play, gstreamer.version),
    "VLC": Player(vlc.PROGRAMS, vlc.play, vlc.version),
    "Chromium": Player(chromium.PROGRAMS, chromium.play, chromium.version),
}


def main(argv: Sequence[str]) -> int:
    """Make the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Plays results in players that are not FFmpeg.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="files at a time")
    parser.add_argument("--players", nargs="*", default=list(PLAYERS), choices=list(PLAYERS))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "playback")
    arguments = parser.parse_args(argv)
    absent = [name for player in PLAYERS.values() for name in player.programs if shutil.which(name) is None]
    if absent:
        sys.stderr.write(f"missing {', '.join(absent)}; install: apt-get install {PACKAGES}\n")
        return 2
    played = [made for made in read_results(arguments.work) if made.result is not None]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(lambda made: _row(made, arguments.players), played))
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "players": {name: PLAYERS[name].version() for name in arguments.players},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(page(rows, facts))
    plain = [
        {"clip": name, **{player: asdict(v) for player, v in verdicts.items()}} for name, verdicts in rows
    ]
    arguments.out.with_suffix(".json").write_text(
        json.dumps({**facts, "clips": plain}, indent=1, ensure_ascii=False) + "\n"
    )
    return int(any(verdict.word == "WORSE" for _, verdicts in rows for verdict in verdicts.values()))


def _row(made: Made, players: Sequence[str]) -> tuple[str, dict[str, Verdict]]:
    assert made.result is not None
    verdicts = {
        name: explained(made.source.name, name, _verdict(PLAYERS[name], made.source, made.result))
        for name in players
    }
    told = ", ".join(f"{name} {verdict.word}" for name, verdict in verdicts.items())
    print(f"{made.source.name}: {told}", flush=True)
    return made.source.name, verdicts


def explained(clip: str, name: str, verdict: Verdict) -> Verdict:
    """Tell why a player shows a clip otherwise, if that is known and nothing else differs."""
    known = EXPLAINED.get((clip, name))
    others = {difference.split(": ")[0] for difference in verdict.differences}
    if known and verdict.word == "WORSE" and others <= known.names:
        return Verdict("explained", (known.why, *verdict.differences))
    return verdict


def _verdict(player: Player, source: Path, result: Path) -> Verdict:
    """Play both; what a busy machine did to one of them it does not do three times."""
    seconds = _seconds(source)
    for _ in range(3):
        before, after = (player.play(path, seconds) for path in (source, result))
        verdict = compare(before, after, TICKS.get(source.suffix.lower(), 0))
        if verdict.word != "WORSE":
            break
    return verdict


def _seconds(path: Path) -> float:
    return float(programs.ffprobe_format(path).get("duration", 0))


def page(rows: Sequence[tuple[str, Mapping[str, Verdict]]], facts: Mapping[str, Any]) -> str:
    """Write the table in Markdown."""
    names = list(facts["players"])
    counts = {name: Counter(verdicts[name].word for _, verdicts in rows) for name in names}
    software = ", ".join(f"{name} {version}" for name, version in facts["players"].items())
    lines = [
        "# Results in other players",
        "",
        "<!-- Made by scripts/play_elsewhere.py. -->",
        "",
        f"{len(rows)} results, each beside its source. {facts['date']}, {software}.",
        "",
        "Each file is played to its end, and again from the middle. **as the source**: both come to the end without an error that",
        "the other has not, and the player tells the same of both: GStreamer the length, the time of every picture and buffer of sound, size,",
        "aspect, colour and orientation; VLC tracks and size; Chromium duration and size. Times may differ by a microsecond; of Matroska and",
        "WebM, which tell them to a millisecond, by one, and lengths by ten; GStreamer begins these at 0. **explained**: they differ in what was looked into,",
        "and is a matter of the player or named by the report. **neither plays**: the player has no decoder for the codec (Debian's Chromium",
        "has none for H.265), or does not come to the end of the source either.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {word} | {' | '.join(str(counts[name][word]) for name in names)} |"
            for word in sorted({word for count in counts.values() for word in count})
        ),
        "",
        f"| clip | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(f"| {clip} | {' | '.join(_cell(verdicts[name]) for name in names)} |" for clip, verdicts in rows),
    ]
    return "\n".join(lines) + "\n"


def _cell(verdict: Verdict) -> str:
    if verdict.word == "explained":
        return f"explained: {verdict.differences[0]}"
    if verdict.word != "WORSE":
        return verdict.word
    told = "; ".join(difference[:200] for difference in verdict.differences)
    return f"**worse**: {told}".replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
