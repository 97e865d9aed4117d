"""What leaves the machine for support holds no name that a caller gave."""

from __future__ import annotations

import json

import pytest

from videoprocess_server.support.redaction import log_line, pseudonym

NAME = "anna-holiday"


@pytest.mark.parametrize(
    "message",
    [
        f"there is a video '{NAME}' already",
        f"there is a video '{NAME * 20}"[:200],
        f"it's '{NAME}' here",
        f"'it\\'s \"{NAME}\" {NAME}' is no path",
        f'no file "{NAME}"',
    ],
)
def test_no_quoted_name_is_left_in_a_sentence(message: str) -> None:
    assert NAME not in log_line(json.dumps({"event": "rpc", "message": message}))
    assert NAME not in log_line(f"12:00 [info] rpc message={message}")


def test_the_same_name_reads_the_same_in_lines_for_people_and_programs() -> None:
    told = json.loads(log_line(json.dumps({"video_id": "my holiday"})))
    assert pseudonym("my holiday") == told["video_id"]
    assert pseudonym("my holiday") in log_line("12:00 [info] job_ended video_id='my holiday'")
