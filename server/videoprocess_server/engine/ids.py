"""Identifiers nobody can guess."""

from __future__ import annotations

import secrets

ID_BYTES = 16  # 128 bits, as contract §2 asks


def new_id() -> str:
    """Return 128 random bits in hex."""
    return secrets.token_hex(ID_BYTES)
