"""What the command writes: text for people or one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from videoprocess_client.cli.hints import HINTS
from videoprocess_client.enums import ErrorCode
from videoprocess_client.errors import JobFailed, VideoProcessError


class Output:
    """The command's two streams. Text of the server is never read as markup or as control codes."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stdout = _console(stderr=False)
        self.stderr = _console(stderr=True)

    def result(self, values: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Write the result, in the form that was asked for."""
        if self.as_json:
            self._json(values)
        else:
            for line in lines:
                self.stdout.print(safe(line))

    def error(self, values: Mapping[str, Any]) -> None:
        """Write an error; its `message` is for people."""
        if self.as_json:
            self._json({"error": values})
            return
        self.stderr.print(safe(f"Error: {values['message']}"))
        for field, what in values.get("violations", {}).items():
            if what not in values["message"]:
                self.stderr.print(safe(f"  {field}: {what}"))
        if values.get("hint"):
            self.stderr.print(safe(f"  {values['hint']}"))
        self.stderr.print(safe(f"  ({values['reason']})"))

    def item(self, values: Mapping[str, Any], line: str) -> None:
        """Write one of many results at once, in the form that was asked for.

        Raises:
            BrokenPipeError: Nobody reads any more.
        """
        if self.as_json:
            self._json(values)
        else:
            self.stdout.file.write(safe(line) + "\n")
            self.stdout.file.flush()

    def note(self, line: str) -> None:
        """Write a line for people beside the result."""
        self.stderr.print(safe(line))

    def _json(self, values: Mapping[str, Any]) -> None:
        self.stdout.file.write(json.dumps(values) + "\n")
        self.stdout.file.flush()


def error_values(error: VideoProcessError | OSError) -> dict[str, Any]:
    """An error as the value of `error` in the JSON object."""
    if isinstance(error, FileExistsError):
        return {
            "reason": "FILE",
            "message": f"{error.filename} exists: choose another name, or pass --overwrite",
        }
    if isinstance(error, OSError):
        path = f"{error.filename}: " if error.filename else ""
        return {"reason": "FILE", "message": f"{path}{error.strerror or error}"}
    values: dict[str, Any] = {
        "reason": error.reason,
        "message": error.message,
        "cam_ret_code": error.cam_ret_code,
        "violations": error.violations,
        "metadata": error.metadata,
        "retry_after_seconds": error.retry_after,
        "hint": HINTS.get(error.reason, ""),
    }
    if isinstance(error, JobFailed):
        known = error.error_code in set(ErrorCode)
        name = ErrorCode(error.error_code).name if known else str(error.error_code)
        values |= {"error_code": name, "video_id": error.video_id, "job_id": error.job_id}
    return values


def safe(text: str) -> str:
    """The text without characters that could drive a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _console(*, stderr: bool) -> Console:
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
