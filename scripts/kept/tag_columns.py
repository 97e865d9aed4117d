"""Columns of tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kept import tags
from kept.facts import FileFacts
from kept.pair import Difference, Pair

Finder = Callable[[Pair], Iterator[Difference]]


def of_tags(column: str) -> Finder:
    """Return a finder of tags of a column that the result has not, or has otherwise."""

    def find(pair: Pair) -> Iterator[Difference]:
        for tag in pair.tags:
            if tag.column == column and tag.before != tag.after:
                after = "gone" if tag.after is None else tag.after[:60]
                yield Difference(tag.track, f"{tag.name}: {tag.before[:60]} → {after}", tag.word)

    return find


def has_tags(column: str) -> Callable[[FileFacts], bool]:
    """Return a function that tells whether a file has tags of a column."""
    return lambda facts: column in tags.columns_of(facts)
