"""What goes over the socket: one line of JSON each way."""

from __future__ import annotations

from typing import Annotated

import msgspec

from videoprocess_server.errors import VideoProcessError

#: a bearer token may take most of it
MAX_REQUEST_BYTES = 16 * 1024
MAX_FILE_NAME_BYTES = 255  # the file systems' own limit
MAX_MESSAGE_CHARACTERS = 512

_UserId = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]


class PassRequest(msgspec.Struct, frozen=True):
    """What comes along with a descriptor. Fields of later versions are ignored."""

    #: the user who will Prepare the file
    user_id: _UserId
    #: without directories; for people
    file_name: str = ""
    #: the bearer token, where the service asks for credentials
    token: str = ""


class PassAnswer(msgspec.Struct, frozen=True):
    """The descriptor was taken."""

    fd_token: str
    expires_in_seconds: float


class PassRefusal(msgspec.Struct, frozen=True):
    """It was not."""

    #: of the catalogue in errors.py
    reason: str
    message: str
    #: gRPC's name of what a call would be refused with
    status: str
    cam_ret_code: int


def read_request(line: bytes) -> PassRequest:
    """Return what a line says.

    Raises:
        VideoProcessError: INVALID_FIELD.
    """
    try:
        request = msgspec.json.decode(line, type=PassRequest)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise bad_request(f"the line is no request: {error}") from error
    name = request.file_name
    if "/" in name or "\0" in name or len(name.encode(errors="surrogatepass")) > MAX_FILE_NAME_BYTES:
        raise bad_request("file_name is not a name without directories of at most 255 bytes")
    return request


def answer_line(answer: PassAnswer | PassRefusal) -> bytes:
    """Return the line that tells an answer."""
    return msgspec.json.encode(answer) + b"\n"


def refusal_of(error: VideoProcessError) -> PassRefusal:
    """Return the answer that tells an error."""
    return PassRefusal(
        reason=error.reason,
        message=error.message[:MAX_MESSAGE_CHARACTERS],
        status=error.row.status.value,
        cam_ret_code=error.row.cam_ret_code.value,
    )


def bad_request(message: str) -> VideoProcessError:
    """Return the error of a request that is none."""
    return VideoProcessError("INVALID_FIELD", message)
