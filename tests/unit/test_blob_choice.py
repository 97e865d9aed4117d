"""Where blobs are kept: settings that make sense, credentials of the shared file, lines that say what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from videoprocess_server.blob_choice import check_blobs, open_blobs
from videoprocess_server.blobs.local import LocalBlobStore
from videoprocess_server.blobs.s3_credentials import shared_file_credentials
from videoprocess_server.settings import Settings

URL = "s3://videos/prod"


def test_without_a_url_blobs_are_in_the_data_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert check_blobs(settings) == []
    assert isinstance(open_blobs(settings, tmp_path), LocalBlobStore)


@pytest.mark.parametrize(
    "url", ["http://videos/prod", "s3://", "s3://V", "s3://videos/../x y", "videos", "s3://a:b@videos/prod"]
)
def test_what_is_no_url_of_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="blob_url"):
        Settings(blob_url=url)


@pytest.mark.parametrize("name", ["s3_endpoint", "s3_region"])
def test_an_address_without_a_bucket_is_refused(name: str) -> None:
    value = {"s3_endpoint": "http://127.0.0.1:7070", "s3_region": "eu-central-1"}[name]
    with pytest.raises(ValidationError, match="need a blob_url"):
        Settings(**{name: value})


def test_a_missing_extra_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("videoprocess_server.blobs.s3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    (line,) = check_blobs(Settings(blob_url=URL))
    assert "pip install 'videoprocess[s3]'" in line


class TestSharedFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / ".aws" / "credentials"
        path.parent.mkdir()
        path.write_text(
            "[default]\naws_access_key_id = one\naws_secret_access_key = a%b\n"
            "[work]\naws_access_key_id=two\naws_secret_access_key=c\naws_session_token=d\n"
        )
        return path

    def test_the_default_profile_counts(self, file: Path, tmp_path: Path) -> None:
        assert shared_file_credentials({"HOME": str(tmp_path)}) == {
            "access_key_id": "one",
            "secret_access_key": "a%b",
        }

    def test_a_profile_and_a_file_can_be_named(self, file: Path) -> None:
        found = shared_file_credentials({"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "work"})
        assert found["session_token"] == "d"

    def test_the_environment_comes_first(self, file: Path, tmp_path: Path) -> None:
        assert shared_file_credentials({"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "three"}) == {}

    def test_no_file_has_none(self, tmp_path: Path) -> None:
        assert shared_file_credentials({"HOME": str(tmp_path)}) == {}

    def test_a_file_that_is_none_is_told_without_what_is_in_it(self, file: Path, tmp_path: Path) -> None:
        file.write_text("secret\n")
        with pytest.raises(ValueError, match="no file of credentials") as caught:
            shared_file_credentials({"HOME": str(tmp_path)})
        assert "secret" not in str(caught.value).replace(str(tmp_path), "")
