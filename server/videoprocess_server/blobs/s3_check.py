"""Tells whether a bucket is fit, by writing, reading, listing and deleting there; what is wrong in one line that says what to do."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Final

from videoprocess_server.blobs.blob_store import BlobStoreUnavailableError
from videoprocess_server.blobs.s3_bucket import Bucket

_CREDENTIALS = "the credentials are wrong: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the shared file or the role"
_REGION = "the bucket is in another region: name it with --s3-region"
_RIGHTS = (
    "the credentials do not allow it: allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:AbortMultipartUpload below the prefix"
)
_CREATE_ONLY = (
    "the server replaces objects that are not to be replaced (If-None-Match): use one that does not"
)
#: what S3 answers → what to do; the first that fits
_REMEDIES: Final[Mapping[str, str]] = {
    "NoSuchBucket": "there is no such bucket: make it, or correct --blob-url",
    "NoCredentials": "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a shared file or a role",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "UserNotFound": _CREDENTIALS,  # versitygw's
    "ExpiredToken": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "the clocks are apart: set this machine's clock by NTP, or the server's",
    "AccessDenied": _RIGHTS,
    "403": _RIGHTS,
    "NotImplemented": _CREATE_ONLY,
    "no answer": "nothing answers there: start it, or correct --s3-endpoint",
}


class UnfitBucketError(Exception):
    """Blobs cannot be kept there; the text is one line that says what to do."""


def check_bucket(bucket: Bucket) -> None:
    """Return if blobs can be kept there; takes seconds at most.

    Raises:
        UnfitBucketError: they cannot.
    """
    try:
        _use(bucket.hasty())
    except BlobStoreUnavailableError as error:
        told = str(error)
        remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in told), "see what it answered")
        raise UnfitBucketError(f"{told}: {remedy}") from None


def _use(bucket: Bucket) -> None:
    name, data = f"check/{uuid.uuid4().hex}", b"check"
    sha256 = hashlib.sha256(data).hexdigest()
    bucket.put_new(name, data, sha256)
    try:
        try:
            bucket.put_new(name, data, sha256)
        except FileExistsError:
            """As it must be."""
        else:
            raise UnfitBucketError(f"{bucket}: {_CREATE_ONLY}")
        if bucket.stored(name).sha256 != sha256:
            raise UnfitBucketError(f"{bucket}: the server forgets metadata of objects: use one that keeps it")
        list(bucket.below("check"))
    finally:
        bucket.delete([name])
