"""Bytes: one Protocol for the service's own files, and shared files opened with no way out of their root."""
