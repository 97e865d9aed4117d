"""What media code answers when a file, or what is asked of it, cannot be worked with."""

from __future__ import annotations


class MediaFault(Exception):  # noqa: N818 - a fault of the file or of the wish, not an error of ours
    """A task cannot be done. `reason` is one of the catalogue in errors.py, `message` is a sentence for the caller."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
