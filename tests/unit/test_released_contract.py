"""What callers have of the contract still means the same: `buf breaking` without buf, for machines that have none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from videoprocess.v1 import (
    capabilities_pb2,
    file_transfer_pb2,
    hdi_enums_pb2,
    job_pb2,
    mode_setting_pb2,
    report_pb2,
    types_pb2,
    video_catalog_pb2,
    video_pb2,
    video_process_callback_pb2,
    video_process_service_pb2,
    video_process_session_pb2,
)

RELEASED = Path(__file__).parents[2] / "proto" / "released.binpb"
_MODULES = (
    capabilities_pb2,
    file_transfer_pb2,
    hdi_enums_pb2,
    job_pb2,
    mode_setting_pb2,
    report_pb2,
    types_pb2,
    video_catalog_pb2,
    video_pb2,
    video_process_callback_pb2,
    video_process_service_pb2,
    video_process_session_pb2,
)


def _facts(file: Any) -> Iterator[tuple[str, object]]:
    """All that a caller's code rests on, by a name that stays."""
    package = file.package

    def of_message(name: str, message: Any) -> Iterator[tuple[str, object]]:
        for field in message.field:
            kind = field.type_name or field.type
            yield f"{name}.{field.number}", (field.name, kind, field.label, field.proto3_optional)
        for nested in message.nested_type:
            yield from of_message(f"{name}.{nested.name}", nested)
        for enum in message.enum_type:
            yield from of_enum(f"{name}.{enum.name}", enum)

    def of_enum(name: str, enum: Any) -> Iterator[tuple[str, object]]:
        for value in enum.value:
            yield f"{name}.{value.name}", value.number

    for message in file.message_type:
        yield from of_message(f"{package}.{message.name}", message)
    for enum in file.enum_type:
        yield from of_enum(f"{package}.{enum.name}", enum)
    for service in file.service:
        for method in service.method:
            yield (
                f"{package}.{service.name}.{method.name}",
                (method.input_type, method.output_type, method.client_streaming, method.server_streaming),
            )


def _released() -> Mapping[str, Mapping[str, object]]:
    files = descriptor_pb2.FileDescriptorSet.FromString(RELEASED.read_bytes()).file
    return {file.name: dict(_facts(file)) for file in files if file.package == "videoprocess.v1"}


def _now() -> Mapping[str, Mapping[str, object]]:
    found = {}
    for module in _MODULES:
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        found[file.name] = dict(_facts(file))
    return found


@pytest.mark.parametrize("name", sorted(_released()))
def test_nothing_that_was_released_has_changed(name: str) -> None:
    before, now = _released()[name], _now()[name]
    assert before
    assert before == {fact: now.get(fact) for fact in before}


def test_all_files_are_compared() -> None:
    protos = {
        f"videoprocess/v1/{path.name}" for path in (RELEASED.parent / "videoprocess/v1").glob("*.proto")
    }
    assert protos == _now().keys()
