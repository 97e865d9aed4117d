"""What a blob's key looks like."""

from __future__ import annotations

import re

#: one or more names; a name never begins with a dot, so ".." is none
_KEY = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,200}(/[0-9A-Za-z_][0-9A-Za-z_.-]{0,200}){0,7}")


def checked(key: str) -> str:
    """Return the key. ValueError where it is none."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r} is no key")
    return key
