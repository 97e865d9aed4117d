"""Where a bucket is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class S3Address:
    """Where a bucket is, and who asks.

    Credentials that are not given are looked for by obstore: in the environment, a web identity, the container's or the machine's role.
    """

    bucket: str
    prefix: str = ""
    #: URL; "" is that of AWS in the region
    endpoint: str = ""
    #: "" is what AWS_REGION says
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    #: how long a request is tried again while the store is away
    patience_seconds: float = 30.0
    #: a request, of 8 MiB at most, is given up after
    request_seconds: float = 60.0

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix} at {self.endpoint or 'AWS'}"

    def __repr__(self) -> str:
        """Tell no credentials."""
        return f"<{self}>"
