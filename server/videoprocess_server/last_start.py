"""What the service notes in its data directory when it has started: how, with what, and where it can be asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from videoprocess_server.store.database_url import without_credentials

NAME = "service.json"
#: settings that say where credentials are: whether there are any is all that is noted
CREDENTIALS = (
    "tls_cert",
    "tls_key",
    "tls_client_ca",
    "token_file",
    "jwks_file",
    "jwt_issuer",
    "jwt_audience",
)


def told_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings without anything about credentials but whether there are any."""
    return {name: _TOLD.get(name, _as_it_is)(value) for name, value in settings.items()}


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 - any setting
    return value


def _whether_set(value: object) -> str | None:
    return "(set)" if value else None


def _told_address(url: str) -> str:
    return without_credentials(url) if url else ""


_TOLD: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(CREDENTIALS, _whether_set),
    "database_url": _told_address,
}


def note(data_dir: Path, facts: Mapping[str, Any]) -> None:
    """Write the note; it is for people, so it is neither synced nor renamed into place.

    Raises:
        OSError: it cannot be written.
    """
    path = data_dir / NAME
    path.touch(mode=0o600)
    path.write_text(json.dumps(facts, indent=1, default=str) + "\n")


def read(data_dir: Path) -> Mapping[str, Any]:
    """Return the note of the last start; empty where there is none that can be read."""
    try:
        found = json.loads((data_dir / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}
