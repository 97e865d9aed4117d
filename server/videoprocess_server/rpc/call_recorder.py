"""What the calls tell of themselves, for whoever adds it up; see `telemetry.metrics`."""

from __future__ import annotations

from typing import Protocol


class CallRecorder(Protocol):
    """Hears of calls. It never raises and never waits."""

    def call_began(self, method: str) -> None:
        """A call of a method that there is has come; `call_ended` follows."""
        ...

    def call_ended(self, method: str, code: str, reason: str, seconds: float) -> None:
        """It has ended.

        Args:
            method: as gRPC names it.
            code: name of its status; ENDED where the peer, or a method of gRPC's own, ended it.
            reason: of the catalogue in errors.py; "" without an error.
            seconds: that it took.
        """
        ...

    def bytes_sent(self, count: int) -> None:
        """So many bytes of a result are on their way to a caller."""
        ...


class SilentCalls:
    """A CallRecorder for which nobody waits."""

    def call_began(self, method: str) -> None:
        """See `CallRecorder`."""

    def call_ended(self, method: str, code: str, reason: str, seconds: float) -> None:
        """See `CallRecorder`."""

    def bytes_sent(self, count: int) -> None:
        """See `CallRecorder`."""


#: who is told where nobody listens
SILENT_CALLS: CallRecorder = SilentCalls()
