"""Credentials of AWS's shared file: the one usual place that obstore does not look at."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

#: variables → obstore finds credentials itself, before the shared file would count
_BEFORE = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")
_NAMES: Mapping[str, str] = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}


def shared_file_credentials(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the profile's credentials by S3Address's names; none where the environment has some, or the file has not.

    Args:
        environment: whose AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE and HOME count.

    Raises:
        ValueError: the file cannot be read; the text says which.
    """
    if any(environment.get(name) for name in _BEFORE):
        return {}
    default = Path(environment.get("HOME", "/nonexistent")) / ".aws" / "credentials"
    path = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or default)
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError, OSError):
        raise ValueError(f"{path} is no file of credentials") from None
    profile = environment.get("AWS_PROFILE") or "default"
    if not parser.has_section(profile):
        return {}
    found = parser[profile]
    return {ours: found[theirs] for theirs, ours in _NAMES.items() if theirs in found}
