"""What logs must not tell."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import structlog

from videoprocess_server.telemetry.logging import LogFormat, configure


@pytest.fixture(name="out")
def _out() -> Iterator[io.StringIO]:
    yield io.StringIO()
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_traceback_has_no_local_variables(log_format: LogFormat, out: io.StringIO) -> None:
    configure(log_format, "info", out)
    callers_bytes = "a secret of the caller"[::-1]
    try:
        int(callers_bytes[:1])
    except ValueError:
        structlog.get_logger("test").exception("it_broke")
    assert "it_broke" in out.getvalue()
    assert "ValueError" in out.getvalue()
    assert callers_bytes not in out.getvalue()
