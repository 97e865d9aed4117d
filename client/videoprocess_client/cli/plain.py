"""Messages of the contract as plain values for JSON: the protos' field names, numbers as numbers, enums by name."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def plain(message: Message) -> dict[str, Any]:
    """The fields of a message; those that tell absence from zero are left out when absent.

    `json_format.ParseDict` reads it back. Its own writer is not used because it makes every 64-bit number a text.
    """
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            values[field.name] = {str(key): _value(entry.enum_type, value[key]) for key in value}
        elif field.is_repeated:
            values[field.name] = [_value(field.enum_type, item) for item in value]
        else:
            values[field.name] = _value(field.enum_type, value)
    return values


def _value(enum: Any, value: Any) -> Any:  # noqa: ANN401 - a descriptor of either implementation, any value
    if isinstance(value, Timestamp | Duration):
        return value.ToJsonString()
    if isinstance(value, Message):
        return plain(value)
    if enum is not None:
        known = enum.values_by_number.get(value)
        return known.name if known is not None else value
    return value
