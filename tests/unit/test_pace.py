"""How slowly an upload may come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.rpc.pace import LEAST_BYTES_PER_SECOND, Pace, PacedMessages


def test_a_trickle_ends_after_a_window_and_not_before() -> None:
    pace = Pace(window_seconds=300.0)
    for second in range(299):
        pace.note(1.0, second)
    with pytest.raises(VideoProcessError, match="TRANSFER_TOO_SLOW"):
        pace.note(1.0, 299)


def test_what_is_just_fast_enough_goes_on_for_ever() -> None:
    pace = Pace(window_seconds=300.0)
    for second in range(3000):
        pace.note(1.0, 7 + second * LEAST_BYTES_PER_SECOND * 2)


def test_a_window_that_was_fast_does_not_make_up_for_the_next() -> None:
    pace = Pace(window_seconds=10.0)
    pace.note(0.0, 0)
    pace.note(10.0, 1 << 30)
    with pytest.raises(VideoProcessError, match="TRANSFER_TOO_SLOW"):
        pace.note(10.0, 1 << 30)


async def test_a_message_that_does_not_come_ends_the_upload() -> None:
    async def messages() -> AsyncIterator[transfer.UploadRequest]:
        yield transfer.UploadRequest()
        await asyncio.Event().wait()

    paced = PacedMessages(messages(), 0.01)
    assert await paced.next() == transfer.UploadRequest()
    with pytest.raises(VideoProcessError, match="TRANSFER_TOO_SLOW"):
        await paced.next()


async def test_the_end_is_no_message() -> None:
    async def messages() -> AsyncIterator[transfer.UploadRequest]:
        return
        yield

    assert await PacedMessages(messages(), 1.0).next() is None
