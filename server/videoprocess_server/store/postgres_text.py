"""Text as PostgreSQL can keep it, which has no NUL: U+0000 becomes U+0001 U+0001, and U+0001 becomes U+0001 U+0002.

That is exact, keeps the order of code points, and prefixes stay prefixes. In a JSON document the same is done to the characters'
escapes, so that what SQL finds in a document equals what is in a column.
"""

from __future__ import annotations

import re

_ESCAPES = str.maketrans({"\0": "\1\1", "\1": "\1\2"})
_ESCAPED = re.compile("\1([\1\2])")
_CHARACTERS = {"\1": "\0", "\2": "\1"}

#: any escape of JSON, so that none begins in the middle of another
_JSON_ESCAPES = re.compile(r"\\(?:u000([01])|.)")
_JSON_ESCAPED = re.compile(r"\\(?:u0001\\u000([12])|.)")
_JSON_CODES = {"0": r"\u0001\u0001", "1": r"\u0001\u0002"}
_JSON_CHARACTERS = {"1": r"\u0000", "2": r"\u0001"}


def escape(text: str) -> str:
    """Return text without NUL."""
    return text.translate(_ESCAPES) if "\0" in text or "\1" in text else text


def unescape(text: str) -> str:
    """Return what was escaped."""
    return _ESCAPED.sub(lambda match: _CHARACTERS[match[1]], text) if "\1" in text else text


def escape_json(document: str) -> str:
    """Return a JSON document whose texts have no NUL."""
    return _replaced(_JSON_ESCAPES, _JSON_CODES, document)


def unescape_json(document: str) -> str:
    """Return the document that was escaped."""
    return _replaced(_JSON_ESCAPED, _JSON_CHARACTERS, document)


def _replaced(pattern: re.Pattern[str], codes: dict[str, str], document: str) -> str:
    if r"\u000" not in document:
        return document
    return pattern.sub(lambda match: codes[match[1]] if match[1] else match[0], document)
