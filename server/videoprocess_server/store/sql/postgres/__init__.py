"""PostgreSQL's SQL: the shared queries, but for those that it says otherwise, and migrations of its own."""

from __future__ import annotations

import re
from importlib import resources

from videoprocess_server.store import sql

_FILES = resources.files(__name__)
_PARAMETER = re.compile(r"(?<!:):(\w+)")


def _as_psycopg_writes(query: str) -> str:
    """Return a query with parameters as psycopg has them: `%(name)s` for `:name`."""
    return _PARAMETER.sub(r"%(\1)s", query.replace("%", "%%"))


OWN_QUERIES = sql.parse_queries((_FILES / "queries.sql").read_text("utf-8"))
QUERIES = {name: _as_psycopg_writes(query) for name, query in {**sql.QUERIES, **OWN_QUERIES}.items()}
MIGRATIONS = sql.read_migrations(_FILES / "migrations")
