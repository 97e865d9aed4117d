"""Takes out of texts what is nobody's business: credentials, and names that callers gave."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_TAKEN_OUT = "(taken out)"
#: tokens, keys and JSON web tokens, wherever they stand
_CREDENTIALS = re.compile(
    r"(?i:bearer|basic)\s+[\w.~+/=-]+"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"
    r"|-----BEGIN[^-]*-----[\s\S]*?(?:-----END[^-]*-----|$)"
    r"|(?i:token|secret|password|passwd|authorization|api[_-]?key)[\"']?\s*[:=]\s*[\"']?(?i:(?:bearer|basic)\s+)?[^\s\"',}]+"
)
#: keys of log lines whose values callers chose
_NAMES = frozenset({"video_id", "file_name", "path", "identity", "key"})
#: keys whose sentences quote such names
_SENTENCES = frozenset({"message", "error", "reason", "why", "detail", "exc_value"})
_QUOTES = "'\""
#: the same in lines for people
_NAMED = re.compile(rf"\b({'|'.join(sorted(_NAMES))})=('[^']*'|\"[^\"]*\"|\S+)")
_DIGEST_CHARACTERS = 12


def pseudonym(name: str) -> str:
    """Return what stands for a name: the same for the same one, and of no use to whoever does not know it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"name-{digest[:_DIGEST_CHARACTERS]}" if name else ""


def without_credentials(text: str) -> str:
    """Return a text without what looks like a credential."""
    return _CREDENTIALS.sub(_TAKEN_OUT, text)


def log_line(line: str) -> str:
    """Return a line of the service's log without credentials and callers' names; one that is not JSON without credentials."""
    try:
        fields = json.loads(line)
    except ValueError:
        named = _NAMED.sub(
            lambda found: f"{found[1]}={pseudonym(found[2].strip(_QUOTES))}", without_credentials(line)
        )
        return _without_quoted(named)
    return json.dumps(_cleaned(fields), ensure_ascii=False)


def _cleaned_field(key: str, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if key in _NAMES and value:
        return pseudonym(str(value))
    cleaned = _cleaned(value)
    return _without_quoted(cleaned) if key in _SENTENCES and isinstance(cleaned, str) else cleaned


def _without_quoted(text: str) -> str:
    """Take out all from the first quotation mark to the last, or to the end where one is missing: names may hold such marks.

    Log lines are cut, and then lose the mark at a name's end.
    """
    places = [place for place, character in enumerate(text) if character in _QUOTES]
    if not places:
        return text
    end = places[-1] if len(places) % 2 == 0 else len(text)
    return f"{text[: places[0]]}'{pseudonym(text[places[0] + 1 : end])}'{text[end + 1 :]}"


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, Mapping):
        return {key: _cleaned_field(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return without_credentials(value) if isinstance(value, str) else value
