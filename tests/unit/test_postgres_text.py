"""Text for PostgreSQL has no NUL, and comes back as it was."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.store.postgres_text import escape, escape_json, unescape, unescape_json

TEXTS = st.text(st.sampled_from('\0\1\2\\u01"ab\U0010ffff')) | st.text()


@given(text=TEXTS)
def test_text_comes_back_and_has_no_nul(text: str) -> None:
    assert "\0" not in escape(text)
    assert unescape(escape(text)) == text


@given(one=TEXTS, other=TEXTS)
def test_the_order_of_code_points_and_prefixes_stay(one: str, other: str) -> None:
    assert (one < other) == (escape(one) < escape(other))
    assert one.startswith(other) == escape(one).startswith(escape(other))


@given(value=st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS)), ascii_only=st.booleans())
def test_a_document_comes_back_and_its_texts_are_those_of_columns(
    value: dict[str, str | list[str]], ascii_only: bool
) -> None:
    document = json.dumps(value, ensure_ascii=ascii_only)
    escaped = escape_json(document)
    assert unescape_json(escaped) == document
    assert json.loads(escaped) == {
        escape(key): escape(found) if isinstance(found, str) else [escape(part) for part in found]
        for key, found in value.items()
    }
