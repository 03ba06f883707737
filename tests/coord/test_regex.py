"""Patterns of consumer groups: RE2's syntax and nothing else, whole names, bounded time."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.coord.group import regex
from kbroker.coord.group.regex import check_pattern, match_topics

from tests.coord.consumer_kit import code_of

NAMES = ("orders", "orders.eu", "orders-2", "Orders", "x", "a" * 249, "__consumer_offsets")


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("orders", {"orders"}),
        ("^orders$", {"orders"}),
        ("order", set()),
        ("orders.*", {"orders", "orders.eu", "orders-2"}),
        (r"orders[.-]\w+", {"orders.eu", "orders-2"}),
        ("(?i)orders", {"orders", "Orders"}),
        ("orders|x", {"orders", "x"}),
        (r"\Qorders.eu\E", {"orders.eu"}),
        (r"\pL", {"x"}),
        (r"(?:[a-z]+){1,9}", {"orders", "x", "a" * 249}),
        ("[[:alpha:]]", {"x"}),
        ("", set()),
        (".*", set(NAMES) - {"__consumer_offsets"}),
        ("__.*", set()),
    ],
)
def test_what_patterns_match(pattern: str, matched: set[str]) -> None:
    check_pattern(pattern)
    assert match_topics(pattern, NAMES) == matched


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?>a)", "a++", "a{1001}",
     "((a{99}){99}){99}", "(", ")", "[", "*", "a**", "\\", "\ud800", "a" * 4097],
)  # fmt: skip
def test_what_is_no_pattern(pattern: str) -> None:
    assert code_of(lambda: check_pattern(pattern)) == errors.INVALID_REGULAR_EXPRESSION
    assert match_topics(pattern, NAMES) == frozenset(), "stored by a broker that knows more"


def test_patterns_that_take_others_for_ever() -> None:
    """Python's `re` needs 2^249 steps for these; the test ends or it does not."""
    names = ["a" * 248 + "!"] * 1000
    for pattern in ("(a+)+", "(a|a)*", "(a*)*b?", "(.*)*x", "(a|aa)+"):
        assert match_topics(pattern, names) == frozenset()


def test_a_missing_engine_is_said_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "re2":
            raise ImportError(name)
        return real(name, *rest)

    regex._compiled.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    assert code_of(lambda: check_pattern("a")) == errors.INVALID_REGULAR_EXPRESSION
