"""Kept, named or lost: differences held against a report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kept.columns import TABLE, Column
from kept.facts import FileFacts
from kept.pair import Difference, Pair
from kept.results import Made

NOTHING, KEPT, NAMED, LOST = "-", "kept", "named", "LOST"
#: so many differences of a cell are written down; the rest are counted
TOLD = 8
_TRACK = "TRACK"


@dataclass(frozen=True)
class Cell:
    """What became of one thing of one clip."""

    verdict: str
    #: every difference that no report names, then those that are named, then those that are no loss
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One clip: what became of each thing, or why there is no result."""

    name: str
    #: column → cell; empty where there is no result
    cells: dict[str, Cell]
    failure: str = ""
    #: what the report names, each in a line
    not_kept: tuple[str, ...] = ()

    @property
    def lost(self) -> list[str]:
        """The columns where something is lost that no report names."""
        if self.failure:
            return ["everything"]
        return [name for name, cell in self.cells.items() if cell.verdict == LOST]

    @property
    def summary(self) -> str:
        """One line."""
        named = [name for name, cell in self.cells.items() if cell.verdict == NAMED]
        told = [f"lost: {', '.join(self.lost)}"] * bool(self.lost) + [f"named: {', '.join(named)}"] * bool(
            named
        )
        return self.failure or "; ".join(told) or "all kept"

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Row:
        """Return the row that `plain` wrote."""
        found = {name: Cell(cell["verdict"], tuple(cell["details"])) for name, cell in plain["cells"].items()}
        return cls(plain["name"], found, plain["failure"], tuple(plain["not_kept"]))

    def plain(self) -> dict[str, Any]:
        """The row for JSON."""
        return asdict(self)


def judge(made: Made) -> Row:
    """Compare a result with its source."""
    if made.result is None:
        return Row(made.source.name, {}, made.report.get("failure", "no result"))
    losses = made.report.get("notKept", [])
    try:
        pair = Pair(FileFacts(made.source), FileFacts(made.result))
    except ValueError as error:
        return Row(made.source.name, {}, str(error))
    return Row(
        made.source.name,
        cells(pair, losses),
        not_kept=tuple(_loss(loss) for loss in losses),
    )


def _loss(loss: Mapping[str, Any]) -> str:
    where = f" of track {loss['trackIndex']}" if "trackIndex" in loss else ""
    what = str(loss.get("what", "")).removeprefix("NOT_KEPT_CATEGORY_")
    return f"{what}{where}, {loss.get('count', 0)}: {loss.get('reason', '')}"


def cells(pair: Pair, not_kept: Sequence[Mapping[str, Any]]) -> dict[str, Cell]:
    """Compare source and result in every column.

    Args:
        pair: the two files.
        not_kept: what the report names: `what`, `track_index`, `count` and `reason` of each, as JSON.
    """
    return {column.name: _cell(column, pair, not_kept) for column in TABLE}


def _cell(column: Column, pair: Pair, not_kept: Sequence[Mapping[str, Any]]) -> Cell:
    if not column.applies(pair.source):
        return Cell(NOTHING)
    differences = list(dict.fromkeys(column.find(pair)))
    remarks = [difference for difference in differences if difference.remark]
    found = [difference for difference in differences if not difference.remark]
    lost = [difference for difference in found if not _is_named(column, difference, not_kept)]
    named = [difference for difference in found if difference not in lost]
    details = (*_told(lost, ""), *_told(named, "named: "), *_told(remarks, ""))
    return Cell(LOST if lost else NAMED if named else KEPT, details)


def _is_named(column: Column, difference: Difference, not_kept: Sequence[Mapping[str, Any]]) -> bool:
    return any(_names(column, difference, loss) for loss in not_kept)


def _names(column: Column, difference: Difference, loss: Mapping[str, Any]) -> bool:
    what = str(loss.get("what", "")).removeprefix("NOT_KEPT_CATEGORY_")
    index = loss.get("trackIndex", loss.get("track_index"))
    if index is not None and difference.track is not None and index != difference.track:
        return False
    if what == _TRACK:  # with a track goes all that is of it
        return index is not None and index == difference.track
    if what not in column.named_by:
        return False
    if what == "USER_METADATA" and difference.word:
        return _plain(difference.word) in _plain(str(loss.get("reason", "")))
    return True


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _told(differences: Sequence[Difference], before: str) -> Iterator[str]:
    for difference in differences[:TOLD]:
        where = "" if difference.track is None else f"track {difference.track}: "
        why = f" ({difference.remark})" if difference.remark else ""
        yield f"{before}{where}{difference.what}{why}"
    if len(differences) > TOLD:
        yield f"{before}and {len(differences) - TOLD} more"
