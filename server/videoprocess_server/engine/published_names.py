"""What files are called in a shared root: the caller's template, filled in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath
from typing import Protocol

from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.settings_snapshot import Snapshot

DEFAULT_TEMPLATE = "{source}_{intent}_{stream_id}_{index}.{ext}"
PLACEHOLDERS = frozenset({"source", "intent", "stream_id", "job_id", "index", "ext"})
#: file systems take no more
MAX_NAME_BYTES = 255
#: leaves room for what the placeholders become, but for the source's name
MAX_TEMPLATE_CHARACTERS = 128
#: of a source that nobody named
_NAMELESS = "video"

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_OTHERS = re.compile(r"[^A-Za-z0-9._-]")


class MadeFile(Protocol):
    """A file of a job, there or foreseen."""

    @property
    def stream_id(self) -> int:
        """Its stream."""
        ...

    @property
    def intent(self) -> StreamIntent:
        """Of its stream."""
        ...

    @property
    def extension(self) -> str:
        """With its dot."""
        ...


def template_fault(template: str) -> str:
    """Return what is wrong with a template; "" where nothing is."""
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        return f"has more than {MAX_TEMPLATE_CHARACTERS} characters"
    if "/" in template or "\0" in template:
        return "holds a character that no name can have"
    if unknown := sorted(set(_PLACEHOLDER.findall(template)) - PLACEHOLDERS):
        return f"has a placeholder that is not known: {{{unknown[0]}}}"
    if set("{}") & set(_PLACEHOLDER.sub("", template)):
        return "has a brace without its other one"
    return ""


def published_names(
    files: Iterable[MadeFile], snapshot: Snapshot, source_name: str, job_id: str
) -> list[str | None]:
    """Return each file's name; None where its stream names no directory."""
    numbers: Counter[int] = Counter()
    directories = snapshot.directories
    names: list[str | None] = []
    for file in files:
        directory = directories.get(file.stream_id)
        values = {
            "source": PurePath(source_name).stem or _NAMELESS,
            "intent": file.intent.name.lower(),
            "stream_id": str(file.stream_id),
            "job_id": job_id,
            "index": str(numbers[file.stream_id]),
            "ext": file.extension.removeprefix("."),
        }
        numbers[file.stream_id] += 1
        names.append(_filled(directory.name_template or DEFAULT_TEMPLATE, values) if directory else None)
    return names


def _filled(template: str, values: dict[str, str]) -> str:
    """Return the name. Too long a name of the source is cut; a name never begins with a dot, as temporary ones do."""
    name = _plain(template, values)
    if len(name) > MAX_NAME_BYTES:
        kept = max(1, len(values["source"]) - (len(name) - MAX_NAME_BYTES))
        name = _plain(template, values | {"source": values["source"][:kept]})[:MAX_NAME_BYTES]
    return name


def _plain(template: str, values: dict[str, str]) -> str:
    name = _OTHERS.sub("_", _PLACEHOLDER.sub(lambda match: values[match[1]], template))
    return f"_{name[1:]}" if name.startswith(".") else name
