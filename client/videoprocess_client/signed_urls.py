"""Bytes by signed URLs, past the service: the only place that knows urllib3, which is the extra `direct`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from videoprocess_client.errors import Unsupported

# Of a connection, and of each read and write.
CONNECT_SECONDS = 5.0
STALL_SECONDS = 60.0
READ_BYTES = 1 << 20


class SignedUrlError(Exception):
    """A URL did not work; the text says why in a few words, without the URL, which is a secret."""


class SignedUrls:
    """Reads and writes what URLs name."""

    def __init__(self) -> None:
        """Open no connection yet.

        Raises:
            Unsupported: urllib3 is not installed.
        """
        try:
            import urllib3
        except ImportError:
            raise Unsupported(
                "NOT_INSTALLED", "Transfers past the service need urllib3: pip install 'videoprocess[direct]'"
            ) from None
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS)
        # Who calls tries again; urllib3 would write the URLs of its own tries into the log.
        self._pool = urllib3.PoolManager(maxsize=8, retries=False, timeout=timeout)
        self._failures = (urllib3.exceptions.HTTPError, OSError)

    async def put(self, url: str, data: bytes) -> None:
        """Write bytes, whose MD5 the store compares before it keeps them. Raises SignedUrlError."""
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        await asyncio.to_thread(self._request, "PUT", url, 200, body=data, headers={"Content-MD5": md5})

    async def get(self, url: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from an offset on. Raises SignedUrlError."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        expected = 206 if offset else 200
        response = await asyncio.to_thread(
            self._request, "GET", url, expected, headers=headers, preload_content=False
        )
        try:
            while data := await asyncio.to_thread(self._read, response):
                yield data
        finally:
            response.close()

    def close(self) -> None:
        """Close what connections there are."""
        self._pool.clear()

    def _request(self, method: str, url: str, expected: int, **more: Any) -> Any:  # noqa: ANN401 - urllib3's
        try:
            response = self._pool.request(method, url, **more)
        except self._failures as error:
            raise SignedUrlError(_reason(error)) from None
        if response.status != expected:
            response.close()
            raise SignedUrlError(f"HTTP status {response.status}")
        return response

    def _read(self, response: Any) -> bytes:  # noqa: ANN401 - urllib3's
        try:
            return bytes(response.read(READ_BYTES))
        except self._failures as error:
            raise SignedUrlError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """The kind of what went wrong: the texts of urllib3's errors have the URL."""
    cause = error.__cause__ or error
    return str(cause.strerror) if isinstance(cause, OSError) and cause.strerror else type(error).__name__
