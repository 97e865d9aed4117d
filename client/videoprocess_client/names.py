"""Short names of the contract's enum values, for people."""

from __future__ import annotations

import re

from google.protobuf.descriptor import EnumDescriptor


def short_name(enum: EnumDescriptor, number: int) -> str:
    """The name of a value without the enum's prefix, e.g. `ENHANCE`; its number where it has no name here."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return value.name.removeprefix(prefix)
