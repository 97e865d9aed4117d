"""Who makes the call at hand, as the guard found out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc

from videoprocess_server.engine.authorisation import Caller

#: the context of any method
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller_of(context: Context) -> Caller:  # noqa: ARG001 - so that only who serves a call asks
    """Return who makes this call.

    Raises:
        LookupError: nobody has authenticated it, which is a fault of ours.
    """
    return _CALLER.get()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Be the caller of everything that this task does in here."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)
