"""The SQL: named queries and numbered migrations, read from the .sql files beside this one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

_FILES = resources.files(__name__)


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A step of the schema."""

    version: int
    sql: str


def parse_queries(text: str) -> dict[str, str]:
    """Return the queries of a file by name: `-- name: x`, a line that describes it, then the SQL.

    Raises:
        ValueError: a name comes twice, or nothing describes it.
    """
    queries: dict[str, str] = {}
    for part in text.split("-- name: ")[1:]:
        name, description, sql = part.split("\n", 2)
        if name in queries or not description.startswith("-- "):
            raise ValueError(f"query {name} comes twice or has no description")
        queries[name] = sql.strip()
    return queries


def read_migrations(folder: Traversable) -> list[Migration]:
    """Return the migrations of a folder.

    Raises:
        ValueError: they are not numbered from 1 without gaps.
    """
    files = (file for file in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", file.name))
    migrations = [Migration(version=int(file.name[:4]), sql=file.read_text("utf-8")) for file in files]
    migrations.sort(key=lambda migration: migration.version)
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError("the migrations are not numbered from 0001 without gaps")
    return migrations


QUERIES = parse_queries((_FILES / "queries.sql").read_text("utf-8"))
MIGRATIONS = read_migrations(_FILES / "migrations")
