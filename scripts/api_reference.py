"""The reference of the wire contract as a page: every service, method, message, field and enum with its comment in the protos."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

PROTO = Path(__file__).parent.parent / "proto"
PACKAGE = "videoprocess.v1"
#: services first, in the order a caller meets them; then what they are made of
FILES = (
    "video_process_service",
    "video_process_session",
    "video_process_callback",
    "file_transfer",
    "video_catalog",
    "mode_setting",
    "types",
    "hdi_enums",
    "video",
    "job",
    "report",
    "capabilities",
)
_Place = tuple[int, ...]
_FIELD = FieldDescriptorProto
#: numbers of fields in descriptor.proto, which places are made of
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS_OF_MESSAGE, _NESTED_MESSAGES, _NESTED_ENUMS = 2, 3, 4
_VALUES_OF_ENUM = _METHODS_OF_SERVICE = 2
_SYNTAX_PLACE: _Place = (12,)


class CommentError(Exception):
    """The page cannot be made: a proto does not compile, or something in it has no comment."""


@dataclass(frozen=True)
class _Source:
    """A proto with its comments by place."""

    file: FileDescriptorProto
    comments: Mapping[_Place, str]

    def comment(self, place: _Place, name: str) -> str:
        """Return the comment above something.

        Raises:
            CommentError: there is none.
        """
        if not (text := self.comments.get(place, "")):
            raise CommentError(f"{self.file.name}: {name} has no comment")
        return text


def reference(notice: str) -> str:
    """Return the page.

    Args:
        notice: says where it comes from.
    """
    sources = _sources()
    folder = f"proto/{PACKAGE.replace('.', '/')}"
    introduction = (
        f"Package `{PACKAGE}`, the comments of the files in [{folder}](../{folder}). How code is made of them:\n"
        "[the contract's files](../proto/README.md). What each reason means and what to do about it: [errors](errors.md),\n"
        "[troubleshooting](troubleshooting.md).\n"
    )
    parts = [f"# API reference\n\n{notice}", introduction, "\n".join(_contents(sources)) + "\n"]
    for source in sources:
        parts.extend(_file(source))
    return "\n".join(parts)


def _sources() -> list[_Source]:
    known = {path.stem for path in (PROTO / PACKAGE.replace(".", "/")).glob("*.proto")}
    if known != set(FILES):
        raise CommentError(f"the page's list of files is not what is there: {sorted(known ^ set(FILES))}")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "set"
        arguments = [
            *(
                "protoc",
                f"--proto_path={PROTO}",
                f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            ),
            *("--include_source_info", f"--descriptor_set_out={made}"),
            *(f"{PACKAGE.replace('.', '/')}/{name}.proto" for name in FILES),
        ]
        if protoc.main(arguments) != 0:
            raise CommentError("protoc refused the protos")
        found = {Path(file.name).stem: file for file in FileDescriptorSet.FromString(made.read_bytes()).file}
    return [_Source(found[name], _comments(found[name])) for name in FILES]


def _comments(file: FileDescriptorProto) -> dict[_Place, str]:
    found = {}
    for location in file.source_code_info.location:
        place = tuple(location.path)
        detached = location.leading_detached_comments if place == _SYNTAX_PLACE else ()
        text = "\n\n".join(filter(None, [*detached, location.leading_comments]))
        found[place] = "\n".join(line.removeprefix(" ").rstrip() for line in text.splitlines()).strip()
    return found


def _contents(sources: Sequence[_Source]) -> Iterator[str]:
    for source in sources:
        for service in source.file.service:
            methods = " · ".join(f"[{method.name}](#{method.name.lower()})" for method in service.method)
            yield f"- [{service.name}](#{service.name.lower()}): {methods}"
    yield "- Made of: " + " · ".join(
        f"[{_title(source)}](#{_anchor(_title(source))})" for source in sources if not source.file.service
    )


def _title(source: _Source) -> str:
    return Path(source.file.name).name


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", title.lower().replace(" ", "-"))


def _file(source: _Source) -> Iterator[str]:
    yield f"## {_title(source)}\n\n{_prose(source.comment(_SYNTAX_PLACE, 'the file'))}\n"
    for number, service in enumerate(source.file.service):
        yield from _service(source, service, (_SERVICES, number))
    for number, message in enumerate(source.file.message_type):
        yield from _message(source, message, (_MESSAGES, number), message.name)
    for number, enum in enumerate(source.file.enum_type):
        yield _enum(source, enum, (_ENUMS, number), enum.name)


def _service(source: _Source, service: ServiceDescriptorProto, place: _Place) -> Iterator[str]:
    yield f"### {service.name}\n\n{_prose(source.comment(place, service.name))}\n"
    for number, method in enumerate(service.method):
        asked = ("stream " if method.client_streaming else "") + _link(method.input_type)
        answered = ("stream " if method.server_streaming else "") + _link(method.output_type)
        text = _prose(source.comment((*place, _METHODS_OF_SERVICE, number), method.name))
        yield f"#### {method.name}\n\n{asked} → {answered}\n\n{text}\n"


def _message(source: _Source, message: DescriptorProto, place: _Place, name: str) -> Iterator[str]:
    text = f"### {name}\n\n{_prose(source.comment(place, name))}\n"
    rows = [
        f"| {field.number} | `{field.name}` | {_type(message, field)} |"
        f" {_cell(source.comment((*place, _FIELDS_OF_MESSAGE, number), f'{name}.{field.name}'))} |"
        for number, field in enumerate(message.field)
    ]
    if rows:
        text += "\n| number | field | type | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    yield text
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(source, nested, (*place, _NESTED_MESSAGES, number), f"{name}.{nested.name}")
    for number, enum in enumerate(message.enum_type):
        yield _enum(source, enum, (*place, _NESTED_ENUMS, number), f"{name}.{enum.name}")


def _enum(source: _Source, enum: EnumDescriptorProto, place: _Place, name: str) -> str:
    rows = [
        f"| {value.number} | `{value.name}` |"
        f" {_cell(source.comment((*place, _VALUES_OF_ENUM, number), value.name))} |"
        for number, value in enumerate(enum.value)
    ]
    table = "| number | value | |\n|---|---|---|\n" + "\n".join(rows)
    return f"### {name}\n\n{_prose(source.comment(place, name))}\n\n{table}\n"


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    entry = next(
        (one for one in message.nested_type if field.type_name.endswith(f".{message.name}.{one.name}")), None
    )
    if entry is not None and entry.options.map_entry:
        key, value = entry.field
        return f"map of {_plain_type(key)} to {_plain_type(value)}"
    words = [_plain_type(field)]
    if field.proto3_optional:
        words.insert(0, "optional")
    elif field.label == _FIELD.LABEL_REPEATED:
        words.insert(0, "repeated")
    elif field.HasField("oneof_index"):
        words.append(f"(one of `{message.oneof_decl[field.oneof_index].name}`)")
    return " ".join(words)


def _plain_type(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _link(field.type_name)
    return _FIELD.Type.Name(field.type).removeprefix("TYPE_").lower()


def _link(type_name: str) -> str:
    name = type_name.removeprefix(f".{PACKAGE}.")
    return f"`{name.removeprefix('.')}`" if name.startswith(".") else f"[{name}](#{_anchor(name)})"


def _cell(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")


def _prose(comment: str) -> str:
    """Keep paragraphs, and make list items of lines that are indented less than what follows them."""
    lines = []
    for line in comment.splitlines():
        if re.match(r" {2,3}\S", line):
            lines.append(
                ("" if lines and lines[-1].lstrip("\n").startswith(("-", "  ")) else "\n")
                + "- "
                + line.strip()
            )
        elif line.startswith("    "):
            lines.append("  " + line.strip())
        else:
            lines.append(line)
    return "\n".join(lines)
