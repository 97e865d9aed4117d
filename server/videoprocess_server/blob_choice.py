"""Settings → where blobs are kept. Part of the composition root, like `app`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from videoprocess_server.blobs.blob_store import BlobStore
from videoprocess_server.blobs.local import LocalBlobStore
from videoprocess_server.blobs.s3_address import S3Address
from videoprocess_server.blobs.s3_credentials import shared_file_credentials
from videoprocess_server.settings import Settings

if TYPE_CHECKING:
    from videoprocess_server.blobs.s3 import S3BlobStore


class UnfitBlobsError(Exception):
    """Blobs cannot be kept where the settings say; the text is one line that says what to do."""


def open_blobs(settings: Settings, root: Path) -> BlobStore:
    """Return the store of blobs; `check_blobs` has said nothing against it.

    Args:
        settings: say which.
        root: the data directory.

    Raises:
        UnfitBlobsError: the file of credentials cannot be read.
    """
    return STORES[urlsplit(settings.blob_url).scheme](settings, root)


def check_blobs(settings: Settings) -> list[str]:
    """Return what is wrong with the place that blobs are kept in, in lines that say what to do; none where it is fit."""
    try:
        CHECKS[urlsplit(settings.blob_url).scheme](settings)
    except UnfitBlobsError as error:
        return [str(error)]
    return []


def _local(_settings: Settings, root: Path) -> BlobStore:
    return LocalBlobStore(root)


def open_s3(settings: Settings, root: Path) -> S3BlobStore:
    """Return the store in S3; see `open_blobs`."""
    from videoprocess_server.blobs.s3 import S3BlobStore
    from videoprocess_server.blobs.s3_bucket import Bucket

    return S3BlobStore(Bucket(_address(settings)), root, settings.s3_cache_bytes)


def _check_s3(settings: Settings) -> None:
    try:
        from videoprocess_server.blobs.s3_bucket import Bucket
        from videoprocess_server.blobs.s3_check import UnfitBucketError, check_bucket
    except ImportError:
        raise UnfitBlobsError(
            "--blob-url needs obstore, which is not installed: pip install 'videoprocess[s3]'"
        ) from None
    try:
        check_bucket(Bucket(_address(settings)))
    except UnfitBucketError as error:
        raise UnfitBlobsError(str(error)) from None


def _address(settings: Settings) -> S3Address:
    url = urlsplit(settings.blob_url)
    try:
        credentials = shared_file_credentials(os.environ)
    except ValueError as error:
        raise UnfitBlobsError(f"{error}: correct it, or AWS_SHARED_CREDENTIALS_FILE") from None
    return S3Address(
        bucket=url.netloc,
        prefix=url.path.strip("/"),
        endpoint=settings.s3_endpoint.rstrip("/"),
        region=settings.s3_region,
        access_key_id=credentials.get("access_key_id", ""),
        secret_access_key=credentials.get("secret_access_key", ""),
        session_token=credentials.get("session_token", ""),
    )


def _fit(_settings: Settings) -> None:
    """The data directory is looked at when it is opened."""


#: scheme of --blob-url → the store
STORES: Mapping[str, Callable[[Settings, Path], BlobStore]] = {"": _local, "s3": open_s3}
#: scheme of --blob-url → what raises UnfitBlobsError
CHECKS: Mapping[str, Callable[[Settings], None]] = {"": _fit, "s3": _check_s3}
