"""Options that several commands have, and the forms of their values."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, TypeAlias

import typer

from videoprocess.v1 import types_pb2
from videoprocess_client.channel import TARGET_VARIABLE
from videoprocess_client.sources import shared

DEFAULT_USER_ID = 100
MAX_TIMESTAMP_US = 2**63 - 1
MAX_PORT = 65_535

# A host or `[IPv6]`, perhaps after gRPC's name of a resolver.
_ADDRESS = r"([a-z][a-z\d]*:(//[^/\s]*/)?)?([^\s:/\[\]]+|\[[^\s\[\]]+\]):(?P<port>\d{1,5})"
# Ask for TLS; what follows is the address.
_TLS = r"((grpcs|https)://)"
# gRPC's names of places that have no port.
_SCHEMES_WITHOUT_PORT = ("unix:", "unix-abstract:", "vsock:", "xds:")


def check_target(text: str) -> str:
    """An address, or several, as they are, if gRPC can connect to them.

    Raises:
        typer.BadParameter: It has no port, or one that cannot be.
    """
    if text.startswith(_SCHEMES_WITHOUT_PORT):
        return text
    for address in re.sub(f"^{_TLS}", "", text).split(","):
        found = re.fullmatch(_ADDRESS, address, re.ASCII)
        if found is None or not 1 <= int(found["port"]) <= MAX_PORT:
            raise typer.BadParameter(
                f"{address!r} is not HOST:PORT, e.g. 127.0.0.1:50051", param_hint="--target"
            )
    return text


Target: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar=TARGET_VARIABLE,
        metavar="HOST:PORT[,HOST:PORT…]",
        help="Address of the server, or of each of its replicas: when one is gone, the next one goes on.",
        callback=check_target,
    ),
]
User: TypeAlias = Annotated[
    int,
    typer.Option(
        envvar="VIDEOPROCESS_USER",
        min=-(2**31),
        max=2**31 - 1,
        help="Number of the user who owns the videos.",
    ),
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write exactly one JSON object to stdout, for errors too.")
]
VideoId: TypeAlias = Annotated[str, typer.Argument(metavar="VIDEO_ID", help="Id of the video.")]
SessionId: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--session", metavar="ID", help="Session to use. Default: the one that this command remembers."
    ),
]
Shared: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="ROOT:PATH", help="Instead of a file of this machine: one under a shared root."),
]

Direct: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--direct",
        help="Send and fetch files past the server, from the store it keeps them in, where that can be reached.",
    ),
]
PassFd: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--pass-fd",
        help="The server is on this machine: pass it the open file, to be copied there, and upload nothing.",
    ),
]


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """`1280x720` as width and height in pixels."""
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text.lower())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not WIDTHxHEIGHT in pixels, e.g. 1280x720", param_hint=option)
    return int(found[1]), int(found[2])


def parse_point(text: str) -> tuple[int, int]:
    """`16,-4` as left and top in pixels."""
    found = re.fullmatch(r"(-?\d{1,5}),(-?\d{1,5})", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not X,Y in pixels, e.g. 16,16", param_hint="--watermark-at")
    return int(found[1]), int(found[2])


def parse_rates(text: str) -> tuple[int, int]:
    """`24-30` as the lowest and highest frame rate; `30` is both."""
    found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= low <= high:
        raise typer.BadParameter(
            f"{text!r} is not MIN-MAX in frames per second, e.g. 24-30", param_hint="--fps"
        )
    return low, high


def parse_seconds(text: str) -> int:
    """Decimal seconds as media time in microseconds, without rounding through a float."""
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) is None:
        raise typer.BadParameter(f"{text!r} is not a number of seconds, e.g. 12.5", param_hint="--from")
    microseconds = int(Fraction(text if text[-1] != "." else text[:-1]) * 1_000_000)
    if microseconds > MAX_TIMESTAMP_US:
        raise typer.BadParameter(f"{text!r} is too late", param_hint="--from")
    return microseconds


def parse_shared(text: str) -> types_pb2.FileDescriptor:
    """`ROOT:PATH` or `ROOT/PATH` as a file on the server's side."""
    root, path = (*re.split("[:/]", text, maxsplit=1), "")[:2]
    if not (root and path):
        raise typer.BadParameter(f"{text!r} is not ROOT:PATH, e.g. media:trip/a.mp4", param_hint="--shared")
    return shared(root, path)
