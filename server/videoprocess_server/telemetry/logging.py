"""Structured logs: for people on a terminal, JSON elsewhere. Ids are bound once for each unit of work."""

from __future__ import annotations

import logging
import sys
from enum import Enum
from typing import TextIO

import structlog

from videoprocess_server.telemetry.harmless import harmless, write_traceback


class LogFormat(Enum):
    """How log lines look."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


def configure(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Set logging up for the process, that of libraries too; `level` is one of logging's names."""
    out = stream or sys.stderr
    console = log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and out.isatty())
    # Local variables would be callers' bytes: a traceback has none, in either form.
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=write_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not console:
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        processors.append(structlog.processors.ExceptionRenderer(without_locals))
    structlog.configure(
        processors=[*processors, harmless, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    # what libraries say takes the same way: their lines hold exceptions' texts, and so callers' too
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)


#: what gRPC says, as an error with a traceback, of each header whose value is not UTF-8; the value may hold a token
_BAD_HEADER = "Invalid encoding on %s"


class _ToStructlog(logging.Handler):
    """Hands on what is logged by the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record as an event of its library."""
        log = structlog.get_logger(record.name)
        if record.msg == _BAD_HEADER:
            log.warning("library", library=record.name, message="a header's value is not UTF-8")
            return
        log.log(
            record.levelno,
            "library",
            library=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )
