"""What the service and its gateway process say to each other about one worker: calls and their answers, in MessagePack."""

from __future__ import annotations

from typing import Any

import msgspec

#: begins the error of a call that a node did not answer in time
TOOK_TOO_LONG = "TimeoutError: "


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's argument."""

    address: str
    namespace: str
    #: on each node, for copies of files; "" for the system's folder of temporary files
    node_folder: str
    #: of all copies on a node
    cache_bytes: int


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that is to be started."""

    module: str
    #: of sandbox.Confinement; without a bound of memory it gets the node's
    confinement: str
    #: what Ray reserves for its first task; nothing where the node is named
    memory_bytes: int = 0
    #: what it may reserve for any
    most_bytes: int = 0
    #: "" for whichever has room
    node: str = ""
    #: how long to wait for room
    patience_seconds: float


class Forward(msgspec.Struct, frozen=True):
    """What goes to a worker: a message as bytes, and the path on its node of the source that it reads, or ""."""

    body: bytes
    source: str


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call. An answer to an earlier one may still be on its way, so they are numbered."""

    number: int
    what: str
    arguments: list[Any]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What came of a call: a value, or the error's kind and text. `errno` is that of an OSError."""

    number: int
    value: Any = None
    error: str = ""
    errno: int = 0


class Node(msgspec.Struct, frozen=True):
    """A node that is alive."""

    id: str
    name: str
    cpus: float
    memory_bytes: int


class Sign(msgspec.Struct, frozen=True):
    """A gateway's sign of life, every few seconds; the first one tells that it is connected."""

    nodes: list[Node]
    #: why there is none, or that the cluster does not answer at the moment
    error: str = ""
