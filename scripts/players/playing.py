"""What a player made of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any


@dataclass(frozen=True)
class Playing:
    """One file in one player."""

    #: whether it came to the end, without an error
    ended: bool
    #: whether it went on playing from the middle
    seeked: bool
    #: what it told of the file, times in seconds: all of it must be the same for source and result
    told: dict[str, Any] = field(default_factory=dict)
    #: messages of errors, without what differs from run to run
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A result beside its source in one player."""

    #: `as the source`, `better than the source`, `neither plays`, `explained`, or `WORSE`
    word: str
    #: what is otherwise than with the source
    differences: tuple[str, ...] = ()


#: seconds that a player may round
ROUNDED = 1e-6
#: what is told of the whole file: of one that rounds times its header tells it, as its writer guessed
LENGTHS = ("length", "duration", "end")
GUESSED = 1e-2
#: where a player may begin such a file at 0
PLACES = ("first picture", "pictures from the middle")


def compare(source: Playing, result: Playing, tick: float = 0) -> Verdict:
    """Tell whether a result plays as its source does.

    Args:
        source: as it played.
        result: as it played.
        tick: seconds that the source's times are rounded to.
    """
    differences = tuple(
        f"{name}: {_difference(value, result.told.get(name))}"
        for name, value in source.told.items()
        if not (tick and name in PLACES)
        and not _same(
            value, result.told.get(name), GUESSED if tick and name in LENGTHS else max(tick, ROUNDED)
        )
    )
    more = tuple(sorted(set(result.errors) - set(source.errors)))
    if (source.ended and not result.ended) or (source.seeked and not result.seeked):
        return Verdict("WORSE", (*differences, *more))
    if not (source.ended or result.ended):
        return Verdict("neither plays")
    if result.ended and not source.ended:
        return Verdict("better than the source")
    return Verdict("WORSE", (*differences, *more)) if differences or more else Verdict("as the source")


def _same(before: object, after: object, leeway: float) -> bool:
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(
            _same(a, b, leeway) for a, b in zip(before, after, strict=True)
        )
    if isinstance(before, int | float) and isinstance(after, int | float):
        return abs(before - after) <= leeway
    return before == after


def _difference(before: object, after: object) -> str:
    """Tell where two values differ; of two rows only the first place."""
    if not (isinstance(before, list) and isinstance(after, list)):
        return f"{before} → {after}"
    pairs = list(zip_longest(before, after))
    places = [k for k, (a, b) in enumerate(pairs) if a != b]
    a, b = pairs[places[0]]
    return f"{len(before)} → {len(after)}, {len(places)} others, the first at {places[0]}: {a} → {b}"
