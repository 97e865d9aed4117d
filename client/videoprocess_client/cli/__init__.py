"""The command `videoprocess`."""

from videoprocess_client.cli.app import main

__all__ = ["main"]
