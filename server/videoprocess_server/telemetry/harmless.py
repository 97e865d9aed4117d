"""Makes what is logged harmless: no text, whoever it is from, can end a line, steer a terminal or fill a disk."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, TextIO

import structlog

MAX_KEY_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 1024
MAX_ITEMS = 64  # of a list or a table
MAX_DEPTH = 12  # a traceback's frames lie at 5
MAX_TRACEBACK_LINES = 400
#: before each line of a traceback, which so cannot look like a line of the log
TRACEBACK_MARGIN = "  | "
_CUT = "…"


def plain(text: str, max_characters: int = MAX_TEXT_CHARACTERS) -> str:
    r"""Return text of printable characters, cut to a length.

    Control characters, ends of lines, ANSI sequences, marks that turn the direction of writing, characters without
    width and halves of surrogate pairs become `\x1b`, `\u202e` and the like.
    """
    cut = text[:max_characters] + (_CUT if len(text) > max_characters else "")
    return cut if cut.isprintable() else "".join(map(_shown, cut))


def _shown(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def harmless(
    _logger: structlog.typing.WrappedLogger, _name: str, event_dict: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Make keys and values of a line harmless; a processor, the last one before the renderer."""
    return {
        plain(str(key), MAX_KEY_CHARACTERS): value if key == "exc_info" else _harmless(value, 0)
        for key, value in event_dict.items()
    }


def _harmless(value: Any, depth: int) -> Any:  # noqa: ANN401 - whatever is logged
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        shown = list(value.items())[:MAX_ITEMS]
        return {plain(str(key), MAX_KEY_CHARACTERS): _harmless(item, depth + 1) for key, item in shown}
    if isinstance(value, (list, tuple, set, frozenset)) and depth < MAX_DEPTH:
        return [_harmless(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return plain(value if isinstance(value, str) else repr(value))


def write_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Write a traceback for people, without local variables: those would be callers' bytes."""
    lines = "".join(traceback.format_exception(*exc_info)).splitlines()
    out.writelines(f"\n{TRACEBACK_MARGIN}{plain(line)}" for line in lines[-MAX_TRACEBACK_LINES:])
