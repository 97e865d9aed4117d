"""How far a transfer is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: called with bytes stored by the service or on their way, and bytes in all
TransferProgress: TypeAlias = Callable[[int, int], None]
