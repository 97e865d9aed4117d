"""What any request's fields have in common: how they are refused, and how the usual ones are read."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Literal, Protocol, TypeVar

from videoprocess_server.errors import VideoProcessError

E = TypeVar("E", bound=IntEnum)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class HasUserId(Protocol):
    """A request that names its user."""

    @property
    def user_id(self) -> int:
        """The user."""
        ...

    def HasField(self, field_name: Literal["user_id"], /) -> bool:
        """Return whether it is set."""
        ...


def missing(field: str) -> VideoProcessError:
    """Return the error for a field that is not set."""
    return VideoProcessError("MISSING_FIELD", f"{field} is not set", {field: "is not set"})


def invalid(field: str, problem: str) -> VideoProcessError:
    """Return the error for a field with a value it cannot have; `problem` follows its name."""
    return VideoProcessError("INVALID_FIELD", f"{field} {problem}", {field: problem})


def user_id_of(request: HasUserId, field: str = "user_id") -> int:
    """Return the user, who may be 0 but not absent.

    Raises:
        VideoProcessError: MISSING_FIELD.
    """
    if not request.HasField("user_id"):
        raise missing(field)
    return request.user_id


def member(enum: type[E], number: int, field: str) -> E:
    """Return the member of a mirrored enum.

    Raises:
        VideoProcessError: INVALID_FIELD for a number that it does not have.
    """
    try:
        return enum(number)
    except ValueError:
        raise invalid(field, f"has no value {number}") from None


def request_id_of(text: str) -> str:
    """Return a request_id as it is kept: "" where absent, else a UUID in lower case.

    Raises:
        VideoProcessError: INVALID_FIELD.
    """
    lowered = text.lower()
    if text and not _UUID.fullmatch(lowered):
        raise invalid("request_id", "is not a UUID")
    return lowered


def at_most(count: int, most: int, field: str) -> None:
    """Return if a repeated field has no more entries than a request may have.

    Raises:
        VideoProcessError: INVALID_FIELD.
    """
    if count > most:
        raise invalid(field, f"has {count} entries, at most {most} are taken")


def page_size_of(asked: int, default: int, most: int) -> int:
    """Return how many entries a page has: the default for 0, at most `most`.

    Raises:
        VideoProcessError: INVALID_FIELD for a negative one.
    """
    if asked < 0:
        raise invalid("page_size", "is negative")
    return min(asked or default, most)
