"""What this build can do, and what it says where an extra is missing."""

from __future__ import annotations

import sys

import pytest

from videoprocess_server.media.build_info import FILTERS, describe, has_filter
from videoprocess_server.model.mode_setting import STABILISE_EXTRA
from videoprocess_server.model.tasks import DescribeTask


def test_every_filter_of_the_chains_is_there() -> None:
    assert describe(DescribeTask(), -1).filters == FILTERS


def test_tones_are_mapped_only_with_what_looks_tables_up() -> None:
    assert has_filter("tone_map", {"haldclut"})
    assert not has_filter("tone_map", {"unsharp"})
    assert has_filter("motion_denoise", set())
    assert not has_filter("haldclut", set())


def test_the_extra_is_told_with_the_version_that_is_loaded() -> None:
    cv2 = pytest.importorskip("cv2")
    assert describe(DescribeTask(), -1).extras == {STABILISE_EXTRA: cv2.__version__}


def test_without_opencv_there_is_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "cv2", None
    )  # what Python then raises is what it raises where it is missing
    assert describe(DescribeTask(), -1).extras == {}
