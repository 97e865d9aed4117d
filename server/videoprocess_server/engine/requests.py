"""request_id: the same id gets the same answer."""

from __future__ import annotations

from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Request
from videoprocess_server.store.repository import Reader, Transaction


def answered_before(
    reader: Reader, user_id: int, method: str, request_id: str, arguments_sha256: str
) -> str | None:
    """Return the id that the first call with this request_id made; None for a new or absent one.

    Raises:
        VideoProcessError: REQUEST_ID_REUSED with other arguments.
    """
    request = reader.get_request(user_id, method, request_id) if request_id else None
    if request is None:
        return None
    if request.arguments_sha256 != arguments_sha256:
        raise VideoProcessError(
            "REQUEST_ID_REUSED",
            f"request_id {request_id!r} was used for a {method} with other arguments",
            {"request_id": "was used with other arguments"},
        )
    return request.answer_id


def remember(
    tx: Transaction,
    user_id: int,
    method: str,
    request_id: str,
    arguments_sha256: str,
    answer_id: str,
    now_us: int,
) -> None:
    """Keep what a request_id was answered with; an absent one is not kept."""
    if request_id:
        tx.put_request(
            Request(
                user_id=user_id,
                method=method,
                request_id=request_id,
                arguments_sha256=arguments_sha256,
                answer_id=answer_id,
                create_time_us=now_us,
            )
        )
