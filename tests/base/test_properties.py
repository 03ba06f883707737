"""server.properties as Java reads it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kbroker.base.config_types import ConfigError
from kbroker.base.properties import parse_properties


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("  a  =  b  ", {"a": "b  "}),
        ("a:b\nc d\n e\t:\tf", {"a": "b", "c": "d", "e": "f"}),
        ("# comment\n! comment\n\n  # comment\na=1", {"a": "1"}),
        ("a=1,\\\n    2,\\\n    3\nb=4", {"a": "1,2,3", "b": "4"}),
        ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
        ("a=1\\\n# not a comment", {"a": "1# not a comment"}),
        ("a\\ b\\=c = d", {"a b=c": "d"}),
        ("a=\\t\\n\\r\\f\\u0041\\q", {"a": "\t\n\r\fAq"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ("a=1\na=2", {"a": "2"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1\\", {"a": "1"}),
        ("listeners=PLAINTEXT://:9092", {"listeners": "PLAINTEXT://:9092"}),
        ("", {}),
    ],
)
def test_as_java_reads_it(text: str, expected: dict[str, str]) -> None:
    assert parse_properties(text) == expected


def test_a_bad_escape_says_where() -> None:
    with pytest.raises(ConfigError, match=r"server.properties, line 3: .u00g0 is not"):
        parse_properties("# one\na=1\nb=\\u00g0\n", path="server.properties")


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_properties(text)
