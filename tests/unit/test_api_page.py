"""The API reference has all of the contract, and its links lead somewhere."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
FILES: list[FileDescriptor] = [
    importlib.import_module(f"videoprocess.v1.{path.stem}_pb2").DESCRIPTOR
    for path in sorted((ROOT / "proto" / "videoprocess" / "v1").glob("*.proto"))
]


def _section(title: str) -> str:
    """What stands under a heading, down to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title}"
    return found[1]


def _messages(file: FileDescriptor) -> Iterator[tuple[str, Descriptor]]:
    found = [(message.name, message) for message in file.message_types_by_name.values()]
    while found:
        name, message = found.pop()
        yield name, message
        found += [
            (f"{name}.{nested.name}", nested)
            for nested in message.nested_types
            if not nested.GetOptions().map_entry
        ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: Path(file.name).stem)
def test_every_method_field_and_value_has_its_words(file: FileDescriptor) -> None:
    for service in file.services_by_name.values():
        assert _section(service.name).strip()
        for method in service.methods:
            assert f"[{method.input_type.name}]" in _section(method.name)
            assert "Errors" in _section(method.name) or service.name == "VideoProcessCallbackService"
    for name, message in _messages(file):
        section = _section(name)
        for field in message.fields:
            assert re.search(
                rf"^\| {field.number} \| `{field.name}` \| .+ \| \S.* \|$", section, re.MULTILINE
            )
    for enum in file.enum_types_by_name.values():
        section = _section(enum.name)
        for value in enum.values:
            assert re.search(rf"^\| {value.number} \| `{value.name}` \| \S.* \|$", section, re.MULTILINE)


def test_its_links_lead_to_its_headings() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = [re.sub(r"[^a-z0-9_-]", "", heading.lower().replace(" ", "-")) for heading in headings]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= set(anchors)
