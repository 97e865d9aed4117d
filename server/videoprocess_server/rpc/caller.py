"""Who calls, as gRPC knows it."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from videoprocess_server.engine.authorisation import Caller

#: the context of any method
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def caller_of(context: Context) -> Caller:
    """Return who makes this call."""
    return Caller(peer=context.peer())
